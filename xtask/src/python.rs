//! The Python packages that cred-proxy's tests use as clients: pinned, in an environment of their own.
//!
//! The environment is in the target folder, and is created again when `requirements.txt` has changed.
//! Each package is a wheel whose hash is pinned there, so nothing is built.

use std::io;
use std::path::PathBuf;

use tokio::process::Command;

use crate::build::Tree;
use crate::prerequisites::{self, Consent, PrerequisiteError};
use crate::process::{Interrupt, ProcessError};

/// Why the packages are missing.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// Python is missing on this machine.
    #[error(transparent)]
    Prerequisite(#[from] PrerequisiteError),
    /// Python or pip failed and has printed the reason, or we were interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The environment's folder cannot be read or written.
    #[error("could not replace the folder `{}`", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// The system error.
        source: io::Error,
    },
}

/// Creates the environment, unless it exists and is up to date.
///
/// # Errors
///
/// [`PythonError`].
pub async fn environment(tree: &Tree, consent: Consent, interrupt: &Interrupt) -> Result<(), PythonError> {
    let folder = tree.target.join("python");
    let wanted = tree.root.join("crates/cred-proxy/tests/clients/requirements.txt");
    let stamp = folder.join("requirements.txt");
    let cannot = |source| PythonError::Folder { folder: folder.clone(), source };
    let text = std::fs::read_to_string(&wanted).map_err(cannot)?;
    if std::fs::read_to_string(&stamp).is_ok_and(|made_of| made_of == text) {
        return Ok(());
    }
    prerequisites::for_python(consent, interrupt).await?;
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
        _ => {}
    }
    interrupt.run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).await?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check", "install"]);
    pip.args(["--require-hashes", "--only-binary", ":all:", "--requirement"]).arg(&wanted);
    interrupt.run(&mut pip).await?;
    std::fs::write(&stamp, text).map_err(cannot)
}
