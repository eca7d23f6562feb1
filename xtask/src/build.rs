//! Release binaries: the sidecars first, static, then the launcher with them inside.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::process::{Interrupt, ProcessError};

/// The sidecars, whose packages are called as their binaries.
pub const SIDECARS: [&str; 3] = ["ssh-gate", "cred-proxy", "bottle-guest"];

/// The checkout and what is built in it.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The folder of the workspace.
    pub root: PathBuf,
    /// cargo's target folder.
    pub target: PathBuf,
    /// The target of static binaries, e.g. `x86_64-unknown-linux-musl`.
    pub musl: String,
}

impl Tree {
    /// The checkout that this program was built from.
    pub fn find() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = root.parent().expect("xtask is a folder of the workspace").to_path_buf();
        let target = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
        let target = target.map_or_else(|| root.join("target"), |folder| root.join(folder));
        Self { root, target, musl: format!("{}-unknown-linux-musl", std::env::consts::ARCH) }
    }

    /// The launcher.
    pub fn launcher(&self) -> PathBuf {
        self.target.join("release/claude-bottle")
    }

    /// The folder of the static binaries.
    pub fn sidecar_folder(&self) -> PathBuf {
        self.target.join(&self.musl).join("release")
    }

    /// A static binary.
    pub fn sidecar(&self, name: &str) -> PathBuf {
        self.sidecar_folder().join(name)
    }

    /// cargo in this checkout, with the dependencies of the lock file.
    pub fn cargo(&self, subcommand: &[&str]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.root).args(subcommand).arg("--locked");
        forget_our_package(command.as_std_mut());
        command
    }
}

/// Removes the variables that `cargo run` sets about our own package: another cargo, and what it
/// builds, should not see them.
pub fn forget_our_package(command: &mut std::process::Command) {
    for (name, _) in std::env::vars_os() {
        let ours = name.to_string_lossy();
        if ours.starts_with("CARGO_PKG_") || ours.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
}

/// Builds the sidecars.
///
/// # Errors
///
/// cargo failed, and has printed the reason.
pub async fn sidecars(tree: &Tree, interrupt: &Interrupt) -> Result<(), ProcessError> {
    let mut cargo = tree.cargo(&["build"]);
    cargo.args(["--release", "--target", &tree.musl]);
    for name in SIDECARS {
        cargo.args(["--package", name]);
    }
    interrupt.run(&mut cargo).await
}

/// Builds the launcher, with the sidecars that [`sidecars`] built inside.
///
/// # Errors
///
/// cargo failed, and has printed the reason.
pub async fn launcher(tree: &Tree, interrupt: &Interrupt) -> Result<(), ProcessError> {
    let mut cargo = tree.cargo(&["build"]);
    cargo.args(["--release", "--package", "claude-bottle"]).env("CLAUDE_BOTTLE_SIDECARS", &tree.target);
    if let Some(revision) = revision(tree).await {
        cargo.env("CLAUDE_BOTTLE_REVISION", revision);
    }
    interrupt.run(&mut cargo).await
}

/// The commit of the checkout, for the images' labels, with `-dirty` when files differ from it; `None`
/// where there is no git or no repository.
async fn revision(tree: &Tree) -> Option<String> {
    let mut git = Command::new("git");
    // Also where the checkout is somebody else's, as in a container that has it mounted.
    git.args(["-c", "safe.directory=*", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]);
    git.current_dir(&tree.root);
    let answer = git.stdin(Stdio::null()).stderr(Stdio::null()).output().await.ok()?;
    let revision = String::from_utf8(answer.stdout).ok()?;
    (answer.status.success() && !revision.trim().is_empty()).then(|| revision.trim().to_owned())
}

/// Builds everything that the demo and the tests run: besides the above the scene's API.
///
/// # Errors
///
/// cargo failed, and has printed the reason.
pub async fn everything(tree: &Tree, interrupt: &Interrupt) -> Result<(), ProcessError> {
    sidecars(tree, interrupt).await?;
    launcher(tree, interrupt).await?;
    // By itself, so that its features do not become the sidecars'.
    let mut cargo = tree.cargo(&["build"]);
    cargo.args(["--release", "--target", &tree.musl, "--package", "testbed", "--bin", "demo-api"]);
    interrupt.run(&mut cargo).await
}
