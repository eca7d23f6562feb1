//! The command line, and which command carries it out.

mod cleanup;
pub(crate) mod console;
pub(crate) mod failure;
mod images;
mod list;
pub(crate) mod options;
mod process;
mod progress;
mod start;
mod stop;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use cleanup::CleanupArgs;
use console::say;
use failure::{Failure, Kind};
use images::ImagesCommand;
use options::{Global, StartArgs};

/// Run a coding agent in a container that reaches the world only through its sidecars
#[derive(Debug, Parser)]
#[command(name = "claude-bottle", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a command in a new bottle, and remove the bottle afterwards
    Start(StartArgs),
    /// List running bottles
    List {
        /// Also those whose agent does not run
        #[arg(long)]
        all: bool,
    },
    /// End and remove bottles; one that does not exist is success
    Stop {
        /// The bottle's instance, or its container's name
        #[arg(required = true, value_name = "BOTTLE")]
        bottles: Vec<String>,
    },
    /// Remove what bottles left behind whose launcher is gone
    Cleanup(CleanupArgs),
    /// Manage the images that the launcher contains
    Images {
        #[command(subcommand)]
        command: ImagesCommand,
    },
}

/// Parses this process's command line; an empty variable counts as unset. Ends the process for
/// `--help`, `--version` and an invalid command line, as clap does.
pub fn parse() -> Cli {
    let unset = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let mut command = Cli::command()
        .mut_args(|arg| if arg.get_env().is_some_and(unset) { arg.env(Resettable::Reset) } else { arg });
    let parsed = command.try_get_matches_from_mut(std::env::args_os());
    parsed
        .and_then(|matches| Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut command)))
        .unwrap_or_else(|error| error.exit())
}

/// Carries out a command line.
pub async fn run(cli: Cli) -> ExitCode {
    match answer(cli).await {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say(&failure.lines());
            ExitCode::from(failure.kind.code())
        }
    }
}

async fn answer(cli: Cli) -> Result<u8, Failure> {
    let global = &cli.global;
    if let Some(name) = not_text(std::env::vars_os()) {
        let failure = Failure::new(Kind::Usage, format!("{name}: the value is not UTF-8"));
        return Err(failure.hint(format!("set {name} to text, or unset it")));
    }
    match cli.command {
        Command::Start(args) => start::start(global, args).await,
        Command::List { all } => list::list(global, all).await,
        Command::Stop { bottles } => stop::stop(global, &bottles).await,
        Command::Cleanup(args) => cleanup::cleanup(global, args).await,
        Command::Images { command } => images::run(global, command).await,
    }
}

/// The variables that choose an engine or the way to the world, beside our own.
const CHOICES: [&str; 9] = [
    "DOCKER_HOST",
    "DOCKER_CONTEXT",
    "DOCKER_CONFIG",
    "DOCKER_TLS",
    "DOCKER_TLS_VERIFY",
    "HTTPS_PROXY",
    "https_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// A variable of ours or of [`CHOICES`] whose value is not text: to take it for unset would be another
/// engine, image or runtime than the user's.
fn not_text(variables: impl Iterator<Item = (OsString, OsString)>) -> Option<String> {
    let mut names = variables
        .filter(|(_, value)| value.to_str().is_none())
        .filter_map(|(name, _)| name.into_string().ok());
    // A path may be of any bytes.
    let ours = |name: &str| name.starts_with("CLAUDE_BOTTLE_") && name != "CLAUDE_BOTTLE_MANIFEST";
    names.find(|name| ours(name) || CHOICES.contains(&name.as_str()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    #[test]
    fn a_choice_that_is_not_text_is_not_taken_for_unset() {
        let of = |name: &str, value: &[u8]| {
            not_text([(name.into(), OsString::from_vec(value.to_vec()))].into_iter())
        };
        for name in ["CLAUDE_BOTTLE_RUNTIME", "CLAUDE_BOTTLE_IMAGE", "DOCKER_HOST", "https_proxy"] {
            assert_eq!(of(name, b"a\xff").as_deref(), Some(name));
            assert_eq!(of(name, "é".as_bytes()), None);
        }
        for name in ["CLAUDE_BOTTLE_MANIFEST", "HOME", "EDITOR"] {
            assert_eq!(of(name, b"/home/\xff"), None, "{name}");
        }
    }

    #[test]
    fn help_does_not_print_the_address_of_the_engine() {
        // It may contain a password.
        let command = Cli::command();
        let host = command.get_arguments().find(|arg| arg.get_id() == "host").unwrap();
        assert!(host.is_hide_env_values_set());
    }
}
