//! What this process sets up for itself before it holds secrets, and how it hears signals.

use std::io;
use std::time::Duration;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::failure::Kind;

/// Keeps the memory of this process out of core files and away from other processes of this user.
///
/// # Errors
/// The kernel's.
pub(crate) fn keep_memory_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Two signals: the first ends what is under way in order, the second ends the waiting too.
#[derive(Debug, Clone, Default)]
pub(crate) struct Interrupt {
    /// Cancelled by the first signal.
    pub first: CancellationToken,
    /// Cancelled by the second.
    pub second: CancellationToken,
}

impl Interrupt {
    /// Listens for SIGINT, SIGTERM and SIGHUP. One that is ignored at the start, as under nohup, stays
    /// ignored.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let interrupt = Self::default();
        let ignored = ignored(&std::fs::read_to_string("/proc/self/status").unwrap_or_default());
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            if ignored >> (kind.as_raw_value() - 1) & 1 == 0 {
                tokio::spawn(interrupt.clone().listen(signal(kind)?, kind));
            }
        }
        Ok(interrupt)
    }

    async fn listen(self, mut signals: Signal, kind: SignalKind) {
        while signals.recv().await.is_some() {
            if !self.first.is_cancelled() {
                self.first.cancel();
            } else if kind != SignalKind::hangup() {
                // A closed terminal sends SIGHUP after the user's SIGINT: that is not impatience.
                self.second.cancel();
                tokio::spawn(give_up());
            }
        }
    }
}

/// What the end may take after the second signal: a look at the engine, and a few lines.
const END: Duration = Duration::from_secs(5);

/// Ends the process if it still runs: a write to a terminal or pipe that is not read waits without end.
#[expect(clippy::disallowed_methods, reason = "main itself waits for the write")]
async fn give_up() {
    tokio::time::sleep(END).await;
    std::process::exit(i32::from(Kind::Output.code()));
}

/// The set of ignored signals in proc_pid_status(5).
fn ignored(status: &str) -> u64 {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_read() {
        assert_eq!(ignored("Name:\tx\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n"), 1);
        assert_eq!(ignored(""), 0);
    }
}
