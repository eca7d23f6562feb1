//! Progress on stderr while measurements run: one line each, and nothing else.
//!
//! Lines, not a moving bar: they read the same in a log, and redrawing would cost CPU time that the
//! forwarder is to have.

use std::fmt::Display;
use std::io::Write;
use std::time::{Duration, Instant};

/// Tells how far we are.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    steps: usize,
    done: usize,
    quiet: bool,
}

impl Progress {
    /// Begins now, with so many steps to come (0: unknown).
    pub fn begin(steps: usize, quiet: bool) -> Self {
        Self { began: Instant::now(), steps, done: 0, quiet }
    }

    /// A step ended.
    pub fn step(&mut self, text: impl Display) {
        self.done += 1;
        let (done, steps) = (self.done, self.steps);
        if steps == 0 {
            self.say(text);
            return;
        }
        let left = self.began.elapsed() * u32::try_from(steps.saturating_sub(done)).unwrap_or(0)
            / u32::try_from(done).unwrap_or(1);
        let left = Duration::from_secs(left.as_secs());
        self.say(format_args!(
            "[{done}/{steps}, {}:{:02} left] {text}",
            left.as_secs() / 60,
            left.as_secs() % 60
        ));
    }

    /// A line.
    pub fn say(&self, text: impl Display) {
        if !self.quiet {
            note(text);
        }
    }
}

/// A line on stderr.
pub fn note(text: impl Display) {
    // Whoever closed our stderr wants no more lines.
    let _ = writeln!(std::io::stderr(), "{text}");
}
