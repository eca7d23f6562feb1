//! Processes, by their numbers.

use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// What can be known of a process by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// It runs, since this clock tick after boot.
    Started(u64),
    /// One of that number runs, but /proc does not show it: with `hidepid`, a process that is not
    /// dumpable is hidden from its own user too.
    Hidden,
    /// There is none, or it is a zombie.
    Ended,
}

impl Process {
    /// When it was started, in clock ticks after boot.
    pub fn start(self) -> Option<u64> {
        match self {
            Process::Started(start) => Some(start),
            Process::Hidden | Process::Ended => None,
        }
    }
}

/// The process of a number.
pub fn process(pid: u32) -> Process {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        return match pid.map(test_kill_process) {
            None | Some(Err(Errno::SRCH)) => Process::Ended,
            Some(_) => Process::Hidden,
        };
    };
    start(&stat).map_or(Process::Ended, Process::Started)
}

/// Field 22 of proc_pid_stat(5).
fn start(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses and may contain spaces and parentheses.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    // A zombie has ended, even if its parent has not waited for it yet.
    let state = fields.next().filter(|state| !matches!(*state, "Z" | "X"));
    state.and_then(|_| fields.nth(18)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zombie_has_ended() {
        let line = "7 (a) b) S 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 12345 0";
        assert_eq!(start(line), Some(12345));
        assert_eq!(start(&line.replace(" S ", " Z ")), None);
    }

    #[test]
    fn a_process_is_known_until_it_ends() {
        assert!(matches!(process(std::process::id()), Process::Started(1..)));
        assert_eq!(process(u32::MAX), Process::Ended);
        assert_eq!(process(0), Process::Ended);
    }
}
