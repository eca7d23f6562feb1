//! The engine's answers, read leniently.
//!
//! bollard's enums are closed: a single state that a newer engine adds makes a whole list
//! unreadable. So all JSON is read with these types, which take what the launcher needs and ignore
//! the rest.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::engine::{Container, ContainerId, EngineError, Image, Network, NetworkId, Product};

/// Reads the JSON of an answer.
pub(super) fn read<T: DeserializeOwned>(act: &str, body: &[u8]) -> Result<T, EngineError> {
    serde_json::from_slice(body)
        .map_err(|source| EngineError::Broken { act: act.to_owned(), source: Box::new(source) })
}

/// `GET /version`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    pub(super) version: String,
    pub(super) api_version: String,
    #[serde(default)]
    pub(super) arch: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    components: Vec<Component>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
}

impl Version {
    /// Docker names itself "Engine", podman "Podman Engine". Engines before 18.03 list no components.
    pub(super) fn product(&self) -> Product {
        match self.components.first().map(|component| component.name.as_str()) {
            None | Some("" | "Engine") => Product::Docker,
            Some("Podman Engine") => Product::Podman,
            Some(other) => Product::Other(other.to_owned()),
        }
    }
}

/// `GET /info`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Info {
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) runtimes: BTreeMap<String, serde_json::Value>,
}

/// An architecture in Rust's words.
pub(super) fn arch(word: &str) -> String {
    match word {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
    .to_owned()
}

/// `POST .../create`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) id: String,
    pub(super) warning: Option<String>,
}

/// `GET /images/{name}/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ImageAnswer {
    id: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    config: ImageConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageConfig {
    user: Option<String>,
    working_dir: Option<String>,
}

impl From<ImageAnswer> for Image {
    fn from(answer: ImageAnswer) -> Image {
        let named = |text: Option<String>| text.filter(|text| !text.is_empty());
        Image {
            // podman leaves the algorithm out.
            id: if answer.id.contains(':') { answer.id } else { format!("sha256:{}", answer.id) },
            user: named(answer.config.user),
            working_dir: named(answer.config.working_dir),
        }
    }
}

/// `GET /networks` and `GET /networks/{name}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkAnswer {
    id: String,
    name: String,
    #[serde(default)]
    internal: bool,
    #[serde(rename = "IPAM", default, deserialize_with = "null_is_empty")]
    ipam: Ipam,
    #[serde(default, deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    #[serde(default, deserialize_with = "null_is_empty")]
    config: Vec<IpamSubnet>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct IpamSubnet {
    subnet: Option<String>,
}

impl From<NetworkAnswer> for Network {
    fn from(answer: NetworkAnswer) -> Network {
        let subnets = answer.ipam.config.into_iter().filter_map(|config| config.subnet?.parse().ok());
        Network {
            id: NetworkId(answer.id),
            name: answer.name,
            internal: answer.internal,
            subnets: subnets.collect(),
            labels: answer.labels,
        }
    }
}

/// A row of `GET /containers/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerRow {
    id: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    names: Vec<String>,
    #[serde(default)]
    state: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, String>,
}

impl From<ContainerRow> for Container {
    fn from(row: ContainerRow) -> Container {
        // A linked container has further names, with the other's name before them: `/other/alias`.
        let own = row.names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
        Container {
            name: own.unwrap_or_default().to_owned(),
            id: ContainerId(row.id),
            status: row.state,
            started: None,
            exit_code: None,
            labels: row.labels,
        }
    }
}

/// `GET /containers/{name}/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerAnswer {
    id: String,
    name: String,
    state: ContainerState,
    config: ContainerConfig,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerState {
    status: String,
    #[serde(default)]
    started_at: String,
    #[serde(default)]
    exit_code: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ContainerConfig {
    #[serde(default, deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, String>,
}

impl From<ContainerAnswer> for Container {
    fn from(answer: ContainerAnswer) -> Container {
        let ContainerState { status, started_at, exit_code } = answer.state;
        // Go's zero time means "never".
        let started = Some(started_at).filter(|at| !at.is_empty() && !at.starts_with("0001-"));
        // podman reports "stopped" until it has cleaned up.
        let ended = matches!(status.as_str(), "exited" | "dead" | "stopped");
        Container {
            id: ContainerId(answer.id),
            name: answer.name.trim_start_matches('/').to_owned(),
            started,
            exit_code: ended.then_some(exit_code),
            status,
            labels: answer.config.labels,
        }
    }
}

/// `POST /containers/{name}/wait`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Waited {
    pub(super) status_code: i64,
}

/// `GET /exec/{id}/json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExecAnswer {
    #[serde(default)]
    pub(super) running: bool,
    pub(super) exit_code: Option<i64>,
}

/// Go writes an empty list or map as `null` in places.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_state_does_not_spoil_the_list() {
        let rows =
            br#"[{"Id":"aa","Names":["/x/alias","/own"],"State":"hibernating","Labels":null,"New":{}}]"#;
        let rows: Vec<ContainerRow> = read("list containers", rows).unwrap();
        let containers: Vec<Container> = rows.into_iter().map(Container::from).collect();
        assert_eq!(containers[0].status, "hibernating");
        assert_eq!(containers[0].name, "own");
    }

    #[test]
    fn a_container_that_never_started_has_neither_start_nor_exit_code() {
        let answer = br#"{"Id":"aa","Name":"/n","State":{"Status":"created","StartedAt":"0001-01-01T00:00:00Z","ExitCode":0},"Config":{"Labels":{"a":"b"}}}"#;
        let container = Container::from(read::<ContainerAnswer>("inspect", answer).unwrap());
        assert_eq!((container.started, container.exit_code), (None, None));
        assert_eq!(container.labels["a"], "b");
    }
}
