//! A forwarder that runs: started by us, probed until it forwards, stopped by us.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

use super::rounds::Probe;
use super::{Launch, Needs, Peer, Site, groups, ports};
use crate::interrupt::Interrupt;

/// A running forwarder; dropping it stops it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    ended: Option<ExitStatus>,
    folder: TempDir,
    /// Where it listens.
    pub listen: SocketAddr,
    /// How long it took from its start until it forwarded.
    pub ready_after: Duration,
}

/// Why a forwarder does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its files could not be written, or its program could not be started.
    #[error("could not start {name}: {source}")]
    Start {
        /// Which.
        name: &'static str,
        /// The system error.
        source: io::Error,
    },
    /// It ended.
    #[error("{name} ended before it forwarded ({how}): {said}")]
    Ended {
        /// Which.
        name: &'static str,
        /// How.
        how: String,
        /// The end of what it said.
        said: String,
    },
    /// It runs, but does not forward as it should.
    #[error("{name} did not forward within {} s: {problem}; it said: {said}", READY_WITHIN.as_secs())]
    NotReady {
        /// Which.
        name: &'static str,
        /// What the last probe found.
        problem: String,
        /// The end of what it said.
        said: String,
    },
    /// We were asked to end.
    #[error("interrupted")]
    Interrupted,
}

/// What every start of a peer has in common; [`Site`] is made from it.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// As in [`Site`].
    pub upstream: SocketAddr,
    /// As in [`Site`].
    pub ca: Option<&'a Path>,
    /// As in [`Site`].
    pub server_name: &'a str,
    /// As in [`Site`].
    pub credential: &'a str,
}

impl Running {
    /// Starts a peer, and probes until `probe` of its listener succeeds.
    ///
    /// # Errors
    ///
    /// It does not run, or does not forward.
    pub fn start(
        peer: &Peer,
        program: &Path,
        ground: &Ground<'_>,
        needs: Needs,
        probe: &Probe<'_>,
        interrupt: &Interrupt,
    ) -> Result<Self, StartError> {
        let mut last = None;
        for _ in 0..STARTS {
            match Self::start_once(peer, program, ground, needs, probe, interrupt) {
                // Perhaps somebody took its port; another one is tried.
                Err(error @ StartError::Ended { .. }) => last = Some(error),
                started => return started,
            }
        }
        Err(last.expect("it was started at least once"))
    }

    fn start_once(
        peer: &Peer,
        program: &Path,
        ground: &Ground<'_>,
        needs: Needs,
        probe: &Probe<'_>,
        interrupt: &Interrupt,
    ) -> Result<Self, StartError> {
        let name = peer.name;
        let failed = |source| StartError::Start { name, source };
        let [listen, spare] = ports::two_free().map_err(failed)?;
        let folder = tempfile::Builder::new().prefix("forward-load-").tempdir().map_err(failed)?;
        // nginx and others read as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
        let launch = (peer.launch)(&Site {
            folder: folder.path(),
            listen,
            spare,
            upstream: ground.upstream,
            connections: needs.connections,
            rows: needs.rows,
            cpus: crate::report::file::cpus(),
            ca: ground.ca,
            server_name: ground.server_name,
            credential: ground.credential,
        });
        let mut command = command(program, launch, folder.path()).map_err(failed)?;
        let began = Instant::now();
        let child = command.spawn().map_err(failed)?;
        groups::add(child.id());
        let mut running = Self { child, ended: None, folder, listen, ready_after: Duration::ZERO };
        loop {
            let problem = probe(listen).err();
            if let Some(status) = running.ended() {
                return Err(StartError::Ended { name, how: how(status), said: running.said() });
            }
            let Some(problem) = problem else {
                running.ready_after = began.elapsed();
                return Ok(running);
            };
            if interrupt.came() {
                return Err(StartError::Interrupted);
            }
            if began.elapsed() > READY_WITHIN {
                return Err(StartError::NotReady { name, problem, said: running.said() });
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did by itself.
    pub fn crashed(&mut self) -> Option<String> {
        let status = self.ended()?;
        Some(format!("ended by itself ({}): {}", how(status), self.said()))
    }

    /// Its exit status, if it has ended.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.ended = self.ended.or_else(|| self.child.try_wait().ok().flatten());
        self.ended
    }

    /// The end of what it said, on one line, with control characters escaped.
    pub fn said(&self) -> String {
        let said = fs::read(self.folder.path().join(OUTPUT)).unwrap_or_default();
        let said = String::from_utf8_lossy(&said[said.len().saturating_sub(400)..]).into_owned();
        said.trim().escape_debug().to_string()
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return };
        if self.ended().is_none() {
            // The parent only: a master tells its workers itself.
            let _ = kill_process(pid, Signal::TERM);
            let asked = Instant::now();
            while self.ended().is_none() && asked.elapsed() < STOP_WITHIN {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        // What is left of its group, itself included; of one that left nothing this finds nobody.
        let _ = kill_process_group(pid, Signal::KILL);
        groups::remove(self.child.id());
        if self.ended.is_none() {
            let _ = self.child.wait();
        }
    }
}

/// What starts it, with its files written.
fn command(program: &Path, launch: Launch, folder: &Path) -> io::Result<Command> {
    for (name, text) in &launch.files {
        let path = folder.join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    let output = fs::File::create(folder.join(OUTPUT))?;
    let mut command = Command::new(program);
    command
        .args(&launch.arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .envs(launch.variables)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    Ok(command)
}

/// What it said.
const OUTPUT: &str = "output";

/// How often it is started, each time on other ports.
const STARTS: usize = 3;

/// How long between two probes: little beside the milliseconds that a start takes.
const PAUSE: Duration = Duration::from_micros(100);

/// How long it may take until it forwards: Caddy takes a second on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long it may take to end; with connections open, some wait for them.
const STOP_WITHIN: Duration = Duration::from_secs(2);
