//! A forwarder that can be compared: where its program is, and how it is configured.

use std::ffi::OsString;
use std::io::{self, Read, Seek};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::groups;
use crate::interrupt::Interrupt;

/// A forwarder that can be compared.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// Its name in tables, and in `--peer`; one program may be several peers.
    pub name: &'static str,
    /// Its program's name, looked for on `PATH` and where root has it.
    pub program: &'static str,
    /// How to get it, e.g. `apt-get install haproxy`.
    pub install: &'static str,
    /// What makes it say its version, e.g. `["-v"]`.
    pub release: &'static [&'static str],
    /// What is set for a fair comparison, and why.
    pub settings: &'static [Setting],
    /// The most that it is measured with; less than everything where it has a process for each.
    pub most: Needs,
    /// How it is started.
    pub launch: fn(&Site<'_>) -> Launch,
}

/// How much of everything there is at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Connections.
    pub connections: usize,
    /// Listeners, each forwarded by a row of its own.
    pub rows: usize,
}

/// A setting and its reason.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// As it is written in the configuration.
    pub setting: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// The configuration of a forwarder.
#[derive(Debug)]
pub struct Site<'a> {
    /// A folder of its own, removed afterwards, mode 0755.
    pub folder: &'a Path,
    /// Where it is to listen; with several rows, the last of them: see [`Site::listeners`].
    pub listen: SocketAddr,
    /// A second free port, for who cannot do without (an admin endpoint).
    pub spare: SocketAddr,
    /// Where it is to connect.
    pub upstream: SocketAddr,
    /// The most connections that it will be given at once.
    pub connections: usize,
    /// How many listeners it has, each with the same upstream.
    pub rows: usize,
    /// CPUs that it may use.
    pub cpus: usize,
    /// HTTP: a file with the certificate (PEM) that upstream is to be verified with.
    pub ca: Option<&'a Path>,
    /// HTTP: the name that upstream is to be verified for.
    pub server_name: &'a str,
    /// HTTP: the value of `authorization` that the proxy is to put on each request.
    pub credential: &'a str,
}

/// How it is started: the program of the peer, in the site's folder, in a process group of its own,
/// with stdout and stderr to a file.
#[derive(Debug, Default)]
pub struct Launch {
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables, besides `PATH` and `HOME` (the folder); nothing else is inherited.
    pub variables: Vec<(&'static str, OsString)>,
    /// Files that are written into the folder first: name and text, mode 0644.
    pub files: Vec<(&'static str, String)>,
}

/// A peer that was asked for its version and did not end.
#[derive(Debug, thiserror::Error)]
#[error("{name} did not say its version: `{command}` did not end within {} s", SAYS_WITHIN.as_secs())]
pub struct SaysError {
    name: &'static str,
    command: String,
}

impl Needs {
    /// No bound.
    pub const ANY: Self = Self { connections: usize::MAX, rows: usize::MAX };

    /// Whether so much is within these bounds.
    pub fn cover(&self, needs: Self) -> bool {
        needs.connections <= self.connections && needs.rows <= self.rows
    }
}

impl Site<'_> {
    /// Where each row listens. The one that is connected to comes last, so that the others are
    /// bound when it forwards. They have its port, on loopback addresses that are otherwise unused.
    pub fn listeners(&self) -> impl Iterator<Item = SocketAddr> {
        let port = self.listen.port();
        let other = move |row: usize| {
            let [.., high, low] = row.to_be_bytes();
            SocketAddr::from(([127, 1, high, low], port))
        };
        (1..self.rows).map(other).chain([self.listen])
    }
}

impl Peer {
    /// The program: where `given` says, else in the folders of `near`, on `PATH`, or where root has
    /// it.
    pub fn find(&self, given: Option<&Path>, near: &[PathBuf]) -> Option<PathBuf> {
        if let Some(given) = given {
            return given.is_file().then(|| given.to_path_buf());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
        let mut folders = near.iter().cloned().chain(std::env::split_paths(&path)).chain(usual);
        folders.find_map(|folder| Some(folder.join(self.program)).filter(|program| program.is_file()))
    }

    /// What it says of its version: the first line, from stdout or stderr.
    ///
    /// # Errors
    ///
    /// It goes on when it has said it.
    pub fn says(&self, program: &Path, interrupt: &Interrupt) -> Result<Option<String>, SaysError> {
        let Ok(text) = self.output(program, interrupt)? else { return Ok(None) };
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        // socat names its authors first.
        let Some(first) = lines.next() else { return Ok(None) };
        let version = lines.find(|line| line.contains("version")).filter(|_| !first.contains("ersion"));
        Ok(Some(version.unwrap_or(first).into()))
    }

    fn output(&self, program: &Path, interrupt: &Interrupt) -> Result<io::Result<String>, SaysError> {
        // A file: of a pipe the end may be held open by whoever it has started.
        let start = || {
            let output = tempfile::tempfile()?;
            let mut command = Command::new(program);
            command.args(self.release).stdin(Stdio::null());
            command.stdout(output.try_clone()?).stderr(output.try_clone()?).process_group(0);
            Ok((command.spawn()?, output))
        };
        let (mut child, mut output) = match start() {
            Ok(started) => started,
            Err(error) => return Ok(Err(error)),
        };
        groups::add(child.id());
        let until = Instant::now() + SAYS_WITHIN;
        let mut ended = false;
        while !ended && Instant::now() < until && interrupt.sleep(Duration::from_millis(2)) {
            ended = child.try_wait().is_ok_and(|status| status.is_some());
        }
        groups::kill(child.id());
        groups::remove(child.id());
        let _ = child.wait();
        if !ended && !interrupt.came() {
            let program = std::iter::once(program.display().to_string());
            let command: Vec<String> = program.chain(self.release.iter().map(ToString::to_string)).collect();
            return Err(SaysError { name: self.name, command: command.join(" ") });
        }
        let mut said = Vec::new();
        let read = output.rewind().and_then(|()| output.take(SAYS_AT_MOST).read_to_end(&mut said));
        Ok(read.map(|_| String::from_utf8_lossy(&said).into_owned()))
    }
}

/// How long a peer may take to say its version: Caddy takes a second on a busy machine.
const SAYS_WITHIN: Duration = Duration::from_secs(5);

/// More than any says, its features included.
const SAYS_AT_MOST: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_listens_elsewhere_on_loopback_and_the_last_one_is_connected_to() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 4000));
        let site = Site {
            folder: Path::new("/"),
            listen,
            spare: listen,
            upstream: listen,
            connections: 1,
            rows: 1000,
            cpus: 1,
            ca: None,
            server_name: "",
            credential: "",
        };
        let rows: Vec<SocketAddr> = site.listeners().collect();
        let different: std::collections::HashSet<&SocketAddr> = rows.iter().collect();
        assert_eq!((rows.len(), different.len(), rows[999]), (1000, 1000, listen));
        assert!(rows.iter().all(|row| row.ip().is_loopback() && row.port() == 4000));
        assert_eq!(Site { rows: 1, ..site }.listeners().collect::<Vec<_>>(), [listen]);
    }
}
