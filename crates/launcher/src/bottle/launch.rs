//! Carrying out a plan: networks and images, sidecars and agent, each as soon as it can be, and all
//! of it walked back when one of them fails.

mod agent;
mod sidecar;
mod subnet;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::bottle::owner::LauncherId;
use crate::bottle::provision::ProvisionError;
use crate::bottle::teardown::{Scope, Swept, teardown};
use crate::cli::failure::{Failure, Kind};
use crate::engine::{ContainerId, Engine, EngineError, NetworkId, Streams};
use crate::images::{ImagesError, ensure_loaded};
use crate::plan::Plan;
use crate::plan::names::Labels;
use crate::secrets::Secrets;

pub(crate) use sidecar::Running;

/// A launched bottle.
#[derive(Debug)]
pub(crate) struct Bottle {
    /// What removes it.
    pub scope: Scope,
    /// The agent's container.
    pub agent: ContainerId,
    /// Its sidecars, with their lifelines: dropping one drains it.
    pub sidecars: Vec<Running>,
    /// The path of the prompt's file in there.
    pub prompt: String,
    /// What the user should know of this launch.
    pub warnings: Vec<String>,
}

/// Why a launch failed, after it was walked back.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Why.
    pub error: LaunchError,
    /// What the walk back removed, and what it could not.
    pub swept: Swept,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// The engine refused it.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An image could not be had.
    #[error(transparent)]
    Images(#[from] ImagesError),
    /// A sidecar did not say that it is ready.
    #[error("the sidecar {role} did not become ready: {said}")]
    NotReady {
        /// Which.
        role: &'static str,
        /// What it said instead.
        said: String,
    },
    /// The agent's container could not be prepared.
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    /// The user or a signal ended it.
    #[error("interrupted")]
    Interrupted,
    /// The plan lacks what a launch needs; it was not for launching.
    #[error("the engine does not have the image {0}")]
    NoImage(String),
}

/// What someone else did between our plan and its launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Race<'a> {
    /// Took this name.
    Name(&'a str),
    /// Removed something that the plan relies on.
    Vanished,
}

impl LaunchError {
    /// Whether planning anew may help.
    pub(crate) fn race(&self) -> Option<Race<'_>> {
        match self {
            Self::Engine(EngineError::NameTaken { name, .. }) => Some(Race::Name(name)),
            // A container that is gone was removed on purpose: `stop` means it.
            Self::Engine(EngineError::NotFound { message, .. }) if !message.contains("No such container") => {
                Some(Race::Vanished)
            }
            _ => None,
        }
    }
}

impl From<LaunchError> for Failure {
    fn from(error: LaunchError) -> Self {
        match error {
            LaunchError::Engine(error) => error.into(),
            LaunchError::Images(error) => error.into(),
            LaunchError::Provision(error) => error.into(),
            LaunchError::NotReady { .. } => Self::new(Kind::NotReady, error),
            LaunchError::Interrupted => Self::new(Kind::Interrupted, error),
            LaunchError::NoImage(_) => no_image(error),
        }
    }
}

/// The agent's image is missing: says how to get one.
pub(crate) fn no_image(error: LaunchError) -> Failure {
    Failure::new(Kind::Engine, error)
        .hint("build it with `docker build -t NAME images/agent`, load it with `docker load`, or name another with CLAUDE_BOTTLE_IMAGE")
}

/// Launches the plan. On failure everything is removed again before this returns.
///
/// # Errors
/// [`Failed`] with the first step that failed.
pub(crate) async fn launch<E: Engine>(
    engine: &E,
    plan: &Plan,
    secrets: &Secrets,
    launcher: &LauncherId,
    interrupt: &CancellationToken,
) -> Result<Bottle, Failed> {
    let scope = Scope { instance: plan.instance.clone(), launcher: Some(launcher.to_string()) };
    let labels = Labels::new(&plan.instance, &plan.agent, plan.mode.as_str(), &plan.hash, launcher);
    let walk = Walk { engine, plan, secrets, labels, interrupt };
    match walk.all(scope.clone()).await {
        Ok(bottle) => Ok(bottle),
        Err(error) => Err(Failed { error, swept: teardown(engine, &scope).await }),
    }
}

/// For how long another launcher may be removing networks with the names of ours.
const AMBIGUOUS: Duration = Duration::from_secs(15);
/// Between two looks whether it has.
const AMBIGUOUS_PAUSE: Duration = Duration::from_millis(100);

/// One launch under way. No step is cancelled in the middle of a call: the engine would finish it
/// after the walk back had looked. Instead each asks first whether to go on.
struct Walk<'a, E> {
    engine: &'a E,
    plan: &'a Plan,
    secrets: &'a Secrets,
    labels: Labels,
    interrupt: &'a CancellationToken,
}

/// The networks of a bottle.
struct Networks {
    internal: NetworkId,
    addresses: subnet::Addresses,
    egress: Option<NetworkId>,
}

impl<E: Engine> Walk<'_, E> {
    async fn all(&self, scope: Scope) -> Result<Bottle, LaunchError> {
        let image = self
            .plan
            .image
            .id
            .as_deref()
            .ok_or_else(|| LaunchError::NoImage(self.plan.image.name.clone()))?;
        let (networks, images, guest) = tokio::join!(self.networks(), self.images(), self.guest());
        let (networks, images, guest) = (networks?, images?, guest?);
        self.go_on()?;
        // Engines give a container's name to one launcher only: whoever has the agent's has the bottle.
        let agent = self.agent_container(&networks, image).await?;
        self.go_on()?;
        // Both run to their end, whatever becomes of the other.
        let (sidecars, agent) = tokio::join!(self.sidecars(&networks, &images), self.agent(agent, &guest));
        let (sidecars, agent::Prepared { agent, prompt, warnings }) = (sidecars?, agent?);
        self.go_on()?;
        Ok(Bottle { scope, agent, sidecars, prompt, warnings })
    }

    fn go_on(&self) -> Result<(), LaunchError> {
        if self.interrupt.is_cancelled() { Err(LaunchError::Interrupted) } else { Ok(()) }
    }

    async fn networks(&self) -> Result<Networks, LaunchError> {
        let egress = async {
            match self.plan.networks.get(1) {
                None => Ok(None),
                Some(network) if network.external => Ok(self.plan.external_network.clone()),
                Some(network) => self.network(&network.name, false).await.map(|(id, _)| Some(id)),
            }
        };
        let internal = self.plan.names.internal();
        let (internal, egress) = tokio::join!(self.network(&internal, true), egress);
        let ((internal, subnet), egress) = (internal?, egress?);
        Ok(Networks { internal, addresses: subnet::Addresses::of(subnet), egress })
    }

    /// Starts a created container, with `attach` joined to its streams beforehand.
    ///
    /// Engine 20.10 lets two networks have one name, and then starts nothing on either. We have the
    /// agent's name, so the other launcher has lost it, and is removing its own.
    async fn start(&self, id: &ContainerId, attach: bool) -> Result<Option<Streams>, LaunchError> {
        let begin = Instant::now();
        loop {
            // A start that fails ends the streams.
            let streams = if attach { Some(self.engine.attach(id).await?) } else { None };
            match self.engine.start(id).await {
                Ok(()) => return Ok(streams),
                Err(EngineError::Refused { message, .. })
                    if message.contains("is ambiguous") && begin.elapsed() < AMBIGUOUS =>
                {
                    self.go_on()?;
                    tokio::time::sleep(AMBIGUOUS_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn images(&self) -> Result<Vec<String>, LaunchError> {
        let mut ids = Vec::new();
        for sidecar in &self.plan.sidecars {
            self.go_on()?;
            ids.push(ensure_loaded(self.engine, &sidecar.built).await?);
        }
        Ok(ids)
    }

    async fn guest(&self) -> Result<String, LaunchError> {
        Ok(ensure_loaded(self.engine, &self.plan.guest).await?)
    }

    async fn sidecars(&self, networks: &Networks, images: &[String]) -> Result<Vec<Running>, LaunchError> {
        let starts = self
            .plan
            .sidecars
            .iter()
            .zip(images)
            .map(|(sidecar, image)| self.sidecar(sidecar, image, networks));
        futures_util::future::join_all(starts).await.into_iter().collect()
    }
}

#[cfg(test)]
mod tests;
