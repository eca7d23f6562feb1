//! What a command tells while it runs: a line for each step, with its time.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Where the lines go, and since when.
#[derive(Debug)]
pub struct Story {
    colour: bool,
    began: Instant,
}

/// A step that is under way.
#[derive(Debug)]
pub struct Step<'a> {
    story: &'a Story,
    began: Instant,
}

impl Story {
    /// Begins now; in colour on a terminal, unless `NO_COLOR` is set.
    pub fn begin() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: !plain && std::io::stdout().is_terminal(), began: Instant::now() }
    }

    /// How long it has lasted.
    pub fn lasted(&self) -> Duration {
        self.began.elapsed()
    }

    /// A heading.
    pub fn heading(&self, text: impl Display) {
        self.line(format_args!("\n{}", self.painted(BOLD, text)));
    }

    /// A line of its own.
    pub fn line(&self, text: impl Display) {
        // Whoever closed our stdout wants no more lines.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// Begins a step.
    pub fn step(&self) -> Step<'_> {
        Step { story: self, began: Instant::now() }
    }

    /// A line that another program printed.
    pub fn quote(&self, text: impl Display) {
        self.line(format_args!("           {} {text}", self.painted(DIM, "|")));
    }

    /// The text, green where it is as expected, else red.
    pub fn verdict(&self, good: bool, text: impl Display) -> String {
        self.painted(if good { GREEN } else { RED }, text)
    }

    fn painted(&self, paint: &str, text: impl Display) -> String {
        if self.colour { format!("\x1b[{paint}m{text}\x1b[0m") } else { text.to_string() }
    }
}

impl Step<'_> {
    /// Ends the step with a line that says what was done, and how long it took.
    pub fn done(self, text: impl Display) {
        self.story.took(self.began.elapsed(), text);
    }
}

impl Story {
    /// A line with the time that something took.
    pub fn took(&self, time: Duration, text: impl Display) {
        let time = format!("{:>7.2} s", time.as_secs_f64());
        self.line(format_args!("{}  {text}", self.painted(DIM, time)));
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";
