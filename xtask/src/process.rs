//! Programs that we run: each in a process group of its own, asked once to end when we are.
//!
//! A signal from the terminal would otherwise reach the launcher and us at the same time, and a
//! second one from us would end its teardown early.

use std::io;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whether we were asked to end.
#[derive(Debug, Clone)]
pub struct Interrupt(CancellationToken);

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("could not run `{program}`")]
    Start {
        /// Which.
        program: String,
        /// The system error.
        source: io::Error,
    },
    /// It failed, and has printed the reason.
    #[error("`{command}` failed ({status})")]
    Failed {
        /// What was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// We were asked to end.
    #[error("interrupted")]
    Interrupted,
}

impl Interrupt {
    /// Takes SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// # Errors
    ///
    /// The system lets us take no signals.
    pub fn listen() -> io::Result<Self> {
        let token = CancellationToken::new();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let (mut signals, token) = (signal(kind)?, token.clone());
            tokio::spawn(async move {
                signals.recv().await;
                token.cancel();
            });
        }
        Ok(Self(token))
    }

    /// Whether we were asked to end.
    pub fn came(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Gives up on `work` when we are asked to end. For work that can be left at any point.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Interrupted`].
    pub async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, ProcessError> {
        tokio::select! {
            done = work => Ok(done),
            () = self.0.cancelled() => Err(ProcessError::Interrupted),
        }
    }

    /// Waits for a child of [`start`], asking its group once to end when we are asked.
    ///
    /// # Errors
    ///
    /// The system could not tell how it ended.
    pub async fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        tokio::select! {
            ended = child.wait() => return ended,
            () = self.0.cancelled() => ask_to_end(child),
        }
        child.wait().await
    }

    /// Runs a program to its end, with our stdout and stderr.
    ///
    /// # Errors
    ///
    /// It could not be started, or failed, or we were asked to end.
    pub async fn run(&self, command: &mut Command) -> Result<(), ProcessError> {
        let status = self.status(command).await?;
        if status.success() { Ok(()) } else { Err(ProcessError::Failed { command: shown(command), status }) }
    }

    /// Like [`Interrupt::run`], but a failure is an answer, too.
    ///
    /// # Errors
    ///
    /// It could not be started, or we were asked to end.
    pub async fn status(&self, command: &mut Command) -> Result<ExitStatus, ProcessError> {
        if self.came() {
            return Err(ProcessError::Interrupted);
        }
        let mut child = start(command)?;
        let status = self.wait(&mut child).await;
        if self.came() {
            return Err(ProcessError::Interrupted);
        }
        status.map_err(|source| ProcessError::Start { program: program(command), source })
    }
}

/// Starts a program in a process group of its own, without our stdin.
///
/// # Errors
///
/// It could not be started.
pub fn start(command: &mut Command) -> Result<Child, ProcessError> {
    start_with(command, Stdio::null())
}

/// Starts a program in a process group of its own.
///
/// # Errors
///
/// It could not be started.
pub fn start_with(command: &mut Command, stdin: Stdio) -> Result<Child, ProcessError> {
    command
        .stdin(stdin)
        .process_group(0)
        .spawn()
        .map_err(|source| ProcessError::Start { program: program(command), source })
}

/// Sends SIGTERM to a child of [`start`] and to what it started.
pub fn ask_to_end(child: &Child) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(group) = group {
        // One that has just ended needs no asking.
        let _ = kill_process_group(group, Signal::TERM);
    }
}

fn program(command: &Command) -> String {
    command.as_std().get_program().to_string_lossy().into_owned()
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(std::ffi::OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
