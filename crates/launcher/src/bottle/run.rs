//! Running the command in a launched bottle: by exec, its output streamed, its exit code passed on.

use std::collections::BTreeMap;
use std::io;

use futures_util::StreamExt as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

use crate::bottle::launch::Bottle;
use crate::cli::failure::Failure;
use crate::engine::{Engine, EngineError, ExecSpec, Input, Output};

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

/// What engines say, as stdout, about a command that cannot be run.
const CANNOT_RUN: &[&[u8]] = &[b"OCI runtime exec failed: ", b"exec failed: "];
/// As a shell would say of a program whose reader is gone: 128 + SIGPIPE.
const BROKEN_PIPE: u8 = 128 + 13;

/// Runs the command to its end.
///
/// # Errors
/// [`Failure`] when the engine refuses, or the connection to it breaks.
pub(crate) async fn run<E, I, O, P>(
    engine: &E,
    bottle: &Bottle,
    command: &[String],
    mut terminal: Terminal<I, O, P>,
    interrupt: &CancellationToken,
) -> Result<Ended, Failure>
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
        Some(Err(StreamError::Reader(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Ended::Exit(BROKEN_PIPE))
        }
        Some(Err(StreamError::Reader(error))) => Err(Failure::new(crate::cli::failure::Kind::Bug, error)),
        Some(Err(StreamError::Engine(error))) => Err(error.into()),
        Some(Ok(held)) => {
            let code = code(engine.exec_exit_code(&exec.id).await?);
            if matches!(code, 126 | 127) && !held.is_empty() {
                let said = sidecar::exit::escape(String::from_utf8_lossy(&held).trim());
                let _ = terminal.stderr.write_all(format!("error: {said}\n").as_bytes()).await;
            } else {
                let _ = terminal.stdout.write_all(&held).await;
            }
            let _ = tokio::join!(terminal.stdout.flush(), terminal.stderr.flush());
            Ok(Ended::Exit(code))
        }
    }
}

/// The engine tells 128 + n for a signal itself.
fn code(code: i64) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}

enum StreamError {
    Reader(io::Error),
    Engine(EngineError),
}

/// Carries output until it ends. What may be the engine's own sentence, the whole of a first
/// piece, is held back and returned: whose it is, the exit code tells.
async fn stream(
    output: &mut crate::engine::OutputStream,
    stdout: &mut (impl AsyncWrite + Unpin),
    stderr: &mut (impl AsyncWrite + Unpin),
) -> Result<Vec<u8>, StreamError> {
    let (mut held, mut first) = (Vec::new(), true);
    while let Some(piece) = output.next().await {
        let written = match piece.map_err(StreamError::Engine)? {
            Output::Stdout(bytes) if first && CANNOT_RUN.iter().any(|said| bytes.starts_with(said)) => {
                held.extend_from_slice(&bytes);
                Ok(())
            }
            Output::Stdout(bytes) => {
                let before = std::mem::take(&mut held);
                write(stdout, &[&before, &bytes]).await
            }
            Output::Stderr(bytes) => write(stderr, &[&bytes]).await,
        };
        first = false;
        written.map_err(StreamError::Reader)?;
    }
    Ok(held)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), pieces: &[&[u8]]) -> io::Result<()> {
    for piece in pieces {
        to.write_all(piece).await?;
    }
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
