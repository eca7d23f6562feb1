//! What a newcomer types: `cargo xtask demo` and `cargo xtask test`, each from a fresh clone.
//!
//! - [`build`]: the sidecars, then the launcher with them inside.
//! - [`demo`]: a bottle that ran, proved its isolation and was removed.
//! - [`tests`]: every test of the project.
//! - [`mod@bench`]: the current forwarders next to their peers, and the launch of bottles.
//! - [`python`]: the packages that the tests use as clients.
//! - [`mod@conformance`]: public corpora of raw HTTP against cred-proxy.
//! - [`sizes`]: whether the sidecars are static and small enough.
//! - [`engines`]: other engines beside the machine's own.
//! - [`mod@words`]: the language check.
//! - [`prerequisites`], [`engine`]: what these need is installed, started and ended again, or named.

#![forbid(unsafe_code)]

pub mod bench;
pub mod build;
pub mod conformance;
pub mod demo;
pub mod engine;
pub mod engines;
pub mod prerequisites;
pub mod process;
pub mod python;
pub mod sizes;
pub mod story;
pub mod tests;
pub mod words;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use build::Tree;
use prerequisites::Consent;
use process::Interrupt;
use story::Story;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build release binaries: the sidecars first, then the launcher with them inside
    Build(Install),
    /// Run a bottle, from a fresh clone to "nothing left"
    Demo(Install),
    /// Run all tests, including those on a real engine
    Test {
        #[command(flatten)]
        install: Install,
        /// Arguments for the test runner, e.g. `-- -p ssh-gate`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Print the variables that the end-to-end tests read, after building the programs and images
    Env(Install),
    /// Create the Python environment for cred-proxy's tests with real clients
    Python(Install),
    /// Check that the built sidecars are static and within their size limits
    Sizes,
    /// Start, enter or stop another container engine beside the machine's own (docs/engines.md)
    Engine {
        #[command(subcommand)]
        act: engines::Act,
    },
    /// Check documentation, help and messages for phrases that are not plain English
    Words {
        /// Check only these files and folders [default: what has been rewritten]
        #[arg(value_name = "PATH")]
        paths: Vec<std::path::PathBuf>,
    },
    /// Measure the current forwarders next to their peers, or how long bottles take to launch
    Bench {
        #[command(flatten)]
        request: bench::Request,
        #[command(flatten)]
        install: Install,
    },
    /// Replay a corpus of raw HTTP/1.1 against cred-proxy, and against nginx and HAProxy if they are installed
    Conformance {
        /// The corpus, a JSON file
        #[arg(long, value_name = "FILE")]
        corpus: std::path::PathBuf,
        /// The cred-proxy to test [default: the one that `build` creates]
        #[arg(long, value_name = "FILE")]
        proxy: Option<std::path::PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct Install {
    /// Install missing Debian packages without asking (like CI=true)
    #[arg(long)]
    install: bool,
}

impl Install {
    fn consent(self) -> Consent {
        Consent::find(self.install)
    }
}

/// The definition of the command line.
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

/// Runs the command of this process's arguments, and prints errors on stderr.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let (ended, interrupted) = runtime.block_on(async {
        let interrupt = match Interrupt::listen() {
            Ok(interrupt) => interrupt,
            Err(error) => return (Err(error.into()), false),
        };
        (run(arguments.command, &interrupt).await, interrupt.came())
    });
    // A read of a terminal may still be waiting on its thread.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => {
            let code = failed(error.as_ref());
            if interrupted { ExitCode::from(130) } else { code }
        }
    }
}

async fn run(command: Command, interrupt: &Interrupt) -> Result<ExitCode, Box<dyn Error>> {
    let tree = Tree::find();
    let story = Story::begin();
    match command {
        Command::Build(install) => {
            prerequisites::for_building(&tree, install.consent(), interrupt).await?;
            build::sidecars(&tree, interrupt).await?;
            build::launcher(&tree, interrupt).await?;
        }
        Command::Demo(install) => Box::pin(demo::demo(&tree, install.consent(), &story, interrupt)).await?,
        Command::Test { install, arguments } => {
            return Ok(Box::pin(tests::tests(&tree, install.consent(), &arguments, &story, interrupt)).await?);
        }
        Command::Env(install) => tests::variables(&tree, install.consent(), interrupt).await?,
        Command::Python(install) => python::environment(&tree, install.consent(), interrupt).await?,
        Command::Sizes => sizes::sizes(&tree)?,
        Command::Bench { request, install } => {
            Box::pin(bench::bench(&tree, &request, install.consent(), &story, interrupt)).await?;
        }
        Command::Conformance { corpus, proxy } => {
            let proxy = proxy.unwrap_or_else(|| tree.sidecar("cred-proxy"));
            let clean = interrupt.or(conformance::conformance(&corpus, &proxy)).await??;
            return Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Engine { act } => {
            Box::pin(engines::act(&tree, act, Consent::find(false), interrupt)).await?;
        }
        Command::Words { paths } => words::words(&tree.root, &paths, &story)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints an error and its causes, each once, and a hint where the last of them has one.
fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {}", sidecar::exit::chain(error));
    ExitCode::FAILURE
}
