//! Removing scenes, by label.

use claude_bottle::engine::Engine;

use super::{LABEL, SceneError, run};

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many containers.
    pub containers: usize,
    /// How many networks.
    pub networks: usize,
}

/// Removes the containers and networks of one run; what is already gone is fine.
pub(super) async fn remove<E: Engine>(engine: &E, run: &str) -> Result<Removed, SceneError> {
    let label = format!("{LABEL}={run}");
    let containers = engine.containers(Some(&label)).await.map_err(SceneError::engine("list the scene"))?;
    for container in &containers {
        engine
            .remove_container(&container.id)
            .await
            .map_err(SceneError::engine(&format!("remove {}", container.name)))?;
    }
    let networks = engine.networks(Some(&label)).await.map_err(SceneError::engine("list the scene"))?;
    for network in &networks {
        engine
            .remove_network(&network.id)
            .await
            .map_err(SceneError::engine(&format!("remove the network {}", network.name)))?;
    }
    Ok(Removed { containers: containers.len(), networks: networks.len() })
}

/// Removes the scenes of runs whose process is gone.
///
/// # Errors
///
/// The engine refused.
pub async fn sweep<E: Engine>(engine: &E) -> Result<Removed, SceneError> {
    let containers = engine.containers(Some(LABEL)).await.map_err(SceneError::engine("list scenes"))?;
    let networks = engine.networks(Some(LABEL)).await.map_err(SceneError::engine("list scenes"))?;
    let labels =
        containers.iter().map(|found| &found.labels).chain(networks.iter().map(|found| &found.labels));
    let mut runs: Vec<&String> = labels.filter_map(|labels| labels.get(LABEL)).collect();
    runs.sort();
    runs.dedup();
    let mut all = Removed::default();
    for run in runs.into_iter().filter(|run| run::is_over(run)) {
        let removed = remove(engine, run).await?;
        all.containers += removed.containers;
        all.networks += removed.networks;
    }
    Ok(all)
}

/// The names of the containers and networks that carry a label, given as `key` or `key=value`: what
/// a test or the demo asserts to be empty at its end.
///
/// # Errors
///
/// The engine refused.
pub async fn labelled<E: Engine>(engine: &E, label: &str) -> Result<Vec<String>, SceneError> {
    let containers = engine.containers(Some(label)).await.map_err(SceneError::engine("list containers"))?;
    let networks = engine.networks(Some(label)).await.map_err(SceneError::engine("list networks"))?;
    let containers = containers.into_iter().map(|found| format!("container {}", found.name));
    Ok(containers.chain(networks.into_iter().map(|found| format!("network {}", found.name))).collect())
}
