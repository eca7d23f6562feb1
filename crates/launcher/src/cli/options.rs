//! The options of the command line.

use std::path::PathBuf;

use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

use crate::engine::EngineError;
use crate::engine::docker::Docker;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The manifest; else ./claude-bottle.json, else $XDG_CONFIG_HOME/claude-bottle/claude-bottle.json
    #[arg(long, global = true, value_name = "FILE", env = "CLAUDE_BOTTLE_MANIFEST")]
    pub manifest: Option<PathBuf>,
    /// The container engine; else DOCKER_HOST, the current Docker context, the usual sockets
    #[arg(long, global = true, value_name = "URL", env = "CLAUDE_BOTTLE_HOST", hide_env_values = true)]
    pub host: Option<String>,
    /// Allow plain tcp:// to an engine on another host: keys and tokens cross the network unencrypted
    #[arg(long, global = true)]
    pub insecure_engine: bool,
    /// Allow an engine under which isolation is not proved
    #[arg(long, global = true)]
    pub unproved_engine: bool,
    /// The format of what a command prints
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, env = "CLAUDE_BOTTLE_FORMAT")]
    pub format: Format,
    /// Answer yes to questions
    #[arg(short, long, global = true, env = "CLAUDE_BOTTLE_YES", value_parser = BoolishValueParser::new())]
    pub yes: bool,
    /// Print only errors, and the plan where it is asked about
    #[arg(short, long, global = true, env = "CLAUDE_BOTTLE_QUIET", value_parser = BoolishValueParser::new())]
    pub quiet: bool,
    /// Print each step and how long it took
    #[arg(short, long, global = true, env = "CLAUDE_BOTTLE_VERBOSE", value_parser = BoolishValueParser::new())]
    pub verbose: bool,
}

impl Global {
    /// The engine that the command line and the environment name.
    ///
    /// # Errors
    /// When the address is invalid or not allowed, or no engine is found.
    pub(crate) fn engine(&self) -> Result<Docker, EngineError> {
        Docker::connect(self.host.as_deref(), self.insecure_engine)
    }
}

/// The format of what a command prints.
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
    /// Skip the isolation proof (no version makes one yet)
    #[arg(long, hide = true)]
    pub no_verify: bool,
    /// What to run in place of the manifest's command, exactly as typed
    #[arg(last = true, value_name = "CMD")]
    pub cmd: Vec<String>,
}
