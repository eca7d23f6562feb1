//! Whether the sidecars are what a scratch image needs: static, and not larger than agreed.

use std::fs;
use std::io;
use std::path::PathBuf;

use claude_bottle::images::is_static;

use crate::build::Tree;
use crate::story::Story;

/// The largest that each sidecar may be, in bytes.
const CEILINGS: [(&str, u64); 3] =
    [("ssh-gate", 1_800_000), ("cred-proxy", 5_000_000), ("bottle-guest", 1_500_000)];

/// Why the sidecars will not do.
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    /// A binary is missing.
    #[error("could not read {}, which `cargo xtask build` makes", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// Some are too large, or need a dynamic loader.
    #[error("not as a sidecar must be: {}", names.join(", "))]
    Unfit {
        /// Which.
        names: Vec<&'static str>,
    },
}

/// Prints a line for each sidecar.
///
/// # Errors
///
/// One is missing, too large or not static.
pub fn sizes(tree: &Tree) -> Result<(), SizeError> {
    let story = Story::begin();
    let mut unfit = Vec::new();
    for (name, ceiling) in CEILINGS {
        let path = tree.sidecar(name);
        let binary = fs::read(&path).map_err(|source| SizeError::Read { path, source })?;
        let size = binary.len() as u64;
        let fixed = is_static(&binary, std::env::consts::ARCH);
        let linked = if fixed { "static" } else { "not static" };
        let fit = fixed && size <= ceiling;
        let (size, of) = (megabytes(size), megabytes(ceiling));
        let verdict = story.verdict(fit, if fit { "ok" } else { "NOT AS EXPECTED" });
        story.line(format_args!("{name:<14} {size} MB of at most {of} MB, {linked}: {verdict}"));
        if !fit {
            unfit.push(name);
        }
    }
    if unfit.is_empty() { Ok(()) } else { Err(SizeError::Unfit { names: unfit }) }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{:02}", bytes / 1_000_000, bytes % 1_000_000 / 10_000)
}
