//! What a newcomer types: `cargo xtask demo` and `cargo xtask test`, each from a fresh clone.
//!
//! - [`build`]: the sidecars, then the launcher with them inside.
//! - [`demo`]: a bottle that ran, proved its isolation and was removed.
//! - [`tests`]: every test of the project.
//! - [`mod@bench`]: today's forwarders beside their peers.
//! - [`python`]: the packages that the tests use as clients.
//! - [`mod@conformance`]: public corpora of raw HTTP against cred-proxy.
//! - [`sizes`]: whether the sidecars are static and small enough.
//! - [`prerequisites`], [`engine`]: what these need is installed, started and ended again, or named.

#![forbid(unsafe_code)]

pub mod bench;
pub mod build;
pub mod conformance;
pub mod demo;
pub mod engine;
pub mod prerequisites;
pub mod process;
pub mod python;
pub mod sizes;
pub mod story;
pub mod tests;

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
    /// Builds release binaries: the sidecars first, then the launcher with them inside
    Build(Install),
    /// Runs a bottle, from a fresh clone to "nothing left"
    Demo(Install),
    /// Runs all tests, on a real engine, too
    Test {
        #[command(flatten)]
        install: Install,
        /// Passed on to the test runner, e.g. `-- -p ssh-gate`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Builds the programs and the images of the scene, and prints the variables that the end-to-end tests read
    Env(Install),
    /// Makes the Python environment that cred-proxy's tests with real clients use
    Python(Install),
    /// Checks that the built sidecars are static and below their size ceilings
    Sizes,
    /// Release archives, checksums, SBOM (not yet)
    Dist,
    /// Measures the forwarders of today beside their peers
    Bench {
        /// Only these [default: both]
        #[arg(value_enum)]
        kind: Option<bench::Kind>,
        /// At most five minutes: fewer rounds and scenarios, shorter windows
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        install: Install,
        /// Passed on to `forward-load compare`, e.g. `-- --rounds 7`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Replays a corpus of raw HTTP/1.1 against cred-proxy, beside nginx and HAProxy where they are installed
    Conformance {
        /// The corpus, JSON
        #[arg(long, value_name = "FILE")]
        corpus: std::path::PathBuf,
        /// The cred-proxy to test [default: the static one that `build` makes]
        #[arg(long, value_name = "FILE")]
        proxy: Option<std::path::PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, clap::Args)]
struct Install {
    /// Installs missing Debian packages without asking (as CI=true does)
    #[arg(long)]
    install: bool,
}

impl Install {
    fn consent(self) -> Consent {
        Consent::find(self.install)
    }
}

/// Runs the command of this process's arguments, and tells what went wrong on stderr.
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
        Command::Bench { kind, quick, install, arguments } => {
            let consent = install.consent();
            Box::pin(bench::bench(&tree, kind, quick, &arguments, consent, &story, interrupt)).await?;
        }
        Command::Conformance { corpus, proxy } => {
            let proxy = proxy.unwrap_or_else(|| tree.sidecar("cred-proxy"));
            let clean = interrupt.or(conformance::conformance(&corpus, &proxy)).await??;
            return Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Dist => {
            let _ = writeln!(std::io::stderr(), "error: not yet");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints an error and its causes, each once, and a hint where the last of them has one.
fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    let mut stderr = std::io::stderr();
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !told.ends_with(&text) {
            told = format!("{told}: {text}");
        }
        cause = inner.source();
    }
    let _ = writeln!(stderr, "error: {told}");
    ExitCode::FAILURE
}
