//! The container engine of a demo or a test run: found, or started and ended again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{Engine, EngineError, EngineInfo};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::build::Tree;
use crate::prerequisites::{self, Consent, ENGINE, PrerequisiteError, is_installed, is_root};
use crate::process::{self, Interrupt, ProcessError};

/// How long an engine may take from its start to its first answer.
const START: Duration = Duration::from_secs(60);

/// How long it may take to end.
const END: Duration = Duration::from_secs(20);

/// A running engine.
#[derive(Debug)]
pub struct Running {
    /// To ask it.
    pub docker: Docker,
    /// What it said of itself.
    pub info: EngineInfo,
    started: Option<Started>,
}

/// How we started it.
#[derive(Debug)]
enum Started {
    Child(Child),
    Service,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum NoEngine {
    /// It is installed and not running, and we may not start it.
    #[error(
        "the container engine is installed but not running\nhint: start it, e.g. `sudo systemctl start docker`, or set DOCKER_HOST"
    )]
    NotRunning,
    /// It is not installed, and could not be.
    #[error(transparent)]
    Missing(#[from] PrerequisiteError),
    /// It is there, but not for this user.
    #[error(
        "no permission to use the container engine at {address}\nhint: run as root, or as a member of the group `docker`"
    )]
    Permission {
        /// Its socket.
        address: String,
    },
    /// It is there but does not serve us.
    #[error("the container engine cannot be used")]
    Refused(#[from] EngineError),
    /// It could not be started.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It ended at once, or did not answer in time.
    #[error("dockerd was started and does not answer; {} ends with: {said}", log.display())]
    Silent {
        /// What it wrote.
        log: PathBuf,
        /// The last lines of that.
        said: String,
    },
    /// The log of an engine could not be written.
    #[error("could not write {}", path.display())]
    Log {
        /// Which.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
}

/// Finds a running engine, else starts the installed one, else installs it first.
///
/// # Errors
///
/// There is none, and the error says what would help.
pub async fn running(tree: &Tree, consent: Consent, interrupt: &Interrupt) -> Result<Running, NoEngine> {
    match answer().await {
        Ok((docker, info)) => return Ok(Running { docker, info, started: None }),
        Err(EngineError::Unreachable { .. }) if std::env::var_os("DOCKER_HOST").is_none() => {}
        Err(EngineError::Permission { address }) => return Err(NoEngine::Permission { address }),
        Err(error) => return Err(error.into()),
    }
    if !is_installed(ENGINE.program) {
        prerequisites::tools(&[ENGINE], consent, interrupt).await?;
        // Its package may have started it.
        if let Ok((docker, info)) = answer().await {
            return Ok(Running { docker, info, started: None });
        }
    }
    if !is_root() {
        return Err(NoEngine::NotRunning);
    }
    start(tree, interrupt).await
}

impl Running {
    /// Ends the engine if we started it.
    pub async fn end(self) {
        match self.started {
            None => {}
            Some(Started::Child(child)) => end(child).await,
            Some(Started::Service) => {
                let mut stop = Command::new("systemctl");
                // What systemd would not stop, it says itself.
                let _ = stop.args(["stop", "docker.service", "docker.socket"]).status().await;
            }
        }
    }

    /// Whether the engine runs because we started it.
    pub fn was_started(&self) -> bool {
        self.started.is_some()
    }
}

async fn answer() -> Result<(Docker, EngineInfo), EngineError> {
    let docker = Docker::connect(None, false)?;
    let info = docker.info().await?;
    Ok((docker, info))
}

async fn start(tree: &Tree, interrupt: &Interrupt) -> Result<Running, NoEngine> {
    let log = tree.target.join("dockerd.log");
    let mut started = if Path::new("/run/systemd/system").is_dir() {
        interrupt.run(Command::new("systemctl").args(["start", "docker.service"])).await?;
        Started::Service
    } else {
        let output = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = output.map_err(|source| NoEngine::Log { path: log.clone(), source })?;
        // It is found where root has it, whatever PATH we were given.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut dockerd = Command::new(ENGINE.program);
        dockerd.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        Started::Child(process::start(dockerd.stdout(Stdio::from(stdout)).stderr(Stdio::from(stderr)))?)
    };
    let deadline = Instant::now() + START;
    loop {
        if let Ok((docker, info)) = answer().await {
            return Ok(Running { docker, info, started: Some(started) });
        }
        let ended = match &mut started {
            Started::Child(child) => !matches!(child.try_wait(), Ok(None)),
            Started::Service => false,
        };
        if ended || interrupt.came() || Instant::now() > deadline {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    if let Started::Child(child) = started {
        end(child).await;
    }
    if interrupt.came() {
        return Err(ProcessError::Interrupted.into());
    }
    let said = std::fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().rev().take(5).collect();
    let said = lines.into_iter().rev().collect::<Vec<_>>().join("\n");
    Err(NoEngine::Silent { log, said })
}

async fn end(mut child: Child) {
    process::ask_to_end(&child);
    if timeout(END, child.wait()).await.is_err() {
        // It had its time.
        let _ = child.kill().await;
    }
}
