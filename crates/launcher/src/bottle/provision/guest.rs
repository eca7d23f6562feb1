//! Running programs in the agent's container while it is prepared.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;

use super::{ProvisionError, SOCKET};
use crate::engine::{ContainerId, Engine, EngineError, ExecSpec, Output, Streams};
use crate::plan::GUEST;

/// Each program takes milliseconds; a machine under load takes longer.
const DEADLINE: Duration = Duration::from_secs(20);
/// What is kept of a program's output.
const KEPT: usize = 16 * 1024;

/// A user in the agent's container.
pub(super) struct Guest<'a, E> {
    pub engine: &'a E,
    pub container: &'a ContainerId,
    /// `uid:gid`; `None` is the agent's own.
    pub user: Option<&'static str>,
}

/// What a program printed, stderr first, and how it ended.
pub(super) struct Done {
    said: String,
    code: i64,
}

impl Done {
    /// Success, or the program's own words.
    pub(super) fn success(self, program: &'static str) -> Result<(), ProvisionError> {
        match self.code {
            0 => Ok(()),
            126 | 127 => Err(ProvisionError::NoProgram(program)),
            code => Err(ProvisionError::Program { program, said: format!("{} (exit {code})", self.said) }),
        }
    }

    /// Whether it failed with these words.
    pub(super) fn failed_with(&self, words: &str) -> bool {
        self.code != 0 && self.said.contains(words)
    }
}

impl<E: Engine> Guest<'_, E> {
    /// Runs a program to its end.
    pub(super) async fn run(
        &self,
        program: &'static str,
        command: &[&str],
        stdin: Option<&[u8]>,
    ) -> Result<Done, ProvisionError> {
        let spec = self.spec(command, stdin.is_some());
        let whole = async {
            let exec = self.engine.exec(self.container, &spec).await?;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            if let Some(Streams { mut output, mut input }) = exec.streams {
                if let Some(bytes) = stdin {
                    // A program that ends without reading says why on its stderr.
                    let _ = input.write_all(bytes).await;
                    let _ = input.shutdown().await;
                }
                while let Some(piece) = output.next().await {
                    let (kept, bytes) = match piece? {
                        Output::Stdout(bytes) => (&mut stdout, bytes),
                        Output::Stderr(bytes) => (&mut stderr, bytes),
                    };
                    kept.extend_from_slice(&bytes[..bytes.len().min(KEPT.saturating_sub(kept.len()))]);
                }
            }
            let code = self.engine.exec_exit_code(&exec.id).await?;
            let said = String::from_utf8_lossy(&[stderr, stdout].concat()).trim().to_owned();
            Ok::<_, EngineError>(Done { said, code })
        };
        Ok(tokio::time::timeout(DEADLINE, whole).await.map_err(|_| ProvisionError::Late(program))??)
    }

    /// Starts a program that runs on by itself, and waits until it prints a line.
    pub(super) async fn start(&self, program: &'static str, command: &[&str]) -> Result<(), ProvisionError> {
        let exec = self.engine.exec(self.container, &self.spec(command, false)).await?;
        let mut said = Vec::new();
        let listening = async {
            let mut output = exec.streams.map(|streams| streams.output)?;
            while let Some(Ok(piece)) = output.next().await {
                match piece {
                    Output::Stdout(bytes) if bytes.contains(&b'\n') && bytes.starts_with(b"{") => {
                        return Some(());
                    }
                    Output::Stdout(bytes) | Output::Stderr(bytes) => {
                        said.extend_from_slice(&bytes[..bytes.len().min(KEPT)]);
                    }
                }
            }
            None
        };
        match tokio::time::timeout(DEADLINE, listening).await {
            Ok(Some(())) => Ok(()),
            Ok(None) => {
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                let code = self.engine.exec_exit_code(&exec.id).await?;
                Done { said, code: if code == 0 { 1 } else { code } }.success(program)
            }
            Err(_) => Err(ProvisionError::Late(program)),
        }
    }

    fn spec(&self, command: &[&str], stdin: bool) -> ExecSpec {
        ExecSpec {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            env: BTreeMap::from([("SSH_AUTH_SOCK".to_owned(), SOCKET.to_owned())]),
            user: self.user.map(str::to_owned),
            working_dir: Some("/".to_owned()),
            stdin,
            output: true,
        }
    }
}

/// Reads back from inside that no default route is left: under gVisor the container has a network stack of
/// its own, which the seal may not reach. Returns what the user should know.
///
/// # Errors
/// [`ProvisionError::Engine`], or [`ProvisionError::Program`] when there still is one.
pub(crate) async fn is_sealed<E: Engine>(
    engine: &E,
    container: &ContainerId,
) -> Result<Option<String>, ProvisionError> {
    let guest = Guest { engine, container, user: None };
    let done = guest.run("bottle-guest seal --check", &[GUEST, "seal", "--check"], None).await?;
    if done.failed_with("default route") {
        return Ok(Some(
            "the agent's network stack keeps its default route: a direct connection hangs instead of failing at once"
                .to_owned(),
        ));
    }
    done.success("bottle-guest seal --check").map(|()| None)
}
