//! `list`: the bottles that an engine has.

use std::time::{Duration, SystemTime};

use futures_util::future::try_join_all;
use serde::Serialize;

use crate::bottle::find::{BottleRef, bottles};
use crate::bottle::state::Folder;
use crate::cli::console::print;
use crate::cli::failure::Failure;
use crate::cli::options::Global;
use crate::engine::{Engine, EngineError};
use crate::labels;
use crate::text::{Lines, line, table};

/// One bottle, as `list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Listed {
    name: String,
    instance: String,
    agent: String,
    /// The engine's `State.Status`.
    status: String,
    /// RFC 3339.
    started: Option<String>,
    mode: String,
    /// Whether its isolation was proved; `null` when that is unknown.
    verified: Option<bool>,
    warnings: Vec<String>,
    /// No version publishes ports yet.
    ports: [(); 0],
    sidecars: Vec<ListedSidecar>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ListedSidecar {
    role: String,
    name: String,
    status: String,
}

/// Carries out `list` and returns the exit code.
///
/// # Errors
/// The engine's.
pub(crate) async fn list(global: &Global, all: bool) -> Result<u8, Failure> {
    let listed = look(&global.engine()?, Folder::of_user().as_ref(), all).await?;
    print(global, || lines(&listed), &listed)
}

async fn look(engine: &impl Engine, states: Option<&Folder>, all: bool) -> Result<Vec<Listed>, EngineError> {
    let found = bottles(engine, states).await?;
    let listed = found.into_iter().map(|bottle| async {
        // Lists of containers do not contain when one was started.
        let agent = match &bottle.agent {
            Some(agent) => engine.container(&agent.id.0).await?,
            None => None,
        };
        Ok::<_, EngineError>(agent.map(|agent| describe(bottle, agent.status, agent.started)))
    });
    let listed = try_join_all(listed).await?;
    let shown = |bottle: &Listed| all || bottle.status == "running";
    Ok(listed.into_iter().flatten().filter(shown).collect())
}

fn describe(bottle: BottleRef, status: String, started: Option<String>) -> Listed {
    let label = |key| bottle.label(key).to_owned();
    let state = bottle.state.as_ref();
    let role = |of| labels::value(of, labels::ROLE);
    let sidecars = bottle.others.iter().filter(|other| role(&other.labels) != "seal");
    Listed {
        name: bottle.agent.as_ref().map(|agent| agent.name.clone()).unwrap_or_default(),
        instance: bottle.instance.clone(),
        agent: label(labels::AGENT),
        mode: state.map_or_else(|| label(labels::MODE), |state| state.mode.clone()),
        verified: state.and_then(|state| state.verified),
        warnings: state.map(|state| state.warnings.clone()).unwrap_or_default(),
        ports: [],
        sidecars: sidecars
            .map(|sidecar| ListedSidecar {
                role: role(&sidecar.labels).to_owned(),
                name: sidecar.name.clone(),
                status: sidecar.status.clone(),
            })
            .collect(),
        status,
        started,
    }
}

fn lines(bottles: &[Listed]) -> Lines {
    if bottles.is_empty() {
        return line("no active claude-bottle containers");
    }
    let row = |bottle: &Listed| {
        let sidecars: Vec<_> =
            bottle.sidecars.iter().map(|sidecar| format!("{} ({})", sidecar.role, sidecar.status)).collect();
        let verified = match bottle.verified {
            Some(true) => "yes",
            Some(false) => "no",
            None => "-",
        };
        [
            bottle.name.clone(),
            bottle.agent.clone(),
            bottle.status.clone(),
            bottle.started.as_deref().and_then(age).unwrap_or_else(|| "-".to_owned()),
            bottle.mode.clone(),
            verified.to_owned(),
            sidecars.join(", "),
        ]
    };
    let head = ["NAME", "AGENT", "STATUS", "AGE", "MODE", "VERIFIED", "SIDECARS"];
    let mut lines = table(head, bottles.iter().map(row));
    for bottle in bottles {
        for warning in &bottle.warnings {
            lines.line(format_args!("warning: {}: {warning}", bottle.name));
        }
    }
    lines
}

fn age(started: &str) -> Option<String> {
    let at = humantime::parse_rfc3339(started).ok()?;
    let seconds = SystemTime::now().duration_since(at).unwrap_or_default().as_secs();
    let coarse = if seconds > 3600 { seconds / 60 * 60 } else { seconds };
    Some(humantime::format_duration(Duration::from_secs(coarse)).to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bottle::state::State;
    use crate::bottle::testing;
    use crate::engine::ContainerSpec;
    use crate::engine::recording::Recording;

    #[tokio::test]
    async fn a_running_bottle_is_listed_with_what_its_state_file_adds() {
        let engine = testing::engine(Recording::new());
        let create = async |instance: &str, role: &str| {
            let labels = [
                (labels::INSTANCE, instance),
                (labels::ROLE, role),
                (labels::AGENT, "dev"),
                (labels::MODE, "attached"),
            ];
            let labels = BTreeMap::from(labels.map(|(key, value)| (key.to_owned(), value.to_owned())));
            let name = format!("claude-bottle-{role}-{instance}");
            let spec = ContainerSpec { labels, ..ContainerSpec::new(&name, "sha256:agent") };
            engine.create_container(&spec).await.unwrap()
        };
        let (agent, _) = (create("dev", "agent").await, create("dev-2", "agent").await);
        create("dev", "ssh-gate").await;
        create("dev", "seal").await;
        engine.start(&agent).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let states = Folder::at(&folder.path().join("states"));
        let state = State {
            version: 1,
            instance: "dev".into(),
            container: agent.0.clone(),
            started: None,
            engine: "unix:///e".into(),
            keeper: "h:b:1:0:2:3".into(),
            manifest: "/m".into(),
            plan: serde_json::Value::Null,
            mode: "detached".into(),
            subnet: "10.201.0.0/28".into(),
            verified: Some(false),
            warnings: vec!["podman is not proved to isolate".into()],
            result: None,
        };
        states.write(&state).unwrap();

        let listed = look(&engine, Some(&states), false).await.unwrap();
        assert_eq!(listed.len(), 1, "only the running one: {listed:?}");
        assert_eq!((listed[0].mode.as_str(), listed[0].verified), ("detached", Some(false)));
        assert_eq!(listed[0].sidecars.len(), 1, "{listed:?}");
        assert_eq!(look(&engine, None, true).await.unwrap().len(), 2);
        let text = lines(&listed);
        assert!(
            text.as_str().contains("warning: claude-bottle-agent-dev: podman is not"),
            "{}",
            text.as_str()
        );
        assert!(text.as_str().starts_with("NAME"), "{}", text.as_str());
        assert_eq!(lines(&[]).as_str(), "no active claude-bottle containers\n");
    }
}
