//! Why a launch fails, and what that means for another try.

use crate::bottle::provision::ProvisionError;
use crate::bottle::teardown::Named;
use crate::engine::{EngineError, ObjectKind};
use crate::images::ImagesError;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The engine refused it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine did not answer a creation: the object may appear later.
    #[error("could not create the {} {}", object.kind, object.name)]
    Unanswered {
        /// The object.
        object: Named,
        /// How the answer was lost.
        #[source]
        source: EngineError,
    },
    /// An image could not be loaded.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// No subnet is free.
    #[error("no free subnet: tried {0}")]
    NoSubnet(
        /// The pools, each with what is in the way.
        String,
    ),
    /// The engine says that it does not isolate a network as asked.
    #[error("the engine cannot isolate the network {network}: {warning}")]
    Unproved {
        /// Which.
        network: String,
        /// The engine's own words.
        warning: String,
    },
    /// A sidecar did not become ready.
    #[error("the sidecar {role} did not become ready: {said}")]
    NotReady {
        /// Which.
        role: &'static str,
        /// What it printed instead.
        said: String,
    },
    /// A sidecar's bundle is too long.
    #[error("could not hand over the table of {role}")]
    Bundle {
        /// Which.
        role: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The agent's network could not be sealed.
    #[error("could not delete the default routes of the agent's network: {said}")]
    Seal {
        /// What the seal printed.
        said: String,
    },
    /// The agent's container could not be prepared.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The user or a signal ended it.
    #[error("interrupted")]
    Interrupted,
    /// Another step failed.
    #[error("another step of the launch failed")]
    Abandoned,
    /// The user's own network is missing.
    #[error("the engine no longer has the network {0}")]
    NoNetwork(String),
    /// The agent's image is missing.
    #[error("the engine does not have the image {0}")]
    NoImage(String),
}

/// What someone else did between our plan and its launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Race {
    /// Took this name.
    Name(Named),
    /// Removed a network whose containers did not run yet.
    Network,
}

impl LaunchError {
    /// The error of a creation.
    pub(super) fn of(error: EngineError, object: Named) -> Self {
        match error {
            EngineError::Timeout { .. } | EngineError::Broken { .. } => {
                Self::Unanswered { object, source: error }
            }
            error => Self::Engine(error),
        }
    }

    /// Whether another try may help.
    pub(crate) fn race(&self) -> Option<Race> {
        match self {
            Self::Engine(EngineError::NameTaken { kind, name }) => {
                Some(Race::Name(Named { kind: *kind, name: name.clone() }))
            }
            error if error.vanished() == Some(ObjectKind::Network) => Some(Race::Network),
            _ => None,
        }
    }

    /// What the engine no longer has.
    pub(super) fn vanished(&self) -> Option<ObjectKind> {
        match self {
            Self::Engine(error) | Self::Provision(ProvisionError::Engine(error)) => error.missing(),
            _ => None,
        }
    }

    /// Whether it only follows from another failure.
    pub(super) fn is_consequence(&self) -> bool {
        matches!(self, Self::Abandoned | Self::Interrupted)
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) | Self::Unanswered { source: error, .. } => error.hint(),
            Self::Images(error) => error.hint(),
            Self::Provision(error) => error.hint(),
            Self::NoSubnet(_) => Some(
                "set CLAUDE_BOTTLE_SUBNETS to a free range, or remove unused networks with `docker network prune`"
                    .to_owned(),
            ),
            Self::Unproved { .. } => {
                Some("use Docker Engine 20.10 or newer, or accept the risk with --unproved-engine".to_owned())
            }
            Self::Bundle { .. } => Some("shorten the tables or the CA files of the bottle".to_owned()),
            Self::NoImage(_) => Some(
                "build it with `docker build -t NAME images/agent`, load it with `docker load`, or set CLAUDE_BOTTLE_IMAGE"
                    .to_owned(),
            ),
            Self::NoNetwork(name) => Some(format!("create it with `docker network create {name}`")),
            Self::NotReady { .. } | Self::Seal { .. } | Self::Interrupted | Self::Abandoned => None,
        }
    }
}
