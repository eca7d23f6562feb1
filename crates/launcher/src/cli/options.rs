//! The options of the command line.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use crate::cli::failure::Failure;
use crate::engine::docker::Docker;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
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

impl Global {
    /// The engine that the command line and the environment name.
    ///
    /// # Errors
    /// When the address makes no sense.
    pub(crate) fn engine(&self) -> Result<Docker, Failure> {
        Ok(Docker::connect(self.host.as_deref())?)
    }
}

/// The form of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Arguments of `start`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StartArgs {
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
