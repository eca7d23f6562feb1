//! Removing every trace of a bottle: whatever carries its label, looked for again until nothing is there.
//!
//! The engine is asked what there is, rather than a list kept of what was made: an object whose
//! creation was answered too late, or to a launcher that is gone, carries the label all the same.

use std::time::Duration;

use futures_util::future::join_all;

use crate::engine::{Container, Engine, EngineError, Network};
use crate::plan::names::label;

/// What is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The bottle.
    pub instance: String,
    /// Only what this launcher made; `None` is everyone's.
    pub launcher: Option<String>,
}

/// What was removed, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Names of containers that are gone.
    pub containers: Vec<String>,
    /// Names of networks that are gone.
    pub networks: Vec<String>,
    /// What is still there.
    pub left: Vec<Left>,
}

/// An object that could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("could not remove the {kind} {name}")]
pub(crate) struct Left {
    kind: &'static str,
    name: String,
    source: EngineError,
}

impl Left {
    /// The command that removes it.
    pub(crate) fn remedy(&self) -> String {
        match self.kind {
            "container" => format!("docker rm -f {}", self.name),
            "network" => format!("docker network rm {}", self.name),
            _ => "claude-bottle cleanup".to_owned(),
        }
    }
}

/// Looks that find something before giving up; each removes what it can.
const LOOKS: usize = 6;
/// Between a look that could not remove everything and the next.
const PAUSE: Duration = Duration::from_millis(150);

/// Removes a bottle's containers, then its networks. Idempotent: what is missing is gone.
pub(crate) async fn teardown(engine: &impl Engine, scope: &Scope) -> Swept {
    let mut swept = Swept::default();
    for look in 0..LOOKS {
        if look > 1 {
            // The first look removes, the second sees that nothing is left; from here on something resists.
            tokio::time::sleep(PAUSE).await;
        }
        swept.left.clear();
        let (containers, networks) = match find(engine, scope).await {
            Ok(found) => found,
            Err(source) => {
                swept.left.push(Left { kind: "bottle", name: scope.instance.clone(), source });
                continue;
            }
        };
        if containers.is_empty() && networks.is_empty() {
            break;
        }
        // The agent first goes with the others: nothing is drained for a bottle that ends.
        let removed =
            join_all(containers.iter().map(|container| engine.remove_container(&container.id))).await;
        note(&mut swept, "container", containers.into_iter().map(|container| container.name), removed);
        let removed = join_all(networks.iter().map(|network| engine.remove_network(&network.id))).await;
        note(&mut swept, "network", networks.into_iter().map(|network| network.name), removed);
    }
    swept
}

fn note(
    swept: &mut Swept,
    kind: &'static str,
    names: impl Iterator<Item = String>,
    outcomes: Vec<Result<(), EngineError>>,
) {
    for (name, outcome) in names.zip(outcomes) {
        let gone = if kind == "container" { &mut swept.containers } else { &mut swept.networks };
        match outcome {
            Ok(()) if !gone.contains(&name) => gone.push(name),
            Ok(()) => {}
            Err(source) => swept.left.push(Left { kind, name, source }),
        }
    }
}

/// Everything with the scope's labels.
async fn find(engine: &impl Engine, scope: &Scope) -> Result<(Vec<Container>, Vec<Network>), EngineError> {
    let of = format!("{}={}", label::INSTANCE, scope.instance);
    let (containers, networks) = tokio::join!(engine.containers(Some(&of)), engine.networks(Some(&of)));
    let (mut containers, mut networks) = (containers?, networks?);
    if let Some(launcher) = &scope.launcher {
        let own = |labels: &std::collections::BTreeMap<String, String>| {
            labels.get(label::LAUNCHER) == Some(launcher)
        };
        containers.retain(|container| own(&container.labels));
        networks.retain(|network| own(&network.labels));
    }
    Ok((containers, networks))
}
