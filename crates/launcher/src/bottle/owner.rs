//! Which process launched a bottle, and whether it still lives.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::str::FromStr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::proc::{Process, process};

/// A launcher: a process, told from others by where and when it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LauncherId {
    place: Place,
    pid: u32,
    /// Its start, in clock ticks since boot (proc_pid_stat(5), field 22).
    start: u64,
}

/// Where a process's number means something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: String,
    boot: String,
    /// The inode of the PID namespace.
    pid_namespace: u64,
    /// Processes of other users can be hidden (proc(5), hidepid).
    uid: u32,
}

/// A label that does not name a launcher.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected HOST:BOOT:PID_NAMESPACE:UID:PID:START, found {0:?}")]
pub(crate) struct LauncherIdError(String);

impl Place {
    fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().replace(':', "-");
        Self {
            host: read("/proc/sys/kernel/hostname"),
            boot: read("/proc/sys/kernel/random/boot_id"),
            pid_namespace: fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino()),
            uid: rustix::process::getuid().as_raw(),
        }
    }
}

impl LauncherId {
    /// This process.
    pub(crate) fn own() -> Self {
        let pid = std::process::id();
        Self { place: Place::here(), pid, start: process(pid).start().unwrap_or_default() }
    }

    /// Whether it still runs. One on another host, boot, PID namespace or of another user counts as
    /// alive: that cannot be known here.
    pub(crate) fn alive(&self) -> bool {
        self.place != Place::here()
            || match process(self.pid) {
                Process::Started(start) => start == self.start,
                Process::Hidden => true,
                Process::Ended => false,
            }
    }

    /// Asks it to end by SIGTERM and waits for that. `false` when it cannot be asked from here, or
    /// does not end in time.
    pub(crate) async fn end(&self, deadline: Duration) -> bool {
        let id = self.clone();
        tokio::task::spawn_blocking(move || id.end_blocking(deadline)).await.is_ok_and(|ended| ended)
    }

    fn end_blocking(&self, deadline: Duration) -> bool {
        let here = self.place == Place::here() && self.pid != std::process::id();
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).filter(|_| here);
        let Some(pid) = pid else { return false };
        let end = || -> io::Result<bool> {
            let descriptor = pidfd_open(pid, PidfdFlags::empty())?;
            // The descriptor names one process: if that is not ours, the number was given out again.
            match process(self.pid) {
                Process::Started(start) if start == self.start => {}
                Process::Hidden => return Ok(false),
                Process::Started(_) | Process::Ended => return Ok(true),
            }
            pidfd_send_signal(&descriptor, Signal::TERM)?;
            let timeout = Timespec { tv_sec: i64::try_from(deadline.as_secs()).unwrap_or(1), tv_nsec: 0 };
            Ok(poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&timeout))? > 0)
        };
        end().unwrap_or(false)
    }
}

impl fmt::Display for LauncherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { host, boot, pid_namespace, uid } = &self.place;
        write!(f, "{host}:{boot}:{pid_namespace}:{uid}:{}:{}", self.pid, self.start)
    }
}

impl FromStr for LauncherId {
    type Err = LauncherIdError;

    fn from_str(text: &str) -> Result<Self, LauncherIdError> {
        let parse = || {
            let [host, boot, pid_namespace, uid, pid, start] =
                text.split(':').collect::<Vec<_>>().try_into().ok()?;
            Some(Self {
                place: Place {
                    host: str::to_owned(host),
                    boot: str::to_owned(boot),
                    pid_namespace: pid_namespace.parse().ok()?,
                    uid: uid.parse().ok()?,
                },
                pid: pid.parse().ok()?,
                start: start.parse().ok()?,
            })
        };
        parse().ok_or_else(|| LauncherIdError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(child: &std::process::Child) -> LauncherId {
        LauncherId { place: Place::here(), pid: child.id(), start: process(child.id()).start().unwrap() }
    }

    fn sleeper() -> std::process::Child {
        std::process::Command::new("sleep").arg("60").spawn().unwrap()
    }

    #[test]
    fn a_launcher_lives_until_it_ends_and_its_number_alone_does_not_save_it() {
        let mut child = sleeper();
        let id = of(&child);
        assert!(id.alive());
        assert!(!LauncherId { start: id.start + 1, ..id.clone() }.alive());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!id.alive());
    }

    #[test]
    fn a_launcher_elsewhere_counts_as_alive() {
        let gone = LauncherId { pid: u32::MAX, ..LauncherId::own() };
        assert!(!gone.alive());
        let here = Place::here();
        for place in [
            Place { host: "elsewhere".into(), ..here.clone() },
            Place { boot: "another".into(), ..here.clone() },
            Place { pid_namespace: here.pid_namespace + 1, ..here.clone() },
            Place { uid: here.uid + 1, ..here.clone() },
        ] {
            assert!(LauncherId { place, ..gone.clone() }.alive());
        }
    }

    #[tokio::test]
    async fn a_launcher_is_asked_to_end_and_a_process_with_its_number_is_not() {
        let mut child = sleeper();
        let id = of(&child);
        assert!(LauncherId { start: id.start + 1, ..id.clone() }.end(Duration::from_secs(5)).await);
        assert!(id.alive(), "another process got the signal");
        assert!(id.end(Duration::from_secs(5)).await);
        child.wait().unwrap();
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let own = LauncherId::own();
        assert_eq!(own.to_string().parse(), Ok(own.clone()));
        assert!(own.alive());
        assert!("host:1:2".parse::<LauncherId>().is_err());
    }
}
