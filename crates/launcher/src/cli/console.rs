//! What the launcher prints and asks: results on stdout, everything else on stderr.

use std::io::{self, IsTerminal as _, Write as _};

use crate::bottle::teardown::{Named, Swept};
use crate::cli::failure::{Failure, Kind};
use crate::cli::options::{Format, Global};
use crate::text::{self, Lines};

/// Prints a command's result to stdout, as text or JSON; the exit code of success.
///
/// # Errors
/// [`Kind::Output`] when it cannot be written.
pub(crate) fn print(
    global: &Global,
    lines: impl FnOnce() -> Lines,
    value: &impl serde::Serialize,
) -> Result<u8, Failure> {
    let text = match global.format {
        Format::Text => lines().as_str().to_owned(),
        Format::Json => text::json(value).map_err(|error| Failure::new(Kind::Bug, error))?,
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(0),
        // A reader that has gone, as `head` does, has read what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(source) => Err(Failure::new(
            Kind::Output,
            NotWritten { what: "the result", place: "stdout".to_owned(), source },
        )),
    }
}

/// Output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("could not write {what} to {place}")]
pub(crate) struct NotWritten {
    /// What: `the result`.
    pub what: &'static str,
    /// Where to: `stdout`, or a file in quotes.
    pub place: String,
    /// Why.
    pub source: io::Error,
}

/// Says on stderr what a teardown left, each with the command that removes it; the exit code.
pub(crate) fn report(swept: &Swept) -> u8 {
    for left in &swept.left {
        let failure = Failure::new(Kind::Output, sidecar::exit::chain(left));
        say(&failure.hint(format!("remove it with `{}`", left.remedy())).lines());
    }
    if swept.left.is_empty() { 0 } else { Kind::Output.code() }
}

/// Names what still exists, each with the command that removes it.
pub(crate) fn name_remains(remains: impl IntoIterator<Item = Named>) {
    let mut lines = Lines::default();
    for Named { kind, name } in remains {
        lines.line(format_args!("error: the {kind} {name} may still exist"));
        lines.line(format_args!("hint: remove it with `{}`", kind.removal(&name)));
    }
    say(&lines);
}

/// Prints lines on stderr. A failure to do so cannot be reported anywhere.
pub(crate) fn say(lines: &Lines) {
    let _ = io::stderr().write_all(lines.as_str().as_bytes());
}

/// Prints lines on stderr, on a thread of its own, so that a signal ends the wait for a reader that is stuck.
pub(crate) async fn show(lines: Lines) {
    // The thread cannot be lost: it does nothing else.
    let _ = tokio::task::spawn_blocking(move || say(&lines)).await;
}

/// Asks on the terminal, unless `--yes`. `look` is what `--dry-run` would do instead.
///
/// # Errors
/// [`Kind::Usage`] without a terminal, [`Kind::Declined`] for anything but yes.
pub(crate) async fn confirm(global: &Global, question: &str, look: &str) -> Result<(), Failure> {
    if global.yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Usage, format!("stdin is not a terminal: cannot ask {question:?}"))
            .hint(format!("add --yes, or --dry-run to {look}")));
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    // On a thread of its own, so that a signal ends the wait.
    let asked = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        let _ = io::stdin().read_line(&mut answer);
        answer
    });
    let answer = asked.await.unwrap_or_default();
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Kind::Declined, "declined: nothing was changed")),
    }
}
