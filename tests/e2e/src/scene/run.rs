//! The name of a run: which process it belongs to, so that another can tell whether it is over.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

/// A name for a run of this process: its id, its start time, and a count.
pub(super) fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let started = started(pid).unwrap_or_default();
    format!("{pid}-{started}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether the process of a run is gone. A name that is not ours is nobody's.
pub(super) fn is_over(run: &str) -> bool {
    let mut parts = run.split('-').map(str::parse);
    let (Some(Ok(pid)), Some(Ok(then))) = (parts.next(), parts.next()) else { return true };
    u32::try_from(pid).ok().and_then(started) != Some(then)
}

/// When a process was started, in clock ticks after boot: field 22 of `/proc/PID/stat` (proc(5)).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command, field 2, is in brackets and may hold anything.
    let (_, after_command) = stat.rsplit_once(')')?;
    after_command.split_whitespace().nth(22 - 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_this_process_is_not_over() {
        assert!(!is_over(&name()));
    }

    #[test]
    fn a_run_whose_process_has_another_start_time_is_over() {
        assert!(is_over(&format!("{}-1-0", std::process::id())));
        assert!(is_over("no run"));
    }
}
