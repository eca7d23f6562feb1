//! The bottles that an engine has, found by their labels and completed by their state files.

use std::collections::BTreeMap;

use crate::engine::{Container, Engine, EngineError, Network};
use crate::labels::{self, Labels};
use crate::plan::Names;

use super::owner::LauncherId;
use super::state::{Folder, State};
use super::teardown::Scope;

/// A bottle that this or another process launched.
#[derive(Debug, Clone)]
pub(crate) struct BottleRef {
    /// Its name.
    pub instance: String,
    /// The label of its launcher.
    pub launcher: String,
    /// The agent's container.
    pub agent: Option<Container>,
    /// Its other containers.
    pub others: Vec<Container>,
    /// Its networks.
    pub networks: Vec<Network>,
    /// What its launcher wrote down, if that was on this machine.
    pub state: Option<State>,
}

impl BottleRef {
    /// The process that launched it; `None` when the label is not one of ours.
    pub(crate) fn owner(&self) -> Option<LauncherId> {
        self.launcher.parse().ok()
    }

    /// Whether its launcher lives, or cannot be told from one that does.
    pub(crate) fn is_alive(&self) -> bool {
        self.owner().is_none_or(|owner| owner.alive())
    }

    /// What removes it.
    pub(crate) fn scope(&self) -> Scope {
        Scope { instance: self.instance.clone(), launcher: self.launcher.clone(), late: Vec::new() }
    }

    /// Whether a user means this bottle by that name: its instance, or its container's name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.instance == name || self.agent.as_ref().is_some_and(|agent| agent.name == name)
    }

    /// The labels of any of its objects.
    pub(crate) fn label(&self, key: &str) -> &str {
        self.agent.as_ref().map_or("", |agent| labels::value(&agent.labels, key))
    }

    /// The names of its containers.
    pub(crate) fn containers(&self) -> impl Iterator<Item = &str> {
        self.agent.iter().chain(&self.others).map(|container| container.name.as_str())
    }
}

/// All bottles, by name.
///
/// # Errors
/// The engine's.
pub(crate) async fn bottles(
    engine: &impl Engine,
    states: Option<&Folder>,
) -> Result<Vec<BottleRef>, EngineError> {
    let of = Some(labels::INSTANCE);
    let (containers, networks) = tokio::join!(engine.containers(of), engine.networks(of));
    let mut found = BTreeMap::<(String, String), BottleRef>::new();
    let is_ours = |name: &str, of: &Labels| Names::may_include(labels::value(of, labels::INSTANCE), name);
    for container in containers?.into_iter().filter(|one| is_ours(&one.name, &one.labels)) {
        let bottle = entry(&mut found, &container.labels);
        if labels::value(&container.labels, labels::ROLE) == "agent" {
            bottle.state = states.and_then(|states| states.read(&container.id));
            bottle.agent = Some(container);
        } else {
            bottle.others.push(container);
        }
    }
    for network in networks?.into_iter().filter(|one| is_ours(&one.name, &one.labels)) {
        entry(&mut found, &network.labels).networks.push(network);
    }
    for bottle in found.values_mut() {
        bottle.others.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(found.into_values().collect())
}

fn entry<'m>(found: &'m mut BTreeMap<(String, String), BottleRef>, of: &Labels) -> &'m mut BottleRef {
    let (instance, launcher) = (labels::value(of, labels::INSTANCE), labels::value(of, labels::LAUNCHER));
    found.entry((instance.to_owned(), launcher.to_owned())).or_insert_with(|| BottleRef {
        instance: instance.to_owned(),
        launcher: launcher.to_owned(),
        agent: None,
        others: Vec::new(),
        networks: Vec::new(),
        state: None,
    })
}
