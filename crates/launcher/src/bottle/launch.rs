//! Carrying out a plan: networks and images, sidecars and agent, each as soon as it can be, and all
//! of it removed again when one of them fails.

mod agent;
mod error;
mod networks;
mod pending;
mod sidecar;
mod steps;

use std::sync::{Mutex, PoisonError};

use futures_util::future::join_all;
use ipnet::Ipv4Net;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::owner::LauncherId;
use super::teardown::{Named, Scope, Swept, teardown};
use crate::engine::{ContainerId, ContainerSpec, Engine, NetworkId, ObjectKind};
use crate::host::Ground;
use crate::images::ensure_loaded;
use crate::plan::{Plan, Site, Specs};
use crate::secrets::Secrets;

pub(crate) use error::{LaunchError, Race};
pub(crate) use pending::Pending;
pub(crate) use sidecar::Running;
pub(crate) use steps::Watch;

/// A launched bottle.
#[derive(Debug)]
pub(crate) struct Bottle {
    /// What removes it.
    pub scope: Scope,
    /// The agent's container.
    pub agent: ContainerId,
    /// The subnet of its internal network.
    pub subnet: Ipv4Net,
    /// Its sidecars, with their lifelines: dropping one drains it.
    _sidecars: Vec<Running>,
    /// The path of the prompt's file in the container.
    pub prompt: String,
    /// What the user should know of this launch.
    pub warnings: Vec<String>,
    /// Why its isolation is in doubt.
    pub doubts: Vec<String>,
}

/// Why a launch failed, after it was undone.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Why.
    pub error: LaunchError,
    /// What was removed, and what could not be.
    pub swept: Swept,
}

/// What a launch needs beside the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Means<'a> {
    /// What is handed over.
    pub secrets: &'a Secrets,
    /// Where the networks may lie.
    pub ground: &'a Ground,
    /// Who launches.
    pub launcher: &'a LauncherId,
    /// Ends the launch.
    pub interrupt: &'a CancellationToken,
    /// Sees each step begin and end.
    pub watch: &'a dyn Watch,
    /// Whether an engine that reports that it does not isolate is accepted.
    pub unproved: bool,
    /// Knows what may still appear, when the launch is not waited for any more.
    pub pending: &'a Pending,
}

/// Launches the plan. On failure everything is removed again before this returns.
///
/// # Errors
/// [`Failed`] with the first step that failed.
pub(crate) async fn launch<E: Engine>(engine: &E, plan: &Plan, means: Means<'_>) -> Result<Bottle, Failed> {
    let launcher = means.launcher.to_string();
    let specs = Specs::new(plan, &launcher);
    let mut scope = Scope { instance: plan.instance.clone(), launcher, late: Vec::new() };
    let doubts = Mutex::new(plan.doubts());
    let launch = Launch { engine, plan, specs, means, doubts };
    match launch.all(&scope).await {
        Ok(bottle) => Ok(bottle),
        Err(error) => {
            scope.late = means.pending.objects();
            let swept = teardown(engine, &scope).await;
            means.pending.forget();
            Err(Failed { error, swept })
        }
    }
}

/// One launch under way. No step is cancelled in the middle of a call: the engine would finish it
/// after the teardown had looked. Instead each asks first whether to go on.
struct Launch<'a, E> {
    engine: &'a E,
    plan: &'a Plan,
    specs: Specs<'a>,
    means: Means<'a>,
    /// Why the bottle's isolation is in doubt.
    doubts: Mutex<Vec<String>>,
}

/// How often a container that others removed before its start is made again.
const PRUNED: usize = 5;

impl<E: Engine> Launch<'_, E> {
    async fn all(&self, scope: &Scope) -> Result<Bottle, LaunchError> {
        let missing = || LaunchError::NoImage(self.plan.image.name.clone());
        let image = self.plan.image.id.as_deref().ok_or_else(missing)?;
        let (site, images, guest) = tokio::join!(self.internal(), self.images(), self.guest());
        let (site, images, guest) = (site?, images?, guest?);
        self.go_on()?;
        // Engines give a container's name to one launcher only, and old ones a network's to several: who
        // has both has the bottle. Until then nothing else is made but the egress network.
        let (claimed, claim) = oneshot::channel();
        let agent = async {
            let created = self.agent_container(&site, image).await?;
            let _ = claimed.send(());
            self.agent(created, &site, image, &guest).await
        };
        let sidecars = async {
            let (egress, claim) = tokio::join!(self.egress(), claim);
            let (egress, ()) = (egress?, claim.map_err(|_| LaunchError::Abandoned)?);
            self.sidecars(&site, egress.as_ref(), &images).await
        };
        // Both run to their end, whatever happens to the other.
        let (agent, sidecars) = tokio::join!(agent, sidecars);
        let (prepared, sidecars) = match (agent, sidecars) {
            // Of two failures the one that caused the other.
            (Err(follows), Err(cause)) if follows.is_consequence() && !cause.is_consequence() => {
                return Err(cause);
            }
            (agent, sidecars) => (agent?, sidecars?),
        };
        let agent::Prepared { agent, prompt, warnings } = prepared;
        self.go_on()?;
        let doubts = std::mem::take(&mut *self.doubts.lock().unwrap_or_else(PoisonError::into_inner));
        let (scope, subnet) = (scope.clone(), site.subnet);
        Ok(Bottle { scope, agent, subnet, _sidecars: sidecars, prompt, warnings, doubts })
    }

    fn go_on(&self) -> Result<(), LaunchError> {
        if self.means.interrupt.is_cancelled() { Err(LaunchError::Interrupted) } else { Ok(()) }
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
        Ok(ensure_loaded(self.engine, &self.plan.guest.built).await?)
    }

    async fn sidecars(
        &self,
        site: &Site,
        egress: Option<&NetworkId>,
        images: &[String],
    ) -> Result<Vec<Running>, LaunchError> {
        let sidecars = self.plan.sidecars.iter().zip(images);
        let starts = sidecars.map(|(sidecar, image)| self.sidecar(sidecar, image, site, egress));
        join_all(starts).await.into_iter().collect()
    }

    /// Creates a container, by its kind and name for the error.
    async fn create(&self, spec: &ContainerSpec) -> Result<ContainerId, LaunchError> {
        let object = Named { kind: ObjectKind::Container, name: spec.name.clone() };
        self.means.pending.creation(object, self.engine.create_container(spec)).await
    }

    /// Makes a container and what must be done before it runs; again when others removed it in between,
    /// as `docker container prune` does with every container that does not run.
    async fn until_it_runs<T>(
        &self,
        make: impl AsyncFn() -> Result<T, LaunchError>,
    ) -> Result<T, LaunchError> {
        for _ in 1..PRUNED {
            match make().await {
                Err(error) if error.vanished() == Some(ObjectKind::Container) => self.go_on()?,
                made => return made,
            }
        }
        make().await
    }
}

#[cfg(test)]
mod tests;
