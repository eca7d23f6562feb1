//! Which processes are an engine's: those in its mount namespace, and their descendants, containers
//! among them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use rustix::process::{Pid, Signal, kill_process};

/// A mount namespace. It is kept open: the kernel gives the number of one that is gone to the next
/// namespace at once, and that may be the machine's container.
#[derive(Debug)]
pub(super) struct Namespace {
    number: Number,
    _open: File,
}

/// What tells a namespace from all others that exist: its device and inode.
type Number = (u64, u64);

impl Namespace {
    /// That of a process; `None` when it has ended, or is in ours.
    pub(super) fn of(pid: i32) -> Option<Self> {
        let open = File::open(path(pid)).ok()?;
        let its = number(&open.metadata().ok()?);
        let ours = number(&fs::metadata("/proc/self/ns/mnt").ok()?);
        (its != ours).then_some(Self { number: its, _open: open })
    }

    /// Whether a process lives in it.
    pub(super) fn has(&self, pid: i32) -> bool {
        fs::metadata(path(pid)).is_ok_and(|its| number(&its) == self.number)
    }

    /// Sends SIGKILL to all of the engine's processes, and returns how many there were.
    pub(super) fn kill_all(&self) -> usize {
        let all = self.processes();
        for pid in &all {
            signal(*pid, Signal::KILL);
        }
        all.len()
    }

    fn processes(&self) -> BTreeSet<i32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all: Vec<(i32, i32)> = entries
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
                living_parent(&stat).map(|parent| (pid, parent))
            })
            .collect();
        let mut found: BTreeSet<i32> = all.iter().map(|(pid, _)| *pid).filter(|pid| self.has(*pid)).collect();
        loop {
            let children = all.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid);
            let more: Vec<i32> = children.filter(|pid| !found.contains(pid)).collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }
}

fn path(pid: i32) -> String {
    format!("/proc/{pid}/ns/mnt")
}

fn number(namespace: &fs::Metadata) -> Number {
    (namespace.dev(), namespace.ino())
}

/// Sends a signal; a process that has just ended needs none.
pub(super) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// The parent in a `/proc/PID/stat` (proc(5), field 4), unless the process is dead and waits for it.
fn living_parent(stat: &str) -> Option<i32> {
    // The name of the program is in parentheses, and may contain some.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name_and_only_of_the_living() {
        assert_eq!(living_parent("7 (a) S 5 (b)) S 3 7 7"), Some(3));
        assert_eq!(living_parent("7 (sh) Z 3 7 7"), None);
        assert_eq!(living_parent(""), None);
    }

    #[test]
    fn our_own_namespace_is_no_engines() {
        let ours = i32::try_from(std::process::id()).unwrap();
        assert!(Namespace::of(ours).is_none());
    }

    #[test]
    fn a_namespace_that_is_gone_is_never_taken_for_a_later_one() {
        // Making one needs root, as the engines do.
        if !crate::prerequisites::is_root() {
            return;
        }
        let mut gone = Unshared::begin();
        let namespace = Namespace::of(gone.pid()).unwrap();
        assert!(namespace.has(gone.pid()));
        gone.end();
        for _ in 0..20 {
            let mut later = Unshared::begin();
            assert!(!namespace.has(later.pid()));
            later.end();
        }
        assert_eq!(namespace.kill_all(), 0);
    }

    /// A process in a mount namespace of its own.
    struct Unshared(std::process::Child);

    impl Unshared {
        fn begin() -> Self {
            let mut unshare = std::process::Command::new("unshare");
            let pipes = (std::process::Stdio::piped(), std::process::Stdio::piped());
            let mut child = unshare.args(["--mount", "cat"]).stdin(pipes.0).stdout(pipes.1).spawn().unwrap();
            // It answers once it is there.
            let mut line = [0];
            std::io::Write::write_all(child.stdin.as_mut().unwrap(), b".").unwrap();
            std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
            Self(child)
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }

        fn end(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}
