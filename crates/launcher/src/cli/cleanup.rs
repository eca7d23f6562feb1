//! `cleanup`: what bottles left behind is removed.

use std::collections::BTreeSet;

use clap::Args;
use serde::Serialize;

use crate::bottle::removal::{self, Which};
use crate::cli::console::{confirm, print, report, say};
use crate::cli::failure::Failure;
use crate::cli::options::Global;
use crate::text::{Lines, line};

/// Arguments of `cleanup`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CleanupArgs {
    /// Only list what would be removed
    #[arg(long)]
    dry_run: bool,
    /// Also living bottles, and unlabelled objects whose name begins with claude-bottle-
    #[arg(long)]
    all: bool,
}

/// What was removed, or would be.
#[derive(Debug, Default, Serialize)]
struct Removed {
    containers: BTreeSet<String>,
    networks: BTreeSet<String>,
    /// No version makes derived images yet.
    images: [(); 0],
    /// Nor volumes.
    volumes: [(); 0],
    /// Nor scratch folders.
    folders: [(); 0],
    /// Nor saves work.
    rescued: [(); 0],
}

impl Removed {
    fn lines(&self, verb: &str) -> Lines {
        let mut lines = Lines::default();
        for name in &self.containers {
            lines.line(format_args!("{verb} container {name}"));
        }
        for name in &self.networks {
            lines.line(format_args!("{verb} network {name}"));
        }
        lines
    }

    fn or_nothing(&self, verb: &str) -> Lines {
        let lines = self.lines(verb);
        if lines.is_empty() { line("nothing to clean up") } else { lines }
    }
}

/// Carries out `cleanup` and returns the exit code.
///
/// # Errors
/// The engine's, and those of the question that `--all` asks.
pub(crate) async fn cleanup(global: &Global, args: CleanupArgs) -> Result<u8, Failure> {
    let engine = global.engine()?;
    let which = if args.all { Which::All } else { Which::Orphans };
    let mut shown = None;
    if args.dry_run || args.all {
        let remains = removal::remains(&engine, which).await?;
        let found =
            Removed { containers: remains.containers(), networks: remains.networks(), ..Removed::default() };
        if args.dry_run {
            return print(global, || found.or_nothing("would remove"), &found);
        }
        let lines = found.lines("will remove");
        if !lines.is_empty() {
            if !(global.quiet && global.yes) {
                say(&lines);
            }
            confirm(global, "remove all of this, living bottles too?", "list it only").await?;
        }
        shown = Some(remains);
    }
    let swept = removal::cleanup(&engine, which, shown.as_ref()).await?;
    let code = report(&swept);
    let removed = Removed { containers: swept.containers, networks: swept.networks, ..Removed::default() };
    print(global, || removed.or_nothing("removed"), &removed)?;
    Ok(code)
}
