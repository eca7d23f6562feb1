//! How a daemon ends: its exit codes, and the one or two lines it says before it was ready.

use std::error::Error;
use std::fmt::{self, Display, Write as _};
use std::io::Write as _;
use std::process::ExitCode;

/// Why a daemon ended, with the exit code that says so.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

/// The kinds of failure, each an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 1: a failure at run time, e.g. a listener that cannot be bound.
    Runtime,
    /// 2: a command line that makes no sense.
    Usage,
    /// 78: a table, CA, token or bundle that is missing, unreadable or wrong.
    Config,
}

impl Kind {
    /// The exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Runtime => 1,
            Self::Usage => 2,
            Self::Config => 78,
        }
    }
}

impl Failure {
    /// A failure of that kind with its error.
    pub fn new(kind: Kind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, error: error.into(), hint: None }
    }

    /// A failure at run time (exit 1).
    pub fn runtime(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Kind::Runtime, error)
    }

    /// A bad command line (exit 2).
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Kind::Usage, error)
    }

    /// Bad input from a table, token or bundle (exit 78).
    pub fn config(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Kind::Config, error)
    }

    /// The same failure with a sentence that says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The kind, and with it the exit code.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.error))
    }
}

/// Turns the outcome of a daemon's `run` into its exit code, and a failure into its lines on stderr:
/// `ssh-gate: ...`, then at most one line `hint: ...`.
pub fn report(name: &str, outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let mut lines = format!("{name}: {}\n", escape(&failure.to_string()));
    if let Some(hint) = &failure.hint {
        let _ = writeln!(lines, "hint: {}", escape(hint));
    }
    // Nobody is left to tell when stderr is closed.
    let _ = std::io::stderr().write_all(lines.as_bytes());
    ExitCode::from(failure.kind.code())
}

/// Runs a daemon to its end on a runtime of its own and reports how it ended.
///
/// A read of stdin that still waits, as a lifeline's does, does not hold the end.
pub fn run(
    name: &str,
    runtime: std::io::Result<tokio::runtime::Runtime>,
    daemon: impl Future<Output = Result<(), Failure>>,
) -> ExitCode {
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return report(name, Err(Failure::runtime(error))),
    };
    let outcome = runtime.block_on(daemon);
    runtime.shutdown_background();
    report(name, outcome)
}

/// An error and its causes, each once, joined by `: `.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        // Some libraries repeat their cause inside their own sentence.
        if !text.ends_with(&said) {
            let _ = write!(text, ": {said}");
        }
        next = cause.source();
    }
    text
}

/// The text with control characters written as escapes, so that what a peer sent cannot steer a terminal.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Whether a character steers what a reader sees: a control character, a separator of lines, a
/// bidirectional or another invisible format character.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not bind listener 127.0.0.1:1")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn each_cause_is_said_once() {
        let error = Outer(std::io::Error::other("address in use"));
        assert_eq!(chain(&error), "could not bind listener 127.0.0.1:1: address in use");
    }

    #[test]
    fn what_a_peer_sent_cannot_steer_a_terminal() {
        assert_eq!(escape("a\x1b[2Jb\n\u{202e}c é"), "a\\u{1b}[2Jb\\n\\u{202e}c é");
    }

    #[test]
    fn every_character_that_is_not_seen_is_escaped() {
        // Of general category Cf, Zl and Zp in Unicode 16: bidirectional marks, line separators, tags, ...
        for c in "\u{ad}\u{61c}\u{180e}\u{200b}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2064}\u{2066}\u{206f}\u{feff}\u{fff9}\u{fffb}\u{e0001}\u{e007f}"
            .chars()
        {
            assert!(steers(c), "{c:?}");
        }
        assert!(!"é\u{301}\u{30a2}\u{1f512}\u{fffd}".chars().any(steers));
    }

    #[test]
    fn kinds_have_the_documented_codes() {
        assert_eq!([Kind::Runtime, Kind::Usage, Kind::Config].map(Kind::code), [1, 2, 78]);
    }
}
