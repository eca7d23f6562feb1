//! Starting an engine, entering its network, and stopping it with all that it left.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

use super::kind::Family;
use super::packages::{self, PackagesError};
use super::processes::{Namespace, signal};
use super::{Place, ask, config};
use crate::build;
use crate::process::{Interrupt, ProcessError};

/// Why an engine could not be started, entered or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its files are missing.
    #[error(transparent)]
    Packages(#[from] PackagesError),
    /// It runs.
    #[error("{engine} is already running\nhint: use `cargo xtask engine stop {engine}` first")]
    Running {
        /// Which.
        engine: &'static str,
    },
    /// It does not run.
    #[error("{engine} is not running\nhint: use `cargo xtask engine start {engine}` first")]
    NotRunning {
        /// Which.
        engine: &'static str,
    },
    /// Its socket cannot be bound.
    #[error(
        "the socket's path `{}` is longer than 107 bytes\nhint: set CARGO_TARGET_DIR to a shorter path",
        path.display()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// It ended, or did not answer in time.
    #[error("{engine} did not become ready; its log ends with:\n{log}")]
    NotReady {
        /// Which.
        engine: &'static str,
        /// The last lines.
        log: String,
    },
    /// Some of its processes do not end.
    #[error("{count} processes of {engine} did not end after SIGKILL")]
    Left {
        /// Which.
        engine: &'static str,
        /// How many.
        count: usize,
    },
    /// Its state could not be written or removed.
    #[error("could not use `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
    /// A program could not be run.
    #[error("could not run `{program}`")]
    Program {
        /// Its name.
        program: String,
        /// What the system reported.
        source: io::Error,
    },
    /// Interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

impl RunError {
    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { path, source }
    }
}

/// Starts an engine, and returns the version it reports. When that fails nothing of it is left but
/// its unpacked packages.
///
/// # Errors
///
/// It runs already, its packages cannot be fetched, or it does not become ready.
pub(super) async fn start(place: &Place, interrupt: &Interrupt) -> Result<String, RunError> {
    let engine = place.kind.descriptor().name;
    if holder(place).is_some() {
        return Err(RunError::Running { engine });
    }
    let socket = place.socket();
    // sockaddr_un, with its NUL.
    if socket.as_os_str().len() > 107 {
        return Err(RunError::PathTooLong { path: socket });
    }
    tokio::task::block_in_place(|| packages::unpack(place))?;
    // What an engine that was killed left.
    stop(place).await?;
    let begun = begin(place, interrupt).await;
    if begun.is_err() {
        // The first failure is the one to report.
        let _ = stop(place).await;
    }
    begun
}

async fn begin(place: &Place, interrupt: &Interrupt) -> Result<String, RunError> {
    let engine = place.kind.descriptor().name;
    let temporary = place.state.join("tmp");
    fs::create_dir_all(&temporary).map_err(RunError::file(&temporary))?;
    let command = config::write(place).map_err(RunError::file(&place.state))?;
    let log = place.state.join("log");
    let mut child = spawn(place, &command, &log)?;
    let deadline = Instant::now() + START;
    loop {
        if let Some(version) = ask::version(&place.socket()).await {
            return Ok(version);
        }
        let ended = !matches!(child.try_wait(), Ok(None));
        if ended || interrupt.came() || Instant::now() > deadline {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    // In case it has not even entered its namespaces.
    let _ = child.kill().await;
    if interrupt.came() {
        return Err(ProcessError::Interrupted.into());
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let log = lines[lines.len().saturating_sub(15)..].join("\n");
    Err(RunError::NotReady { engine, log })
}

/// The engine, in a session and in namespaces of its own; it goes on when we end.
fn spawn(place: &Place, command: &[String], log: &Path) -> Result<Child, RunError> {
    let output = File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
    let (stdout, stderr) = output.map_err(RunError::file(log))?;
    // Each program replaces the one before, so that the process stays the same.
    let mut setsid = Command::new("setsid");
    setsid.args(["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c"]);
    setsid.args([include_str!("enter.sh"), "enter"]);
    setsid.arg(&place.root).arg(&place.state).arg(std::env::temp_dir()).args(command);
    setsid.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let program = "setsid".to_owned();
    let child = setsid.spawn().map_err(|source| RunError::Program { program, source })?;
    let (pid, file) = (child.id().unwrap_or_default(), place.state.join("pid"));
    fs::write(&file, pid.to_string()).map_err(RunError::file(&file))?;
    Ok(child)
}

/// Becomes a command in the engine's network namespace, with its address in `DOCKER_HOST`.
///
/// # Errors
///
/// The engine does not run, or the command cannot be run; else this does not return.
pub(super) fn enter(place: &Place, command: &[String]) -> Result<std::convert::Infallible, RunError> {
    let engine = place.kind.descriptor().name;
    let (holder, _) = holder(place).ok_or(RunError::NotRunning { engine })?;
    let mut nsenter = std::process::Command::new("nsenter");
    nsenter.arg(format!("--net=/proc/{holder}/ns/net")).arg("--").args(command);
    nsenter.env("DOCKER_HOST", place.address());
    build::forget_our_package(&mut nsenter);
    let source = nsenter.exec();
    Err(RunError::Program { program: "nsenter".to_owned(), source })
}

/// Stops an engine and removes its containers, processes, cgroups and state; its unpacked packages
/// stay. Does nothing where there is nothing of it.
///
/// # Errors
///
/// A process does not end, or a file cannot be removed.
pub(super) async fn stop(place: &Place) -> Result<(), RunError> {
    let engine = place.kind.descriptor().name;
    if let Some((_, namespace)) = holder(place) {
        if matches!(place.kind.descriptor().family, Family::Podman) {
            // Whose service, unlike dockerd, leaves its containers when it ends.
            ask::remove_containers(&place.socket()).await;
        }
        let pid = number(&place.state.join("pid")).filter(|pid| namespace.has(*pid));
        if let Some(pid) = pid {
            signal(pid, Signal::TERM);
            let deadline = Instant::now() + STOP;
            while namespace.has(pid) && Instant::now() < deadline {
                sleep(Duration::from_millis(50)).await;
            }
        }
        let deadline = Instant::now() + KILLED;
        loop {
            let count = namespace.kill_all();
            if count == 0 {
                break;
            }
            if Instant::now() > deadline {
                return Err(RunError::Left { engine, count });
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    remove_cgroups(&place.cgroup());
    if matches!(place.kind.descriptor().family, Family::Podman) {
        // podman's own, which another podman may be using: only those that are empty go.
        remove_cgroups("libpod_parent");
    }
    match fs::remove_dir_all(&place.state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RunError::file(&place.state)(error)),
        _ => Ok(()),
    }
}

/// The process that holds a running engine's namespaces, and its mount namespace.
pub(super) fn holder(place: &Place) -> Option<(i32, Namespace)> {
    let of = |file: &str| number(&place.state.join(file)).and_then(|pid| Some((pid, Namespace::of(pid)?)));
    // A number alone may by now be another process's: that one does not see our state.
    let sees =
        |(pid, _): &(i32, _)| Path::new(&format!("/proc/{pid}/root{}", place.state.display())).is_dir();
    of("holder").or_else(|| of("pid")).filter(sees)
}

fn number(file: &Path) -> Option<i32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Removes the cgroups of that name and below it, of every hierarchy, unless something lives in them.
fn remove_cgroups(name: &str) {
    let top = Path::new("/sys/fs/cgroup");
    // cgroup v1 has a folder for each controller, v2 has none between.
    let controllers = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    for parent in controllers.chain([top.to_path_buf()]) {
        remove_tree(&parent.join(name));
    }
}

/// rmdir from the leaves up: files of a cgroup are the kernel's.
fn remove_tree(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // One that is in use is not ours to remove.
    let _ = fs::remove_dir(folder);
}

/// How long an engine may take from its start to its first answer.
const START: Duration = Duration::from_secs(60);

/// How long it may take to end its containers and itself.
const STOP: Duration = Duration::from_secs(20);

/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(10);
