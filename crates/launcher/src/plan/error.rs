//! Why there is no plan, and what to do about it.

use super::names::NameError;
use crate::sidecars::TableError;

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    /// The manifest has no such agent.
    #[error("agent {name:?} not found in the manifest")]
    NoAgent {
        /// The name asked for.
        name: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// No name is free.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The engine has no such network.
    #[error("bottles.{bottle}.egress_network: network {name} not found")]
    NoNetwork {
        /// The bottle.
        bottle: String,
        /// The network.
        name: String,
    },
    /// The engine has no such runtime.
    #[error("CLAUDE_BOTTLE_RUNTIME: the engine does not have the runtime {0}")]
    NoRuntime(&'static str),
    /// The agent would be root beside the ssh keys.
    #[error("the agent's user {0:?} is root, which could read the keys in the ssh-agent's memory")]
    Root(String),
    /// Rows or routes that exclude each other.
    #[error("bottles.{bottle}")]
    Table {
        /// The bottle.
        bottle: String,
        /// Which.
        source: TableError,
    },
    /// The image of a sidecar is missing.
    #[error("the launcher does not carry the image of {0}")]
    NoImage(&'static str),
}

impl PlanError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoAgent { known, .. } if !known.is_empty() => {
                Some(format!("the manifest has {}", known.join(", ")))
            }
            Self::Name(error) => error.hint(),
            Self::NoNetwork { name, .. } => Some(format!("create it with `docker network create {name}`")),
            Self::Root(_) => Some("set another `user` in the manifest, or remove `ssh`".to_owned()),
            Self::NoRuntime(_) => Some("install gVisor, or set CLAUDE_BOTTLE_RUNTIME=runc".to_owned()),
            Self::NoAgent { .. } | Self::Table { .. } | Self::NoImage(_) => None,
        }
    }
}
