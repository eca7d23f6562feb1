//! The bottles that an engine has: listing them, stopping one, and removing those whose launcher is gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use serde::Serialize;

use crate::bottle::owner::LauncherId;
use crate::bottle::teardown::{Scope, Swept, teardown};
use crate::cli::failure::{Failure, Kind};
use crate::engine::{Container, Engine, EngineError};
use crate::plan::names::label;

/// One bottle, as `list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listed {
    /// The agent container's name.
    pub name: String,
    /// The bottle's name.
    pub instance: String,
    /// The manifest's name of the agent.
    pub agent: String,
    /// The engine's `State.Status`.
    pub status: String,
    /// When it was started, RFC 3339.
    pub started: Option<String>,
    /// `attached` or `detached`.
    pub mode: String,
    /// Whether its isolation was proved; `null` when nobody asked.
    pub verified: Option<bool>,
    /// Its sidecars.
    pub sidecars: Vec<ListedSidecar>,
}

/// A sidecar of a listed bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListedSidecar {
    /// What it is.
    pub role: String,
    /// Its container's name.
    pub name: String,
    /// The engine's `State.Status`.
    pub status: String,
}

/// What `cleanup` removed, or would.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Cleaned {
    /// Names of containers.
    pub containers: Vec<String>,
    /// Names of networks.
    pub networks: Vec<String>,
    /// Names of derived images; none in this version.
    pub images: Vec<String>,
    /// Scratch folders; none in this version.
    pub folders: Vec<String>,
}

fn labelled<'l>(labels: &'l BTreeMap<String, String>, key: &str) -> &'l str {
    labels.get(key).map_or("", String::as_str)
}

/// The bottles whose agent runs, or all.
///
/// # Errors
/// The engine's.
pub(crate) async fn list(engine: &impl Engine, all: bool) -> Result<Vec<Listed>, EngineError> {
    let containers = engine.containers(Some(label::INSTANCE)).await?;
    let is = |container: &&Container, role: &str| labelled(&container.labels, label::ROLE) == role;
    let agents = containers.iter().filter(|c| is(c, "agent")).filter(|c| all || c.status == "running");
    let listed = agents.map(|agent| async {
        let instance = labelled(&agent.labels, label::INSTANCE);
        let sidecars = containers
            .iter()
            .filter(|c| {
                labelled(&c.labels, label::INSTANCE) == instance && !is(c, "agent") && !is(c, "guest")
            })
            .map(|c| ListedSidecar {
                role: labelled(&c.labels, label::ROLE).to_owned(),
                name: c.name.clone(),
                status: c.status.clone(),
            })
            .collect();
        // Lists do not say when a container was started.
        let inspected = engine.container(&agent.id.0).await?;
        Ok::<_, EngineError>(inspected.map(|inspected| Listed {
            name: agent.name.clone(),
            instance: instance.to_owned(),
            agent: labelled(&agent.labels, label::AGENT).to_owned(),
            status: inspected.status,
            started: inspected.started,
            mode: labelled(&agent.labels, label::MODE).to_owned(),
            verified: None,
            sidecars,
        }))
    });
    let mut bottles = Vec::new();
    for bottle in join_all(listed).await {
        bottles.extend(bottle?);
    }
    bottles.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(bottles)
}

/// The list as a person reads it.
pub(crate) fn table(bottles: &[Listed]) -> String {
    if bottles.is_empty() {
        return "no active claude-bottle containers\n".to_owned();
    }
    let mut rows = vec![["NAME", "AGENT", "STATUS", "AGE", "SIDECARS"].map(str::to_owned)];
    rows.extend(bottles.iter().map(|bottle| {
        let sidecars: Vec<_> = bottle.sidecars.iter().map(|s| format!("{} ({})", s.role, s.status)).collect();
        [
            bottle.name.clone(),
            bottle.agent.clone(),
            bottle.status.clone(),
            bottle.started.as_deref().and_then(age).unwrap_or_else(|| "-".to_owned()),
            sidecars.join(", "),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn age(started: &str) -> Option<String> {
    let at = humantime::parse_rfc3339(started).ok()?;
    let seconds = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
    let coarse = if seconds > 3600 { seconds / 60 * 60 } else { seconds };
    Some(humantime::format_duration(Duration::from_secs(coarse)).to_string())
}

/// Removes one bottle, by its instance or its container's name.
///
/// # Errors
/// [`Kind::Engine`] when there is none of that name.
pub(crate) async fn stop(engine: &impl Engine, name: &str) -> Result<Swept, Failure> {
    let containers = engine.containers(Some(label::INSTANCE)).await?;
    let networks = engine.networks(Some(label::INSTANCE)).await?;
    let instances = containers.iter().map(|c| &c.labels).chain(networks.iter().map(|n| &n.labels));
    let by_container = containers
        .iter()
        .find(|c| c.name == name && labelled(&c.labels, label::ROLE) == "agent")
        .map(|c| labelled(&c.labels, label::INSTANCE));
    let by_instance =
        instances.map(|labels| labelled(labels, label::INSTANCE)).find(|instance| *instance == name);
    let Some(instance) = by_instance.or(by_container) else {
        return Err(Failure::new(Kind::Engine, format!("there is no bottle {name:?}"))
            .hint("`claude-bottle list --all` names them"));
    };
    Ok(teardown(engine, &Scope { instance: instance.to_owned(), launcher: None }).await)
}

/// After `kill -9` the engine still completes the request in flight: a look that finds nothing is
/// followed by another one after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(400);
/// Rounds of looking before giving up.
const ROUNDS: usize = 8;

/// Removes what belongs to bottles whose launcher is gone; only tells it when `dry_run`.
///
/// # Errors
/// The engine's.
pub(crate) async fn cleanup(engine: &impl Engine, dry_run: bool) -> Result<(Cleaned, Swept), EngineError> {
    let (mut cleaned, mut left) = (Cleaned::default(), Swept::default());
    let mut quiet = 0;
    for _ in 0..ROUNDS {
        let orphans = orphans(engine).await?;
        if dry_run {
            for (_, names) in orphans {
                cleaned.containers.extend(names.containers);
                cleaned.networks.extend(names.networks);
            }
            break;
        }
        if orphans.is_empty() {
            quiet += 1;
            if quiet == 2 {
                left.left.clear();
                break;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            continue;
        }
        quiet = 0;
        left.left.clear();
        for (scope, _) in orphans {
            let swept = teardown(engine, &scope).await;
            cleaned.containers.extend(swept.containers);
            cleaned.networks.extend(swept.networks);
            left.left.extend(swept.left);
        }
    }
    Ok((cleaned, left))
}

/// The names of a bottle's objects.
#[derive(Default)]
struct Objects {
    containers: Vec<String>,
    networks: Vec<String>,
}

/// What belongs to bottles whose launcher is gone.
async fn orphans(engine: &impl Engine) -> Result<Vec<(Scope, Objects)>, EngineError> {
    let (containers, networks) =
        tokio::join!(engine.containers(Some(label::INSTANCE)), engine.networks(Some(label::INSTANCE)));
    let (containers, networks) = (containers?, networks?);
    // A detached bottle lives while its agent runs, whoever launched it.
    let detached: BTreeSet<_> = containers
        .iter()
        .filter(|c| labelled(&c.labels, label::MODE) == "detached")
        .filter(|c| labelled(&c.labels, label::ROLE) == "agent" && c.status == "running")
        .map(|c| (labelled(&c.labels, label::INSTANCE), labelled(&c.labels, label::LAUNCHER)))
        .collect();
    let lives = |labels: &BTreeMap<String, String>| {
        let launcher = labelled(labels, label::LAUNCHER);
        // A label that nobody of ours wrote is left alone.
        launcher.parse::<LauncherId>().map_or(true, |id| id.alive())
            || detached.contains(&(labelled(labels, label::INSTANCE), launcher))
    };
    let scope = |labels: &BTreeMap<String, String>| {
        (labelled(labels, label::INSTANCE).to_owned(), labelled(labels, label::LAUNCHER).to_owned())
    };
    let mut orphans = BTreeMap::<_, Objects>::new();
    for container in containers.iter().filter(|c| !lives(&c.labels)) {
        orphans.entry(scope(&container.labels)).or_default().containers.push(container.name.clone());
    }
    for network in networks.iter().filter(|n| !lives(&n.labels)) {
        orphans.entry(scope(&network.labels)).or_default().networks.push(network.name.clone());
    }
    let scoped = |((instance, launcher), objects)| (Scope { instance, launcher: Some(launcher) }, objects);
    Ok(orphans.into_iter().map(scoped).collect())
}
