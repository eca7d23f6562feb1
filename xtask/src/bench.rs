//! The forwarders of today beside their peers: what is missing is installed, what is ours is built as
//! it is released, and `forward-load compare` does the rest.

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
    /// There is no folder for the reports.
    #[error("could not create folder `{}`", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Builds, and compares; every sample is kept in `target/bench/tcp.json` and `http.json`.
///
/// # Errors
///
/// Something is missing, or failed, or we were interrupted; what was measured until then is kept.
pub async fn bench(
    tree: &Tree,
    kind: Option<Kind>,
    quick: bool,
    arguments: &[String],
    consent: Consent,
    story: &Story,
    interrupt: &Interrupt,
) -> Result<(), BenchError> {
    let is_asked = |one| kind.is_none_or(|kind| kind == one);
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
        compare.arg("--report").arg(&report).args(quick.then_some("--quick")).args(arguments);
        story.heading(name);
        interrupt.run(&mut compare).await?;
        story.line(format_args!("every sample is in {}", report.display()));
    }
    Ok(())
}
