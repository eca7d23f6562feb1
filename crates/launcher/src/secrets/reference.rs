//! Where secrets are found: references, which can be printed.

use std::fmt;
use std::path::PathBuf;

/// A variable of the agent's environment. `Debug` does not print a literal: people write secrets there.
#[derive(Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// Written in the manifest.
    Literal(String),
    /// The value of a variable of this machine. It is visible to the agent.
    FromHost(String),
}

impl fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("Literal(..)"),
            Self::FromHost(name) => f.debug_tuple("FromHost").field(name).finish(),
        }
    }
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
            Self::File(path) => write!(f, "file:{}", crate::text::path(path)),
        }
    }
}

/// Everything secret that a bottle refers to, and its CAs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// Private keys, in the order of the SSH hosts.
    pub keys: Vec<KeyFile>,
    /// Tokens, in the order of the routes.
    pub tokens: Vec<TokenUse>,
    /// CA files of routes.
    pub cas: Vec<CaFile>,
    /// The agent's environment.
    pub env: std::collections::BTreeMap<String, EnvValue>,
}

/// A private key on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyFile {
    /// What it is for: `ssh host "github"`.
    pub user: String,
    /// Its path.
    pub path: PathBuf,
}

/// A token of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenUse {
    /// What it is for: `route /api/`.
    pub user: String,
    /// Its name in the proxy.
    pub name: String,
    /// Where it is found.
    pub reference: TokenRef,
    /// Whether it is redacted from responses.
    pub redact: bool,
}

/// A CA of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CaFile {
    /// What it is for: `route /api/`.
    pub user: String,
    /// Its path.
    pub path: PathBuf,
}
