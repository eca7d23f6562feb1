//! Removing every trace of a bottle: whatever carries its label, looked for again until nothing is left.
//!
//! The engine is asked what there is, rather than a list kept of what was made: an object whose
//! creation was answered too late, or to a launcher that is gone, carries the label all the same.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;

use crate::engine::{Container, Engine, EngineError, Network, ObjectKind};
use crate::labels::{self, Labels};
use crate::plan::Names;

/// What is to be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The bottle.
    pub instance: String,
    /// The label of its launcher: what another one made under that name is not removed.
    pub launcher: String,
    /// Objects whose creation was not answered: they may appear later.
    pub late: Vec<Named>,
}

/// An object by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Named {
    /// What it is.
    pub kind: ObjectKind,
    /// What it is called.
    pub name: String,
}

/// What was removed, and what was not.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Names of containers that are gone.
    pub containers: BTreeSet<String>,
    /// Names of networks that are gone.
    pub networks: BTreeSet<String>,
    /// What is still there.
    pub left: Vec<Left>,
}

/// An object that could not be removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Left {
    /// The engine refused.
    #[error("could not remove the {} {}", object.kind, object.name)]
    Object {
        /// Which.
        object: Named,
        /// Why.
        source: EngineError,
    },
    /// The engine did not answer its creation, and it did not appear yet.
    #[error("the {} {} may still appear: the engine did not answer its creation", .0.kind, .0.name)]
    Late(Named),
    /// The engine could not be asked what is left.
    #[error("could not look for what is left of the bottle {instance}")]
    Unknown {
        /// The bottle.
        instance: String,
        /// Why.
        source: EngineError,
    },
}

impl Left {
    /// The command that removes it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Object { object, .. } | Self::Late(object) => object.kind.removal(&object.name),
            Self::Unknown { instance, .. } => format!("claude-bottle stop {instance}"),
        }
    }
}

impl Scope {
    fn has(&self, name: &str, labels: &Labels) -> bool {
        Names::may_include(&self.instance, name) && labels::value(labels, labels::LAUNCHER) == self.launcher
    }
}

/// Looks that find something before giving up; each removes what it can.
const LOOKS: usize = 6;
/// Between a look that could not remove everything and the next.
const PAUSE: Duration = Duration::from_millis(150);
/// How long an object whose creation was not answered is waited for.
const LATE: Duration = Duration::from_secs(10);

/// Removes a bottle's containers, then its networks. Idempotent: what is missing is gone.
pub(crate) async fn teardown(engine: &impl Engine, scope: &Scope) -> Swept {
    let mut swept = Swept::default();
    sweep(engine, scope, &mut swept).await;
    // What was created late is removed as soon as it appears, else named.
    let begin = tokio::time::Instant::now();
    loop {
        let missing: Vec<_> = scope.late.iter().filter(|object| !swept.has(object)).cloned().collect();
        if missing.is_empty() {
            break;
        }
        if begin.elapsed() >= LATE {
            swept.left.extend(missing.into_iter().map(Left::Late));
            break;
        }
        tokio::time::sleep(PAUSE).await;
        sweep(engine, scope, &mut swept).await;
    }
    swept
}

async fn sweep(engine: &impl Engine, scope: &Scope, swept: &mut Swept) {
    for look in 0..LOOKS {
        if look > 1 {
            // The first look removes, the second sees that nothing is left; from here on something resists.
            tokio::time::sleep(PAUSE).await;
        }
        swept.left.clear();
        let (containers, networks) = match find(engine, scope).await {
            Ok(found) => found,
            Err(source) => {
                swept.left.push(Left::Unknown { instance: scope.instance.clone(), source });
                continue;
            }
        };
        if containers.is_empty() && networks.is_empty() {
            break;
        }
        remove(engine, containers, networks, swept).await;
    }
}

/// Removes containers, then networks.
pub(super) async fn remove(
    engine: &impl Engine,
    containers: Vec<Container>,
    networks: Vec<Network>,
    swept: &mut Swept,
) {
    let removed = join_all(containers.iter().map(|container| engine.remove_container(&container.id))).await;
    let names = containers.into_iter().map(|container| container.name);
    swept.note(ObjectKind::Container, names.zip(removed));
    let removed = join_all(networks.iter().map(|network| engine.remove_network(&network.id))).await;
    swept.note(ObjectKind::Network, networks.into_iter().map(|network| network.name).zip(removed));
}

impl Swept {
    fn has(&self, object: &Named) -> bool {
        match object.kind {
            ObjectKind::Network => self.networks.contains(&object.name),
            ObjectKind::Container | ObjectKind::Image => self.containers.contains(&object.name),
        }
    }

    fn note(&mut self, kind: ObjectKind, outcomes: impl Iterator<Item = (String, Result<(), EngineError>)>) {
        for (name, outcome) in outcomes {
            match outcome {
                Ok(()) if kind == ObjectKind::Network => drop(self.networks.insert(name)),
                Ok(()) => drop(self.containers.insert(name)),
                Err(source) => self.left.push(Left::Object { object: Named { kind, name }, source }),
            }
        }
    }

    /// Adds what another teardown did.
    pub(crate) fn extend(&mut self, other: Swept) {
        self.containers.extend(other.containers);
        self.networks.extend(other.networks);
        self.left.extend(other.left);
    }
}

/// Everything with the scope's labels.
async fn find(engine: &impl Engine, scope: &Scope) -> Result<(Vec<Container>, Vec<Network>), EngineError> {
    let of = format!("{}={}", labels::INSTANCE, scope.instance);
    let (containers, networks) = tokio::join!(engine.containers(Some(&of)), engine.networks(Some(&of)));
    let (mut containers, mut networks) = (containers?, networks?);
    containers.retain(|container| scope.has(&container.name, &container.labels));
    networks.retain(|network| scope.has(&network.name, &network.labels));
    Ok((containers, networks))
}
