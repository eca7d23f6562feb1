//! Why there is no manifest: sentences that name the value, never what may be a secret.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// None was found in these places.
    #[error("no manifest: looked for {}", .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and "))]
    Absent(Vec<PathBuf>),
    /// The file could not be read.
    #[error("could not read {file}")]
    Read {
        /// The file.
        file: String,
        /// The cause.
        source: io::Error,
    },
    /// Only regular files are read: opening a FIFO or a device may wait without end.
    #[error("{file}: expected a regular file, found {found}")]
    NotAFile {
        /// The file.
        file: String,
        /// What it is.
        found: &'static str,
    },
    /// The file is larger than any manifest.
    #[error("{file}: larger than 1 MiB")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// The text is wrong somewhere.
    #[error("{0}")]
    Fault(Fault),
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file.
    pub file: String,
    /// Line and column, from 1; `None` for what has no place in the text.
    pub place: Option<(usize, usize)>,
    /// The value, `bottles.dev.ssh[0].Port`; empty for the whole text.
    pub path: String,
    /// What was expected, and what was found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl Fault {
    /// The same fault with a sentence that says what to do.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl ManifestError {
    /// What to do about it, where something helps.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Absent(_) => {
                Some("write one, or name it with --manifest or CLAUDE_BOTTLE_MANIFEST".to_owned())
            }
            Self::NotAFile { .. } => Some("name the manifest's file with --manifest".to_owned()),
            Self::Fault(fault) => fault.hint.clone(),
            Self::Read { .. } | Self::TooLarge { .. } => None,
        }
    }
}
