//! Running the command in a launched bottle: by exec, its output streamed, its exit code passed on.

use std::collections::BTreeMap;
use std::io;

use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use super::launch::Bottle;
use crate::engine::{Engine, EngineError, ExecSpec, Input, Output, cannot_run};

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With this exit code.
    Exit(u8),
    /// By a signal to the launcher.
    Interrupted,
}

/// The streams that the command is joined to.
#[derive(Debug)]
pub(crate) struct Terminal<I, O, E> {
    /// Forwarded when present.
    pub stdin: Option<I>,
    /// Where its stdout goes.
    pub stdout: O,
    /// Where its stderr goes.
    pub stderr: E,
}

/// As a shell would say of a program whose reader is gone: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 128 + 13;

/// Runs the command to its end.
///
/// # Errors
/// [`RunError`] when the engine refuses, the connection to it breaks, or output cannot be written.
pub(crate) async fn run<E, I, O, P>(
    engine: &E,
    bottle: &Bottle,
    command: &[String],
    mut terminal: Terminal<I, O, P>,
    interrupt: &CancellationToken,
) -> Result<Ended, RunError>
where
    E: Engine,
    I: AsyncRead + Unpin + Send + 'static,
    O: AsyncWrite + Unpin,
    P: AsyncWrite + Unpin,
{
    let spec = ExecSpec {
        command: command.to_vec(),
        env: BTreeMap::from([("CLAUDE_BOTTLE_PROMPT_FILE".to_owned(), bottle.prompt.clone())]),
        user: None,
        working_dir: None,
        stdin: terminal.stdin.is_some(),
        output: true,
    };
    let exec = engine.exec(&bottle.agent, &spec).await?;
    let pump = exec.streams.map(|streams| {
        let input = terminal.stdin.take().map(|stdin| tokio::spawn(pump(stdin, streams.input)));
        (streams.output, input)
    });
    let Some((mut output, input)) = pump else {
        return Ok(Ended::Exit(code(engine.exec_exit_code(&exec.id).await?)));
    };
    let streamed = tokio::select! {
        streamed = stream(&mut output, &mut terminal.stdout, &mut terminal.stderr) => Some(streamed),
        () = interrupt.cancelled() => None,
    };
    if let Some(input) = input {
        input.abort();
    }
    match streamed {
        None => Ok(Ended::Interrupted),
        Some(Err(RunError::Output(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Ended::Exit(BROKEN_PIPE))
        }
        Some(Err(error)) => Err(error),
        Some(Ok(held)) => {
            let code = code(engine.exec_exit_code(&exec.id).await?);
            match held {
                Some(Output::Stdout(said) | Output::Stderr(said)) if matches!(code, 125..=127) => {
                    let said = sidecar::exit::escape(String::from_utf8_lossy(&said).trim());
                    let _ = terminal.stderr.write_all(format!("error: {said}\n").as_bytes()).await;
                }
                Some(own) => deliver(own, &mut terminal.stdout, &mut terminal.stderr).await?,
                None => {}
            }
            Ok(Ended::Exit(code))
        }
    }
}

/// The engine tells 128 + n for a signal itself.
fn code(code: i64) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// Why a command's end is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Its output could not be written.
    #[error("could not write the command's output")]
    Output(#[source] io::Error),
    /// The engine refused, or the connection to it broke.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Carries output until it ends. A first piece that may be the engine's own sentence is held back,
/// and returned if nothing follows it: whose it is, the exit code tells.
async fn stream(
    output: &mut crate::engine::OutputStream,
    stdout: &mut (impl AsyncWrite + Unpin),
    stderr: &mut (impl AsyncWrite + Unpin),
) -> Result<Option<Output>, RunError> {
    let (mut held, mut first) = (None, true);
    while let Some(piece) = output.next().await {
        let piece = piece.map_err(RunError::Engine)?;
        if std::mem::take(&mut first) && cannot_run(&piece) {
            held = Some(piece);
            continue;
        }
        if let Some(before) = held.take() {
            deliver(before, stdout, stderr).await?;
        }
        deliver(piece, stdout, stderr).await?;
    }
    Ok(held)
}

async fn deliver(
    piece: Output,
    stdout: &mut (impl AsyncWrite + Unpin),
    stderr: &mut (impl AsyncWrite + Unpin),
) -> Result<(), RunError> {
    let written = match piece {
        Output::Stdout(bytes) => write(stdout, &bytes).await,
        Output::Stderr(bytes) => write(stderr, &bytes).await,
    };
    written.map_err(RunError::Output)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Carries stdin to the command, and its end too.
async fn pump(mut stdin: impl AsyncRead + Unpin, mut input: Input) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(n) => {
                if input.write_all(&buffer[..n]).await.is_err() || input.flush().await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = input.shutdown().await;
    // The connection is the output's too: it must not be dropped before that has ended.
    std::future::pending::<()>().await;
}
