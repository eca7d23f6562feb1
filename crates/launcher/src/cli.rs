//! The command line, and which command carries it out.

pub(crate) mod console;
pub(crate) mod failure;
mod images;
pub(crate) mod options;
mod start;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use console::{print, say, told};
use failure::Failure;
use images::ImagesCommand;
use options::{Global, StartArgs};

use crate::bottle::find as bottles;

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
    /// Plan, show, ask, launch, run CMD, tear down; the exit code is CMD's
    Start(StartArgs),
    /// Running bottles
    List {
        /// Also those whose agent does not run
        #[arg(long)]
        all: bool,
    },
    /// Remove a bottle
    Stop {
        /// Its instance, or its container's name
        bottle: String,
    },
    /// Remove what bottles left behind whose launcher is gone
    Cleanup {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
        /// Also living bottles and the predecessor's (not yet)
        #[arg(long)]
        all: bool,
    },
    /// The images that the launcher carries
    Images {
        #[command(subcommand)]
        command: ImagesCommand,
    },
    /// Join a bottle's terminal (not yet)
    Attach(Rest),
    /// Run a command in a bottle (not yet)
    Exec(Rest),
    /// What a bottle's containers wrote (not yet)
    Logs(Rest),
    /// Prove a bottle's isolation again (not yet)
    Verify(Rest),
    /// What a bottle's sidecars refused, and what would allow it (not yet)
    Why(Rest),
    /// The same bottle for another engine (not yet)
    Export(Rest),
    /// Look for what would keep bottles from working (not yet)
    Doctor(Rest),
    /// Write a manifest to start from (not yet)
    Init(Rest),
    /// The JSON Schema of the manifest (not yet)
    Schema(Rest),
    /// Completions for a shell (not yet)
    Completions(Rest),
}

/// Arguments of a command that is not there yet.
#[derive(Debug, Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<OsString>,
}

/// Parses this process's command line; an empty variable counts as unset. Ends the process for
/// `--help`, `--version` and a bad command line, as clap does.
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
    match cli.command {
        Command::Start(args) => start::start(global, args).await,
        Command::List { all } => {
            let bottles = bottles::list(&global.engine()?, all).await?;
            print(global, || bottles::table(&bottles), &bottles)
        }
        Command::Stop { bottle } => {
            let swept = bottles::stop(&global.engine()?, &bottle).await?;
            Ok(told(&swept))
        }
        Command::Cleanup { all: true, .. } => Err(Failure::not_yet("`cleanup --all`")),
        Command::Cleanup { dry_run, .. } => {
            let (cleaned, swept) = bottles::cleanup(&global.engine()?, dry_run).await?;
            let text = || {
                let verb = if dry_run { "would remove" } else { "removed" };
                let names = cleaned.containers.iter().chain(&cleaned.networks);
                let lines: String = names.map(|name| format!("{verb} {name}\n")).collect();
                if lines.is_empty() { "nothing to clean up\n".to_owned() } else { lines }
            };
            print(global, text, &cleaned)?;
            Ok(told(&swept))
        }
        Command::Images { command } => images::run(global, command).await,
        Command::Attach(_) => Err(Failure::not_yet("`attach`")),
        Command::Exec(_) => Err(Failure::not_yet("`exec`")),
        Command::Logs(_) => Err(Failure::not_yet("`logs`")),
        Command::Verify(_) => Err(Failure::not_yet("`verify`")),
        Command::Why(_) => Err(Failure::not_yet("`why`")),
        Command::Export(_) => Err(Failure::not_yet("`export`")),
        Command::Doctor(_) => Err(Failure::not_yet("`doctor`")),
        Command::Init(_) => Err(Failure::not_yet("`init`")),
        Command::Schema(_) => Err(Failure::not_yet("`schema`")),
        Command::Completions(_) => Err(Failure::not_yet("`completions`")),
    }
}
