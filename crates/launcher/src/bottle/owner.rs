//! Who launched a bottle, and whether that launcher still lives.

use std::fmt;
use std::fs;
use std::str::FromStr;

/// A launcher: a process on a machine, told from a later one with the same number by its start time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LauncherId {
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// Its start, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start: u64,
}

/// A label that does not name a launcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:PID:START, found {0:?}")]
pub(crate) struct LauncherIdError(String);

impl LauncherId {
    /// This process.
    pub(crate) fn own() -> Self {
        let pid = std::process::id();
        Self { host: host(), pid, start: start_of(pid).unwrap_or_default() }
    }

    /// Whether it still runs. One on another machine counts as alive: nobody here can tell.
    pub(crate) fn alive(&self) -> bool {
        self.host != host() || start_of(self.pid) == Some(self.start)
    }
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().replace(':', "-")
}

fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold spaces and parentheses.
    let rest = stat.rsplit_once(") ")?.1;
    let mut fields = rest.split(' ');
    // A zombie has ended, whoever still owes it a wait.
    let state = fields.next().filter(|state| !matches!(*state, "Z" | "X"));
    state.and_then(|_| fields.nth(18)?.parse().ok())
}

impl fmt::Display for LauncherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.host, self.pid, self.start)
    }
}

impl FromStr for LauncherId {
    type Err = LauncherIdError;

    fn from_str(text: &str) -> Result<Self, LauncherIdError> {
        let parse = || {
            let (rest, start) = text.rsplit_once(':')?;
            let (host, pid) = rest.rsplit_once(':')?;
            Some(Self { host: host.to_owned(), pid: pid.parse().ok()?, start: start.parse().ok()? })
        };
        parse().ok_or_else(|| LauncherIdError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_launcher_lives_until_it_ends_and_its_number_alone_does_not_save_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let id = LauncherId { host: host(), pid: child.id(), start: start_of(child.id()).unwrap() };
        assert!(id.alive());
        assert!(!LauncherId { start: id.start + 1, ..id.clone() }.alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!id.alive());
        assert!(LauncherId { host: "elsewhere".into(), ..id }.alive());
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let own = LauncherId::own();
        assert_eq!(own.to_string().parse(), Ok(own.clone()));
        assert!(own.alive());
    }
}
