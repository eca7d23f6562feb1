//! Launchers at work: all started at once, each timed until its command ran and until it has exited.

use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use e2e::lone::Lone;
use futures_util::future::join_all;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::figures::Life;
use crate::process::{self, Interrupt, ProcessError};

/// Why a launcher has no figures.
#[derive(Debug, thiserror::Error)]
pub enum LaunchersError {
    /// It could not be started, or we were interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Its output could not be read, or its end not be waited for.
    #[error("could not wait for a launcher")]
    Wait(#[source] io::Error),
    /// It failed.
    #[error("a launcher failed ({status}): {said}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it printed on stderr.
        said: String,
    },
    /// It took too long, and was ended.
    #[error("timeout: a launcher did not end within {} s", LIFE.as_secs())]
    Late,
}

/// From the start of a launcher to its end: ten at once on two busy cores take half a minute.
const LIFE: Duration = Duration::from_secs(120);
/// From SIGTERM to its end. A launcher that has not removed its bottle by then is killed.
const END: Duration = Duration::from_secs(60);

/// Launches that many bottles at once, whose command prints a line.
///
/// # Errors
///
/// That of the first launcher that failed, once all of them have ended.
pub(super) async fn lives(
    lone: &Lone,
    bottles: usize,
    host: Option<&str>,
    interrupt: &Interrupt,
) -> Result<Vec<Life>, LaunchersError> {
    let began = Instant::now();
    let mut running = Vec::new();
    let mut unstarted = None;
    for _ in 0..bottles {
        match process::start(&mut command(
            lone,
            &["start", "-y", "-q", &lone.agent, "--", "echo", "ran"],
            host,
        )) {
            Ok(child) => running.push(life(child, began, interrupt)),
            Err(error) => {
                unstarted = Some(error);
                break;
            }
        }
    }
    let lives = join_all(running).await;
    if let Some(error) = unstarted {
        return Err(error.into());
    }
    lives.into_iter().collect()
}

/// How long `start --dry-run` takes.
///
/// # Errors
///
/// It failed.
pub(super) async fn dry_run(lone: &Lone, interrupt: &Interrupt) -> Result<Duration, LaunchersError> {
    let mut command = command(lone, &["start", "--dry-run", &lone.agent], None);
    let began = Instant::now();
    let child = process::start(command.stdout(Stdio::null()))?;
    Ok(life(child, began, interrupt).await?.ended)
}

/// A command line of the launcher. The states of its bottles are kept with the manifest, and go with it.
pub(super) fn command(lone: &Lone, arguments: &[&str], host: Option<&str>) -> Command {
    let mut command = lone.launcher().args(arguments).into_command();
    command.env("XDG_STATE_HOME", lone.folder().join("states"));
    if let Some(host) = host {
        command.env("DOCKER_HOST", host);
    }
    command
}

async fn life(mut child: Child, began: Instant, interrupt: &Interrupt) -> Result<Life, LaunchersError> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let ran = async {
        let Some(stdout) = stdout else { return Ok(None) };
        let mut lines = BufReader::new(stdout).lines();
        let ran = lines.next_line().await?.map(|_| began.elapsed());
        while lines.next_line().await?.is_some() {}
        Ok(ran)
    };
    let said = async {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            stderr.read_to_end(&mut said).await?;
        }
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    };
    let ended = async {
        let status = interrupt.wait(&mut child).await?;
        Ok((status, began.elapsed()))
    };
    let whole = timeout(LIFE, async { tokio::try_join!(ran, said, ended) }).await;
    let Ok(whole) = whole else {
        process::ask_to_end(&child);
        if timeout(END, child.wait()).await.is_err() {
            // It had its time. What is left carries its label.
            let _ = child.kill().await;
        }
        return Err(LaunchersError::Late);
    };
    let (ran, said, (status, ended)) = whole.map_err(LaunchersError::Wait)?;
    if interrupt.came() {
        return Err(ProcessError::Interrupted.into());
    }
    if !status.success() {
        let said = if said.is_empty() { "it printed nothing on stderr".to_owned() } else { said };
        return Err(LaunchersError::Failed { status, said });
    }
    Ok(Life { ran: ran.unwrap_or(ended), ended })
}
