//! The end of a server: stop accepting, let open ones end, and not for ever.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The token that SIGTERM and SIGINT cancel; a second signal ends the process at once.
///
/// Works as PID 1 too, where a signal without a handler is ignored by the kernel (pid_namespaces(7)).
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let drain = CancellationToken::new();
    let cancel = drain.clone();
    tokio::spawn(async move {
        let signalled = |first: bool| {
            tell(move || tracing::info!(event = if first { "drain" } else { "end" }, "signalled"))
        };
        let mut next = async || {
            tokio::select! {
                _ = term.recv() => 128 + 15,
                _ = int.recv() => 128 + 2,
            }
        };
        next().await;
        signalled(true).await;
        cancel.cancel();
        let code = next().await;
        signalled(false).await;
        #[expect(clippy::disallowed_methods, reason = "a second signal ends at once, whatever hangs")]
        std::process::exit(code);
    });
    Ok(drain)
}

/// Waits for the open connections to end, at most for `timeout`. If some are left then, cancels `cut`, and
/// gives them a moment to say so in the log.
pub async fn finish(open: &TaskTracker, timeout: Duration, cut: &CancellationToken) {
    open.close();
    let _ = tokio::time::timeout(timeout, open.wait()).await;
    let left = open.len();
    if left > 0 {
        tell(move || {
            tracing::warn!(
                event = "drain_timeout",
                open = left,
                "connections were cut at the drain's deadline"
            );
        })
        .await;
        cut.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, open.wait()).await;
    }
}

/// Writes a line, and waits a moment for it: a log that nobody reads must not hold the end.
///
/// On a thread of its own, not the runtime's: that would panic where no thread is to be had.
async fn tell(line: impl FnOnce() + Send + 'static) {
    let (done, told) = oneshot::channel::<()>();
    let writing = std::thread::Builder::new().spawn(move || {
        line();
        drop(done);
    });
    if writing.is_ok() {
        let _ = tokio::time::timeout(A_MOMENT, told).await;
    }
}

/// How long what was cut at the deadline may take to tell its story.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// Long for a line, short for whoever waits for an end.
const A_MOMENT: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_stalled_connection_does_not_hold_the_end() {
        let (open, cut) = (TaskTracker::new(), CancellationToken::new());
        open.spawn(std::future::pending::<()>());
        open.spawn(async {});
        finish(&open, Duration::from_millis(50), &cut).await;
        assert_eq!(open.len(), 1);
        assert!(cut.is_cancelled());
    }
}
