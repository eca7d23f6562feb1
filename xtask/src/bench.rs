//! Measures the current forwarders next to their peers, and launches next to the engine calls they make.
//! Installs what is missing, and builds our programs as for a release. `forward-load compare` measures the
//! forwarders.

mod launch;

use std::path::PathBuf;

use clap::ValueEnum;

use crate::build::{self, Tree};
use crate::prerequisites::{self, Consent, PrerequisiteError};
use crate::process::{Interrupt, ProcessError};
use crate::story::Story;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// ssh-gate beside socat, haproxy and nginx
    Tcp,
    /// cred-proxy beside nginx, haproxy and caddy
    Http,
    /// bottles, from the launch to the removal, beside the same engine calls without the launcher
    Launch,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// Something is missing on this machine.
    #[error(transparent)]
    Prerequisite(#[from] PrerequisiteError),
    /// A program failed, or we were interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// Bottles could not be launched.
    #[error(transparent)]
    Launch(#[from] launch::LaunchError),
    /// There is nothing that these arguments could be for.
    #[error("`bench launch` does not run `forward-load compare`, so it takes no arguments after `--`")]
    Arguments,
    /// There is no folder for the reports.
    #[error("could not create folder `{}`", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// The system error.
        source: std::io::Error,
    },
}

/// What is measured, and how often.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct Request {
    /// Measure only these [default: tcp and http]
    #[arg(value_enum)]
    pub kind: Option<Kind>,
    /// Take at most five minutes: fewer rounds and scenarios, shorter windows
    #[arg(long, conflicts_with = "rounds")]
    pub quick: bool,
    /// Rounds [default: 5, with --quick 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
    /// Arguments for `forward-load compare`, e.g. `-- --duration 2s`
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// Builds, and measures; every sample is kept in `target/bench`, in a file named after the kind.
///
/// # Errors
///
/// Something is missing, or failed, or we were interrupted; what was measured until then is kept.
pub async fn bench(
    tree: &Tree,
    request: &Request,
    consent: Consent,
    story: &Story,
    interrupt: &Interrupt,
) -> Result<(), BenchError> {
    if request.kind != Some(Kind::Launch) {
        return compare(tree, request, consent, story, interrupt).await;
    }
    if !request.arguments.is_empty() {
        return Err(BenchError::Arguments);
    }
    let rounds = request.rounds.unwrap_or(if request.quick { 3 } else { 5 });
    Ok(Box::pin(launch::launch(tree, rounds, consent, story, interrupt)).await?)
}

async fn compare(
    tree: &Tree,
    request: &Request,
    consent: Consent,
    story: &Story,
    interrupt: &Interrupt,
) -> Result<(), BenchError> {
    let is_asked = |one| request.kind.is_none_or(|kind| kind == one);
    prerequisites::for_building(tree, consent, interrupt).await?;
    prerequisites::for_benching(is_asked(Kind::Tcp), is_asked(Kind::Http), consent, interrupt).await?;
    build::sidecars(tree, interrupt).await?;
    // By itself, so that its features do not become the sidecars'.
    let mut cargo = tree.cargo(&["build"]);
    interrupt.run(cargo.args(["--release", "--package", "forward-load"])).await?;
    story.took(story.lasted(), "built the sidecars and forward-load");
    let folder = tree.target.join("bench");
    std::fs::create_dir_all(&folder)
        .map_err(|source| BenchError::Folder { folder: folder.clone(), source })?;
    for (one, name, ours) in [(Kind::Tcp, "tcp", "ssh-gate"), (Kind::Http, "http", "cred-proxy")] {
        if !is_asked(one) {
            continue;
        }
        let report = folder.join(name).with_extension("json");
        let mut compare = tokio::process::Command::new(tree.target.join("release/forward-load"));
        compare.args(["compare", name, "--peer", &format!("{ours}={}", tree.sidecar(ours).display())]);
        compare.arg("--report").arg(&report).args(request.quick.then_some("--quick"));
        compare.args(request.rounds.map(|rounds| format!("--rounds={rounds}"))).args(&request.arguments);
        story.heading(name);
        interrupt.run(&mut compare).await?;
        story.line(format_args!("every sample is in {}", report.display()));
    }
    Ok(())
}
