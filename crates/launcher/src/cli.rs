//! The command line, and which command answers it.

use std::ffi::OsString;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{BoolishValueParser, Resettable};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::bottles;
use crate::engine::docker::Docker;
use crate::failure::{Failure, Kind};
use crate::images::{SIDECARS, Sidecar, ensure_loaded};
use crate::start;
use crate::teardown::Swept;

/// Run a coding agent in a container that reaches the world only through its sidecars
#[derive(Debug, Parser)]
#[command(name = "claude-bottle", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The manifest; else ./claude-bottle.json, else $XDG_CONFIG_HOME/claude-bottle/claude-bottle.json
    #[arg(long, global = true, value_name = "FILE", env = "CLAUDE_BOTTLE_MANIFEST")]
    pub manifest: Option<PathBuf>,
    /// The container engine; else DOCKER_HOST, the current Docker context, the usual sockets
    #[arg(long, global = true, value_name = "URL", env = "CLAUDE_BOTTLE_HOST")]
    pub host: Option<String>,
    /// The form of what a command prints
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, env = "CLAUDE_BOTTLE_FORMAT")]
    pub format: Format,
    /// Answer yes to questions
    #[arg(short, long, global = true, env = "CLAUDE_BOTTLE_YES", value_parser = BoolishValueParser::new())]
    pub yes: bool,
    /// Say nothing but errors
    #[arg(short, long, global = true, env = "CLAUDE_BOTTLE_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,
    /// Say also what was done, and how long it took
    #[arg(short, long, global = true, env = "CLAUDE_BOTTLE_VERBOSE", value_parser = BoolishValueParser::new())]
    pub verbose: bool,
}

/// The form of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
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

#[derive(Debug, Subcommand)]
enum ImagesCommand {
    /// Load them into the engine
    Load,
    /// What there is (not yet)
    List(Rest),
    /// Write an archive for `docker load` (not yet)
    Save(Rest),
    /// Their digests (not yet)
    Digest(Rest),
    /// Compare the engine's with the carried ones (not yet)
    Verify(Rest),
    /// Build the agent's image from its Dockerfile (not yet)
    Build(Rest),
}

/// Arguments of a command that is not there yet.
#[derive(Debug, Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<OsString>,
}

/// Arguments of `start`.
#[derive(Debug, Clone, Args)]
pub struct StartArgs {
    /// The agent's name in the manifest
    pub agent: String,
    /// Show the plan, create nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Give the agent a copy of a working folder (not yet)
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    pub cwd: Option<PathBuf>,
    /// Leave the bottle running (not yet)
    #[arg(long)]
    pub detach: bool,
    /// Skip the isolation proof (there is none yet)
    #[arg(long)]
    pub no_verify: bool,
    /// The first message to the agent (not yet)
    #[arg(long, value_name = "TEXT", conflicts_with = "cmd")]
    pub prompt: Option<String>,
    /// What to run in place of the manifest's command, exactly as typed
    #[arg(last = true, value_name = "CMD")]
    pub cmd: Vec<String>,
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
            let bottles = bottles::list(&engine(global)?, all).await?;
            print(global, || bottles::table(&bottles), &bottles)
        }
        Command::Stop { bottle } => {
            let swept = bottles::stop(&engine(global)?, &bottle).await?;
            Ok(told(&swept))
        }
        Command::Cleanup { all: true, .. } => Err(Failure::not_yet("`cleanup --all`")),
        Command::Cleanup { dry_run, .. } => {
            let (cleaned, swept) = bottles::cleanup(&engine(global)?, dry_run).await?;
            let text = || {
                let verb = if dry_run { "would remove" } else { "removed" };
                let names = cleaned.containers.iter().chain(&cleaned.networks);
                let lines: String = names.map(|name| format!("{verb} {name}\n")).collect();
                if lines.is_empty() { "nothing to clean up\n".to_owned() } else { lines }
            };
            print(global, text, &cleaned)?;
            Ok(told(&swept))
        }
        Command::Images { command: ImagesCommand::Load } => load(global).await,
        Command::Images { command } => Err(Failure::not_yet(match command {
            ImagesCommand::List(_) => "`images list`",
            ImagesCommand::Save(_) => "`images save`",
            ImagesCommand::Digest(_) => "`images digest`",
            ImagesCommand::Verify(_) => "`images verify`",
            ImagesCommand::Build(_) | ImagesCommand::Load => "`images build`",
        })),
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

/// The engine that the command line and the environment name.
pub(crate) fn engine(global: &Global) -> Result<Docker, Failure> {
    Ok(Docker::connect(global.host.as_deref())?)
}

async fn load(global: &Global) -> Result<u8, Failure> {
    use crate::engine::Engine as _;
    let engine = engine(global)?;
    let arch = engine.info().await?.arch;
    let mut loaded = std::collections::BTreeMap::new();
    for name in SIDECARS {
        let built = Sidecar::find(name, &arch)?.image().build();
        loaded.insert(built.tag.clone(), ensure_loaded(&engine, &built).await?);
    }
    let text = || loaded.iter().map(|(tag, id)| format!("{tag} {id}\n")).collect();
    print(global, text, &loaded)
}

/// Prints a command's answer to stdout.
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

/// Asks on the terminal; without one the question is an error.
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
