//! Other container engines beside the machine's own, out of Debian's packages.
//!
//! Each runs in network and mount namespaces of its own, with its own files, data, socket and cgroup:
//! the machine's engine, its network and its packages stay as they are. What is fetched and unpacked
//! stays in `target/engines`; what runs is in `target/engines/run/KIND` until it is stopped.
//!
//! - `kind`: which engines there are, and what they are made of.
//! - `packages`: their files. `config`: what they are started with.
//! - `run`: start, enter, stop. `processes`, `ask`: what these need to know.

mod ask;
mod config;
mod kind;
mod packages;
mod processes;
mod run;

use std::io::Write;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

pub use self::kind::Kind;
pub use self::packages::PackagesError;
pub use self::run::RunError;
use crate::build::Tree;
use crate::prerequisites::{self, Consent, PrerequisiteError, is_root};
use crate::process::Interrupt;

/// What to do with another engine.
#[derive(Debug, Subcommand)]
pub enum Act {
    /// Start an engine and print its DOCKER_HOST
    Start {
        /// The engine
        kind: Kind,
    },
    /// Run a command in an engine's network, with its DOCKER_HOST
    In {
        /// The engine
        kind: Kind,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// Stop an engine and remove all of it except the unpacked packages
    Stop {
        /// The engine
        kind: Kind,
    },
    /// List the engines
    Status,
}

/// Why it could not be done.
#[derive(Debug, thiserror::Error)]
pub enum EnginesError {
    /// Only root may.
    #[error("other engines need root, for their namespaces and mounts\nhint: run this command as root")]
    NotRoot,
    /// A program is missing.
    #[error(transparent)]
    Prerequisite(#[from] PrerequisiteError),
    /// An engine could not be started, entered or stopped.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Where an engine's files are.
#[derive(Debug)]
struct Place {
    kind: Kind,
    /// The folder of all engines.
    cache: PathBuf,
    /// Its unpacked packages.
    root: PathBuf,
    /// What it writes while it runs.
    state: PathBuf,
}

/// Starts, enters, stops or lists.
///
/// # Errors
///
/// We are not root, a program is missing, or the engine cannot be started, entered or stopped.
pub async fn act(tree: &Tree, act: Act, consent: Consent, interrupt: &Interrupt) -> Result<(), EnginesError> {
    if let Act::Status = act {
        status(tree);
        return Ok(());
    }
    if !is_root() {
        return Err(EnginesError::NotRoot);
    }
    prerequisites::for_engines(consent, interrupt).await?;
    match act {
        Act::Start { kind } => {
            let place = Place::of(tree, kind);
            let name = kind.descriptor().name;
            if !place.root.is_dir() {
                let release = kind.descriptor().release;
                say(std::io::stderr(), format_args!("fetching {name} from Debian {release}"));
            }
            let version = Box::pin(run::start(&place, interrupt)).await?;
            say(std::io::stderr(), format_args!("{name} {version} is running"));
            say(std::io::stdout(), format_args!("DOCKER_HOST={}", place.address()));
        }
        Act::In { kind, command } => match run::enter(&Place::of(tree, kind), &command)? {},
        Act::Stop { kind } => run::stop(&Place::of(tree, kind)).await?,
        Act::Status => {}
    }
    Ok(())
}

fn status(tree: &Tree) {
    for kind in Kind::value_variants() {
        let place = Place::of(tree, *kind);
        let state = if run::holder(&place).is_some() {
            place.address()
        } else if place.root.is_dir() {
            "stopped".to_owned()
        } else {
            "not fetched".to_owned()
        };
        say(std::io::stdout(), format_args!("{:<10} {state}", kind.descriptor().name));
    }
}

impl Place {
    fn of(tree: &Tree, kind: Kind) -> Self {
        let descriptor = kind.descriptor();
        let cache = tree.target.join("engines");
        let root = cache.join(format!("{}-{}", descriptor.family.name(), descriptor.release));
        let state = cache.join("run").join(descriptor.name);
        Self { kind, cache, root, state }
    }

    /// The engine's socket.
    fn socket(&self) -> PathBuf {
        self.state.join("sock")
    }

    /// Its `DOCKER_HOST`.
    fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The cgroup of its containers, which no other checkout's engine has.
    fn cgroup(&self) -> String {
        let mut digest = std::hash::DefaultHasher::new();
        std::hash::Hash::hash(&self.state, &mut digest);
        format!("engine-{}-{:08x}", self.kind.descriptor().name, std::hash::Hasher::finish(&digest) >> 32)
    }
}

fn say(mut to: impl Write, text: impl std::fmt::Display) {
    // A reader that has closed the pipe needs no more lines.
    let _ = writeln!(to, "{text}");
}
