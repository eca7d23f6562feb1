//! The first process of the agent's container: waits, and buries the dead.
//!
//! Every orphan of the container becomes a child of PID 1 and would stay as a zombie.

use std::io;

use rustix::process::{WaitOptions, waitpid};
use tokio::signal::unix::{SignalKind, signal};

use crate::signals::Signals;

/// Reaps children until SIGTERM or SIGINT.
///
/// # Errors
///
/// The signals cannot be caught.
pub async fn idle() -> io::Result<()> {
    let mut ends = Signals::catch()?;
    let mut children = signal(SignalKind::child())?;
    loop {
        reap();
        tokio::select! {
            () = ends.next() => return Ok(()),
            _ = children.recv() => {}
        }
    }
}

/// Takes every child that has ended; one signal may stand for several of them.
fn reap() {
    while let Ok(Some(_)) = waitpid(None, WaitOptions::NOHANG) {}
}
