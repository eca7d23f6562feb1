//! The shape of a plan, as `start --dry-run --format json` prints it.
//!
//! Whatever changes a launch is in the JSON, secrets by reference and long texts by their
//! digest. Fields that are left out of it hold what a launch needs beside that.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::names::Names;
use crate::engine::{NetworkId, Product};
use crate::images::BuiltImage;
use crate::manifest::HostKey;
use crate::secrets::State;
use crate::sidecars::{Role, Table};
use crate::text::serialize_path;

/// A plan. Empty lists are in its JSON, and no secret value ever is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    /// Of this shape: 1.
    pub version: u8,
    /// The manifest that it follows from.
    #[serde(serialize_with = "serialize_path")]
    pub manifest: PathBuf,
    /// The bottle's name.
    pub instance: String,
    /// The manifest's name of the agent.
    pub agent: String,
    /// Whether the launcher stays.
    pub mode: Mode,
    /// What starts the agent's container: `runc` or `runsc`.
    pub runtime: &'static str,
    /// The engine; `null` when none answers.
    pub engine: Option<EngineFacts>,
    /// The agent's image.
    pub image: ImagePlan,
    /// Not implemented yet.
    pub build: (),
    /// Not implemented yet.
    pub cwd: (),
    /// Not implemented yet.
    pub git: (),
    /// The networks, the internal one first.
    pub networks: Vec<NetworkPlan>,
    /// The sidecars.
    pub sidecars: Vec<SidecarPlan>,
    /// The guest, whose image seals the agent's network and whose binary is in its container.
    pub guest: GuestPlan,
    /// The agent's container.
    pub agent_container: AgentContainer,
    /// The SSH hosts.
    pub ssh: Vec<SshPlan>,
    /// The tokens, by reference.
    pub credentials: Vec<Credential>,
    /// The web.
    pub egress: EgressPlan,
    /// Fixed addresses for host names, in the sidecars.
    pub hosts: BTreeMap<String, IpAddr>,
    /// The CONNECT proxy that leads to the upstreams.
    pub upstream_proxy: Option<ProxyPlan>,
    /// Not implemented yet.
    pub ports: [(); 0],
    /// Not implemented yet.
    pub keep: [(); 0],
    /// Not implemented yet.
    pub signing: (),
    /// What the agent can reach, and the rest.
    pub reachability: Vec<Reach>,
    /// What a careful reader should know.
    pub warnings: Vec<String>,
    /// `sha256:...` of what this plan does, whatever the names and states of the moment.
    pub hash: String,
    /// The names of its objects.
    #[serde(skip)]
    pub names: Names,
}

/// Whether the launcher stays with the bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// It stays, and tears the bottle down.
    Attached,
}

impl Mode {
    /// As labels have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
        }
    }
}

/// The engine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EngineFacts {
    /// Which program it is.
    #[serde(serialize_with = "display")]
    pub product: Product,
    /// Its version.
    pub version: String,
    /// The newest API it supports.
    pub api: String,
    /// Its machine's architecture.
    pub arch: String,
}

fn display<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// The agent's image.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ImagePlan {
    /// Its name.
    pub name: String,
    /// Its id; `null` when the engine does not have it.
    pub id: Option<String>,
    /// Not implemented yet.
    pub derived: (),
}

/// A network.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NetworkPlan {
    /// Its name.
    pub name: String,
    /// Whether it has no way out.
    pub internal: bool,
    /// Its subnet, chosen at the launch.
    pub subnet: Option<String>,
    /// Whether it is the user's own, never created, changed or removed.
    pub external: bool,
    /// The id of an external one.
    pub id: Option<String>,
    /// Its MTU; `null` is the engine's default.
    pub mtu: Option<u32>,
}

/// A sidecar.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SidecarPlan {
    /// Its kind.
    pub role: Role,
    /// Its container's name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// The image's digest.
    pub digest: String,
    /// Where the image comes from: `embedded`.
    pub source: &'static str,
    /// Its names on the internal network.
    pub aliases: Vec<String>,
    /// Its table: `forwards` or `routes`.
    #[serde(flatten, serialize_with = "table")]
    pub table: Table,
    /// Its restrictions.
    pub hardening: Hardening,
    /// The image itself.
    #[serde(skip)]
    pub built: BuiltImage,
}

/// The table as its file would have it; a route's CAs by their digests.
fn table<S: Serializer>(table: &Table, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::Error as _;
    let value = match table {
        Table::Ports(table) => serde_json::to_value(table),
        Table::Routes(table, _) => serde_json::to_value(table),
    };
    let mut value = value.map_err(S::Error::custom)?;
    for route in value.get_mut("routes").and_then(serde_json::Value::as_array_mut).into_iter().flatten() {
        let Some(route) = route.as_object_mut() else { continue };
        let ca = route.remove("ca").unwrap_or_default();
        let digests =
            ca.as_array().into_iter().flatten().map(|pem| super::digest(pem.as_str().unwrap_or_default()));
        route.insert("ca_digests".to_owned(), digests.collect());
    }
    value.serialize(serializer)
}

/// The restrictions of a sidecar.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Hardening {
    /// Its user.
    pub user: String,
    /// Whether its root file system is read-only.
    pub read_only: bool,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// Whether it cannot gain privileges.
    pub no_new_privileges: bool,
    /// Kernel settings.
    pub sysctls: BTreeMap<String, String>,
    /// Maximum number of processes.
    pub pids: i64,
    /// Maximum memory, bytes.
    pub memory: i64,
}

/// The guest.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct GuestPlan {
    /// Its image.
    pub image: String,
    /// The image's digest.
    pub digest: String,
    /// The image itself.
    #[serde(skip)]
    pub built: BuiltImage,
    /// The binary.
    #[serde(skip)]
    pub binary: Bytes,
}

/// The agent's container.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AgentContainer {
    /// Its name.
    pub name: String,
    /// The agent's user.
    pub user: String,
    /// The agent's home, where the environment overrides the image's.
    pub home: Option<String>,
    /// Names of the manifest's variables.
    pub env: Vec<String>,
    /// Of their literals and references.
    pub env_digest: String,
    /// Those whose values come from this machine: the agent holds them.
    pub held_by_agent: Vec<String>,
    /// Not implemented yet.
    pub provided: BTreeMap<String, String>,
    /// Mounts: none.
    pub mounts: Vec<String>,
    /// Its resolvers.
    pub dns: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// Limits.
    pub limits: LimitsPlan,
    /// What runs.
    pub command: Vec<String>,
    /// Whether there is a prompt.
    pub prompt: bool,
    /// Of the prompt.
    pub prompt_digest: String,
    /// Not implemented yet.
    pub skills: Vec<String>,
    /// The prompt.
    #[serde(skip)]
    pub prompt_text: String,
}

/// Limits of the agent's container.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct LimitsPlan {
    /// Maximum memory, bytes.
    pub memory: Option<i64>,
    /// Maximum number of CPUs.
    pub cpus: Option<f64>,
    /// Maximum number of processes.
    pub pids: i64,
    /// The CPUs in billionths.
    #[serde(skip)]
    pub nano_cpus: Option<i64>,
}

/// An SSH host.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SshPlan {
    /// What the agent types.
    pub alias: String,
    /// The real host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The login name there.
    pub user: String,
    /// The gate's port.
    pub listen: u16,
    /// Whether its key is known beforehand.
    pub host_key: HostKeyCheck,
    /// Of the host's key.
    pub host_key_digest: Option<String>,
    /// The private key on this machine.
    #[serde(serialize_with = "serialize_path")]
    pub identity: PathBuf,
    /// Whether that can be read.
    pub state: State,
    /// The name that the host's key is stored under.
    #[serde(skip)]
    pub key_name: String,
    /// The host's key.
    #[serde(skip)]
    pub known_host_key: Option<HostKey>,
}

/// How a host's key is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HostKeyCheck {
    /// Against the manifest's.
    Pinned,
    /// The first key seen is trusted.
    AcceptNew,
}

/// A token, by reference.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Credential {
    /// The route it is for.
    pub route: String,
    /// Where the route leads.
    pub upstream: String,
    /// Its name in the proxy.
    pub token: String,
    /// Where it is found.
    pub source: String,
    /// Whether it can be read.
    pub state: State,
}

/// The web.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EgressPlan {
    /// `none`.
    pub engine: &'static str,
    /// Hosts.
    pub allow: Vec<String>,
}

/// A CONNECT proxy, without its password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ProxyPlan {
    /// `http://HOST:PORT`.
    pub url: String,
    /// The hosts that are reached without it.
    pub no_proxy: Option<String>,
    /// Where it is set: `manifest`, or an environment variable.
    pub source: String,
}

/// One line of what reaches what.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reach {
    /// From where.
    pub from: &'static str,
    /// To where; `*` is everything else.
    pub to: String,
    /// `forward` or `refuse`.
    pub verdict: &'static str,
}

impl Plan {
    /// The id and the name of the network that is the user's own.
    pub(crate) fn external_network(&self) -> Option<(NetworkId, &str)> {
        let external = self.networks.iter().find(|network| network.external)?;
        Some((NetworkId(external.id.clone()?), &external.name))
    }

    /// Why the isolation of what runs is in doubt.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let engine = self.engine.as_ref().filter(|engine| engine.product != Product::Docker);
        let doubt = |engine: &EngineFacts| {
            format!("{} is not proved to isolate: services of its host may be reachable", engine.product)
        };
        engine.map(doubt).into_iter().collect()
    }

    /// The same plan under other names: its hash stays.
    pub(crate) fn rename(&mut self, names: Names) {
        for network in self.networks.iter_mut().filter(|network| !network.external) {
            network.name = if network.internal { names.internal() } else { names.egress() };
        }
        for sidecar in &mut self.sidecars {
            sidecar.name = names.sidecar(sidecar.role);
        }
        self.agent_container.name.clone_from(&names.agent);
        self.instance.clone_from(&names.instance);
        self.names = names;
    }
}
