//! Where secrets are found: references, which can be printed.

use std::fmt;
use std::path::PathBuf;

/// A variable of the agent's environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// Written in the manifest.
    Literal(String),
    /// That of a variable of this machine: the agent holds it.
    FromHost(String),
}

/// Where a token is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenRef {
    /// In a variable of this machine.
    Env(String),
    /// In a file of this machine, by its absolute path.
    File(PathBuf),
}

impl fmt::Display for TokenRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}
