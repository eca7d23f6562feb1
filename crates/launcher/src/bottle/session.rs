//! From an agreed plan to a bottle that ran and is gone: launched, launched again under another name
//! where someone else was faster, run in, written down, and torn down.

use std::io;
use std::time::SystemTime;

use super::claim::Claim;
use super::launch::{Bottle, LaunchError, Means, Race, launch};
use super::state::{Ended, Folder, State};
use super::teardown::{Named, Swept};
use crate::engine::{Engine, ObjectKind};
use crate::host::{Taken, TakenBy, taken};
use crate::plan::{NameError, Names, Plan};

/// Every name of an agent is tried once: from the plain one to -99.
const NAMES: usize = 98;
/// Networks that others remove before their containers run; more than this is no accident.
const VANISHED: usize = 5;

/// Why there is no bottle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// A step failed.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// No other name is free.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Launches a plan on the engine at that address. What was agreed to is what runs: a name lost to a race
/// changes names and subnets only, and nothing is planned, asked or read twice. What had to be removed on
/// the way is passed to `removed`.
///
/// # Errors
/// [`SessionError`]; everything is removed again then.
pub(crate) async fn launched<E: Engine>(
    engine: &E,
    address: &str,
    plan: &mut Plan,
    pinned: Option<&str>,
    means: Means<'_>,
    mut removed: impl FnMut(&Swept),
) -> Result<Bottle, SessionError> {
    let mut lost = Vec::<Named>::new();
    let mut vanished = 0;
    // Since the plan was made the user may have thought about it for hours.
    let in_use = taken(engine).await.map_err(LaunchError::Engine)?;
    let mut claim = match Claim::of(address, &plan.names.instance) {
        Some(claim) if plan.names.are_free(&in_use) => Some(claim),
        _ => next_name(plan, address, pinned, &in_use)?,
    };
    loop {
        let failed = match launch(engine, plan, means).await {
            Ok(bottle) => return Ok(bottle),
            Err(failed) => failed,
        };
        removed(&failed.swept);
        match failed.error.race() {
            Some(Race::Name(object)) if lost.len() < NAMES => {
                let mut in_use = taken(engine).await.map_err(LaunchError::Engine)?;
                lost.push(object);
                for Named { kind, name } in &lost {
                    in_use.entry(name.clone()).or_insert(TakenBy { kind: *kind, ours: false });
                }
                drop(claim.take());
                claim = next_name(plan, address, pinned, &in_use)?;
            }
            Some(Race::Network) if vanished < VANISHED => {
                vanished += 1;
                // The bottle's own are made again, the user's is not ours to make.
                if let Some((id, name)) = plan.external_network()
                    && engine.network(&id.0).await.map_err(LaunchError::Engine)?.is_none()
                {
                    return Err(LaunchError::NoNetwork(name.to_owned()).into());
                }
            }
            _ => return Err(failed.error.into()),
        }
        if means.interrupt.is_cancelled() {
            return Err(LaunchError::Interrupted.into());
        }
    }
}

/// Gives the plan the first name that is free on the engine, and that no other launcher of this machine
/// is about to take.
fn next_name(
    plan: &mut Plan,
    address: &str,
    pinned: Option<&str>,
    in_use: &Taken,
) -> Result<Option<Claim>, NameError> {
    let first = Names::pick(&plan.agent, pinned, in_use)?;
    let free = Names::free(&plan.agent, in_use).filter(|_| pinned.is_none());
    let claimed = free.into_iter().find_map(|names| Some((Claim::of(address, &names.instance)?, names)));
    // Claims are a courtesy: without one the engine decides.
    let (claim, names) = claimed.map_or((None, first), |(claim, names)| (Some(claim), names));
    plan.rename(names);
    Ok(claim)
}

/// What becomes of a launched bottle, for `list` and for commands that find it later.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// Where it is written; `None` where there is no such place.
    folder: Option<&'a Folder>,
    state: State,
}

impl<'a> Record<'a> {
    /// The record of a launched bottle, not written yet.
    pub(crate) async fn of(
        folder: Option<&'a Folder>,
        engine: &impl Engine,
        address: String,
        plan: &Plan,
        bottle: &Bottle,
    ) -> Self {
        let container = engine.container(&bottle.agent.0).await.ok().flatten();
        let state = State {
            version: 1,
            instance: plan.instance.clone(),
            container: bottle.agent.0.clone(),
            started: container.and_then(|container| container.started),
            engine: address,
            keeper: bottle.scope.launcher.clone(),
            manifest: plan.manifest.clone(),
            plan: serde_json::to_value(plan).unwrap_or_default(),
            mode: plan.mode.as_str().to_owned(),
            subnet: bottle.subnet.to_string(),
            verified: None,
            warnings: bottle.doubts.clone(),
            result: None,
        };
        Self { folder, state }
    }

    /// Notes how it ended.
    pub(crate) fn end(&mut self, exit_code: u8) {
        let ended = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        self.state.result = Some(Ended { ended, exit_code });
    }

    /// Writes it down. A bottle lives without: its labels say most of it.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write(&self) -> io::Result<()> {
        self.folder.map_or(Ok(()), |folder| folder.write(&self.state))
    }
}

/// The objects of a plan, for a launcher that cannot wait until they are removed.
pub(crate) fn objects(plan: &Plan) -> Vec<Named> {
    let container = |name: String| Named { kind: ObjectKind::Container, name };
    let networks = plan.networks.iter().filter(|network| !network.external);
    let networks = networks.map(|network| Named { kind: ObjectKind::Network, name: network.name.clone() });
    let mut objects = vec![container(plan.agent_container.name.clone())];
    objects.extend(plan.sidecars.iter().map(|sidecar| container(sidecar.name.clone())));
    objects.push(container(plan.names.seal()));
    objects.extend(networks);
    objects
}
