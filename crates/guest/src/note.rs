//! What the guest says: one event line on stdout, and notes on stderr that may be lost.
//!
//! A relay outlives the exec that started it. A note is therefore written only when stderr can
//! take it at once, and an error is ignored: a reader that has gone or stalled must not stop us.

use std::{
    cell::Cell,
    io::{self, Write},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Writes one line of JSON to stdout.
pub fn announce(event: &serde_json::Value) {
    let mut stdout = io::stdout().lock();
    // The launcher may have gone away; what we announce is true all the same.
    let _ = writeln!(stdout, "{event}").and_then(|()| stdout.flush());
}

/// Writes one line to stderr, if that neither blocks nor fails.
pub fn note(text: &str) {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(&stderr, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // A pipe that polls as writable takes PIPE_BUF bytes without blocking.
    if poll(&mut ready, Some(&now)) == Ok(1) && ready[0].revents() == PollFlags::OUT {
        let line = format!("bottle-guest: {text}\n");
        let _ = stderr.lock().write_all(&line.as_bytes()[..line.len().min(PIPE_BUF)]);
    }
}

/// An error and its causes, each once, joined by colons.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The size up to which a pipe takes a write whole (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Notes of one kind, at most one in ten seconds; the others are counted.
#[derive(Debug, Default)]
pub struct Seldom {
    last: Cell<Option<Instant>>,
    unsaid: Cell<u32>,
}

impl Seldom {
    /// Says it, or counts it towards the next time.
    pub fn note(&self, text: &str) {
        if self.last.get().is_some_and(|last| last.elapsed() < PAUSE) {
            self.unsaid.set(self.unsaid.get().saturating_add(1));
            return;
        }
        self.last.set(Some(Instant::now()));
        match self.unsaid.take() {
            0 => note(text),
            unsaid => note(&format!("{text} ({unsaid} more like this before)")),
        }
    }
}

/// Between two notes of one kind.
const PAUSE: Duration = Duration::from_secs(10);
