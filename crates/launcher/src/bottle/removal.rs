//! Removing bottles that another process launched: one by its name, or all whose launcher is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::{Container, Engine, EngineError, Network};
use crate::labels;

use super::find::{BottleRef, bottles};
use super::teardown::{Swept, remove, teardown};

/// How long a launcher may take to end its bottle.
const END: Duration = Duration::from_secs(30);

/// Ends and removes a bottle by its instance or its container's name; `None` when there is none.
///
/// A launcher that can be asked from here ends first, so that it does not create again what is removed.
///
/// # Errors
/// The engine's.
pub(crate) async fn stop(engine: &impl Engine, name: &str) -> Result<Option<Swept>, EngineError> {
    let mut swept = None;
    for bottle in bottles(engine, None).await?.into_iter().filter(|bottle| bottle.is_called(name)) {
        if let Some(owner) = bottle.owner().filter(super::owner::LauncherId::alive) {
            owner.end(END).await;
        }
        swept.get_or_insert_with(Swept::default).extend(teardown(engine, &bottle.scope()).await);
    }
    Ok(swept)
}

/// What `cleanup` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Bottles whose launcher is gone.
    Orphans,
    /// Living ones too, and whatever else has a name of ours.
    All,
}

/// What there is to remove.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    bottles: Vec<BottleRef>,
    containers: Vec<Container>,
    networks: Vec<Network>,
}

impl Remains {
    /// The names of containers.
    pub(crate) fn containers(&self) -> BTreeSet<String> {
        let labelled = self.bottles.iter().flat_map(BottleRef::containers).map(str::to_owned);
        labelled.chain(self.containers.iter().map(|container| container.name.clone())).collect()
    }

    /// The names of networks.
    pub(crate) fn networks(&self) -> BTreeSet<String> {
        let labelled = self.bottles.iter().flat_map(|bottle| &bottle.networks);
        labelled.chain(&self.networks).map(|network| network.name.clone()).collect()
    }

    /// Leaves out what lives or is not labelled, unless it was there when these were looked for.
    fn agreed(&mut self, shown: &Self) {
        let known = |bottle: &BottleRef| {
            shown.bottles.iter().any(|one| one.instance == bottle.instance && one.launcher == bottle.launcher)
        };
        self.bottles.retain(|bottle| known(bottle) || !bottle.is_alive());
        self.containers.retain(|one| shown.containers.iter().any(|shown| shown.id == one.id));
        self.networks.retain(|one| shown.networks.iter().any(|shown| shown.id == one.id));
    }

    fn is_empty(&self) -> bool {
        self.bottles.is_empty() && self.containers.is_empty() && self.networks.is_empty()
    }
}

/// Looks for what there is to remove.
///
/// # Errors
/// The engine's.
pub(crate) async fn remains(engine: &impl Engine, which: Which) -> Result<Remains, EngineError> {
    let mut remains = Remains { bottles: bottles(engine, None).await?, ..Remains::default() };
    match which {
        Which::Orphans => remains.bottles.retain(|bottle| !bottle.is_alive()),
        Which::All => {
            let (containers, networks) = tokio::join!(engine.containers(None), engine.networks(None));
            let foreign = |name: &str, of: &labels::Labels| {
                name.starts_with(labels::PREFIX) && !of.contains_key(labels::INSTANCE)
            };
            remains.containers = containers?;
            remains.containers.retain(|container| foreign(&container.name, &container.labels));
            remains.networks = networks?;
            remains.networks.retain(|network| foreign(&network.name, &network.labels));
        }
    }
    Ok(remains)
}

/// After `kill -9` the engine still completes the request in flight: a look that finds nothing is
/// followed by another one after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(400);
/// Looks before giving up.
const LOOKS: usize = 8;

/// Removes what there is, and looks again until nothing is left. Where the user was shown what that is
/// before agreeing, nothing else that lives.
///
/// # Errors
/// The engine's.
pub(crate) async fn cleanup(
    engine: &impl Engine,
    which: Which,
    shown: Option<&Remains>,
) -> Result<Swept, EngineError> {
    let mut swept = Swept::default();
    let mut quiet = 0;
    for _ in 0..LOOKS {
        let mut remains = remains(engine, which).await?;
        if let Some(shown) = shown {
            remains.agreed(shown);
        }
        swept.left.clear();
        if remains.is_empty() {
            quiet += 1;
            if quiet == 2 {
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        quiet = 0;
        for bottle in remains.bottles {
            if which == Which::All
                && let Some(owner) = bottle.owner().filter(super::owner::LauncherId::alive)
            {
                owner.end(END).await;
            }
            swept.extend(teardown(engine, &bottle.scope()).await);
        }
        remove(engine, remains.containers, remains.networks, &mut swept).await;
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bottle::owner::LauncherId;
    use crate::bottle::testing;
    use crate::engine::recording::Recording;
    use crate::engine::{ContainerSpec, NetworkSpec};

    /// An agent's container and a network of a bottle, launched by that process.
    async fn bottle(engine: &Recording, instance: &str, launcher: &str) {
        let labels = |role: &str| {
            let pairs = [(labels::INSTANCE, instance), (labels::LAUNCHER, launcher), (labels::ROLE, role)];
            BTreeMap::from(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
        };
        objects(engine, instance, labels("agent"), labels("network")).await;
    }

    async fn objects(
        engine: &Recording,
        instance: &str,
        of_container: BTreeMap<String, String>,
        of_network: BTreeMap<String, String>,
    ) {
        let third = engine.calls().len() % 200;
        let network = NetworkSpec {
            name: format!("claude-bottle-int-{instance}"),
            internal: true,
            subnet: format!("10.201.{third}.0/28").parse().unwrap(),
            options: BTreeMap::new(),
            labels: of_network,
        };
        engine.create_network(&network).await.unwrap();
        let name = format!("claude-bottle-{instance}");
        let container = ContainerSpec { labels: of_container, ..ContainerSpec::new(&name, "sha256:agent") };
        engine.create_container(&container).await.unwrap();
    }

    /// A launcher of this process's kind that is gone.
    fn gone() -> String {
        let own = LauncherId::own().to_string();
        let place = own.rsplitn(3, ':').last().unwrap();
        format!("{place}:{}:1", u32::MAX)
    }

    #[tokio::test(start_paused = true)]
    async fn cleanup_removes_what_dead_launchers_left_and_spares_the_rest() {
        let engine = testing::engine(Recording::new());
        bottle(&engine, "dead", &gone()).await;
        bottle(&engine, "dead-2", "elsewhere:b:1:0:1:1").await;
        bottle(&engine, "living", &LauncherId::own().to_string()).await;
        bottle(&engine, "strange", "no launcher").await;
        objects(&engine, "unlabelled", BTreeMap::new(), BTreeMap::new()).await;
        let found = remains(&engine, Which::Orphans).await.unwrap();
        assert_eq!(found.containers(), BTreeSet::from(["claude-bottle-dead".to_owned()]));
        assert_eq!(found.networks(), BTreeSet::from(["claude-bottle-int-dead".to_owned()]));
        let swept = cleanup(&engine, Which::Orphans, None).await.unwrap();
        assert!(swept.left.is_empty());
        assert_eq!(engine.leftovers().len(), 8, "{:?}", engine.leftovers());
        assert!(!engine.leftovers().iter().any(|name| name.ends_with("-dead")));
    }

    #[tokio::test(start_paused = true)]
    async fn cleanup_of_all_removes_living_bottles_and_unlabelled_objects_and_nothing_else() {
        let engine = testing::engine(Recording::new());
        bottle(&engine, "dead", &gone()).await;
        bottle(&engine, "elsewhere", "elsewhere:b:1:0:1:1").await;
        objects(&engine, "unlabelled", BTreeMap::new(), BTreeMap::new()).await;
        let foreign = ContainerSpec::new("my-claude-bottle-notes", "sha256:agent");
        engine.create_container(&foreign).await.unwrap();
        assert_eq!(remains(&engine, Which::All).await.unwrap().containers().len(), 3);
        let swept = cleanup(&engine, Which::All, None).await.unwrap();
        assert!(swept.left.is_empty(), "{:?}", swept.left);
        assert_eq!(engine.leftovers(), ["my-claude-bottle-notes"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_after_the_user_agreed_is_spared() {
        let engine = testing::engine(Recording::new());
        bottle(&engine, "elsewhere", "elsewhere:b:1:0:1:1").await;
        objects(&engine, "unlabelled", BTreeMap::new(), BTreeMap::new()).await;
        let shown = remains(&engine, Which::All).await.unwrap();
        bottle(&engine, "later", "elsewhere:b:1:0:2:1").await;
        objects(&engine, "stray", BTreeMap::new(), BTreeMap::new()).await;
        cleanup(&engine, Which::All, Some(&shown)).await.unwrap();
        let mut left = engine.leftovers();
        left.sort_unstable();
        let spared = ["int-later", "int-stray", "later", "stray"].map(|name| format!("claude-bottle-{name}"));
        assert_eq!(left, spared);
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_inherited_the_labels_is_spared() {
        let engine = testing::engine(Recording::new());
        bottle(&engine, "dead", &gone()).await;
        // `docker commit` of the agent's container, and `docker run` of that image: labels are inherited.
        let labels = engine.created("claude-bottle-dead").unwrap().labels;
        for copy in ["happy_noether", "my-claude-bottle-dead", "claude-bottle-dead-2"] {
            let copy = ContainerSpec { labels: labels.clone(), ..ContainerSpec::new(copy, "sha256:agent") };
            engine.create_container(&copy).await.unwrap();
        }
        let found = remains(&engine, Which::Orphans).await.unwrap();
        assert_eq!(found.containers(), BTreeSet::from(["claude-bottle-dead".to_owned()]));
        stop(&engine, "dead").await.unwrap();
        cleanup(&engine, Which::Orphans, None).await.unwrap();
        assert_eq!(engine.leftovers(), ["happy_noether", "my-claude-bottle-dead", "claude-bottle-dead-2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bottle_without_the_label_of_its_launcher_is_removed_too() {
        let labels = |role: &str| {
            let pairs = [(labels::INSTANCE, "odd"), (labels::ROLE, role)];
            BTreeMap::from(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())))
        };
        for all in [false, true] {
            let engine = testing::engine(Recording::new());
            objects(&engine, "odd", labels("agent"), labels("network")).await;
            let removed = match all {
                true => cleanup(&engine, Which::All, None).await.unwrap().containers,
                false => stop(&engine, "odd").await.unwrap().unwrap().containers,
            };
            assert_eq!(removed, BTreeSet::from(["claude-bottle-odd".to_owned()]), "all: {all}");
            assert_eq!(engine.leftovers(), Vec::<String>::new());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stop_removes_one_bottle_by_either_name_and_not_one_that_begins_like_it() {
        let engine = testing::engine(Recording::new());
        bottle(&engine, "dev", &gone()).await;
        bottle(&engine, "dev-2", &gone()).await;
        assert!(stop(&engine, "nosuch").await.unwrap().is_none());
        let swept = stop(&engine, "dev").await.unwrap().unwrap();
        assert_eq!(swept.containers, BTreeSet::from(["claude-bottle-dev".to_owned()]));
        assert_eq!(engine.leftovers().len(), 2, "{:?}", engine.leftovers());
        stop(&engine, "claude-bottle-dev-2").await.unwrap().unwrap();
        assert_eq!(engine.leftovers(), Vec::<String>::new());
    }
}
