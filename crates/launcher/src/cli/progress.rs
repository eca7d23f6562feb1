//! What a user sees while a bottle is launched: a spinner on a terminal, with `-v` a line for each step.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use sidecar::exit::escape;

use crate::bottle::launch::Watch;
use crate::cli::console::say;
use crate::cli::options::Global;
use crate::text::line;

/// Shows the steps of a launch, until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    verbose: bool,
    /// Draws on a terminal only.
    spinner: ProgressBar,
    running: Mutex<Vec<String>>,
}

/// Between two pictures of the spinner.
const TICK: Duration = Duration::from_millis(100);

impl Progress {
    /// As much as the command line asks for.
    pub(crate) fn begin(global: &Global) -> Self {
        let spinner = if global.quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        spinner.enable_steady_tick(TICK);
        Self { verbose: global.verbose, spinner, running: Mutex::default() }
    }

    /// Does something that prints, between two pictures.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.spinner.suspend(print)
    }

    fn show(&self, change: impl FnOnce(&mut Vec<String>)) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut running);
        self.spinner.set_message(escape(&running.join(", ")));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}

impl Watch for Progress {
    fn begins(&self, step: &str) {
        self.show(|running| running.push(step.to_owned()));
    }

    fn ended(&self, step: &str, took: Duration) {
        self.show(|running| running.retain(|one| one != step));
        if self.verbose {
            self.aside(|| say(&line(format_args!("{step}: {}", seconds(took)))));
        }
    }
}

/// A time as a user reads it.
pub(crate) fn seconds(took: Duration) -> String {
    format!("{:.2} s", took.as_secs_f64())
}
