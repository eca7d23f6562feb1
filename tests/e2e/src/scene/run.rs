//! The name of a run: which process it belongs to, so that another can tell whether it is over.

use std::sync::atomic::{AtomicU32, Ordering};

use claude_bottle::proc::process;

/// A name for a run of this process: its id, its start time, and a count. What carries it as
/// [`super::LABEL`] is removed by [`super::sweep`] once the process is gone.
pub fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id();
    let started = process(pid).start().unwrap_or_default();
    format!("{pid}-{started}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether the process of a run is gone. A name that is not ours is nobody's.
pub(super) fn is_over(run: &str) -> bool {
    let mut parts = run.split('-').map(str::parse);
    let (Some(Ok(pid)), Some(Ok(then))) = (parts.next(), parts.next()) else { return true };
    u32::try_from(pid).ok().and_then(|pid| process(pid).start()) != Some(then)
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
