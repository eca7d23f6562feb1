//! What the launcher says and asks: answers on stdout, everything else on stderr.

use std::io::{IsTerminal as _, Write as _};

use crate::bottle::teardown::Swept;
use crate::cli::failure::{Failure, Kind};
use crate::cli::options::{Format, Global};

/// Prints a command's answer to stdout, as text or JSON; the exit code of success.
///
/// # Errors
/// [`Kind::Bug`] when the answer makes no JSON.
pub(crate) fn print(
    global: &Global,
    text: impl FnOnce() -> String,
    value: &impl serde::Serialize,
) -> Result<u8, Failure> {
    let said = match global.format {
        Format::Text => text(),
        Format::Json => {
            let json = serde_json::to_string_pretty(value).map_err(|error| Failure::new(Kind::Bug, error))?;
            json + "\n"
        }
    };
    // A reader that has gone, as `head` does, has read what it wanted.
    let _ = std::io::stdout().write_all(said.as_bytes());
    Ok(0)
}

/// Says on stderr what a teardown left, each with the command that removes it; the exit code.
pub(crate) fn told(swept: &Swept) -> u8 {
    for left in &swept.left {
        let failure = Failure::new(Kind::Teardown, sidecar::exit::chain(left))
            .hint(format!("remove it with `{}`", left.remedy()));
        say(&failure.lines());
    }
    if swept.left.is_empty() { 0 } else { Kind::Teardown.code() }
}

/// Says something on stderr; nobody is left to tell when that fails.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Asks on the terminal, unless `--yes`.
///
/// # Errors
/// [`Kind::Usage`] without a terminal, [`Kind::Declined`] for anything but yes.
pub(crate) async fn confirm(global: &Global, question: &str) -> Result<(), Failure> {
    if global.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(Kind::Usage, format!("stdin is no terminal to ask {question:?} on"))
            .hint("add --yes, or --dry-run to see the plan alone"));
    }
    say(&format!("{question} [y/N] "));
    // On a thread of its own, so that a signal ends the wait.
    let asked = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        answer
    });
    let answer = asked.await.unwrap_or_default();
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::new(Kind::Declined, "declined: nothing was created")),
    }
}
