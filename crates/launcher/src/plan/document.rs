//! The shape of a plan, as `start --dry-run --format json` prints it.
//!
//! Fields that are left out of the JSON hold what the launch needs beside it: addresses of secrets
//! on this machine, and the manifest's own values.

use std::collections::BTreeMap;

use serde::Serialize;
use sidecar::ports::PortTable;
use sidecar::routes::RouteTable;

use crate::images::BuiltImage;
use crate::manifest::{EnvValue, HostKey, TokenRef};
use crate::plan::names::Names;

/// A plan. Empty lists stand in its JSON, and no secret value ever does.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plan {
    /// Of this shape: 1.
    pub version: u8,
    /// The bottle's name.
    pub instance: String,
    /// The manifest's name of the agent.
    pub agent: String,
    /// Whether the launcher stays.
    pub mode: Mode,
    /// What starts the agent's container: `runc` or `runsc`.
    pub runtime: String,
    /// The engine; `null` when none answers.
    pub engine: Option<EngineFacts>,
    /// The agent's image.
    pub image: ImagePlan,
    /// The networks, the internal one first.
    pub networks: Vec<NetworkPlan>,
    /// The sidecars.
    pub sidecars: Vec<SidecarPlan>,
    /// The agent's container.
    pub agent_container: AgentContainer,
    /// The SSH hosts.
    pub ssh: Vec<SshPlan>,
    /// The tokens, by reference.
    pub credentials: Vec<Credential>,
    /// The web.
    pub egress: EgressPlan,
    /// What the agent can reach, and the rest.
    pub reachability: Vec<Reach>,
    /// What a careful reader should know.
    pub warnings: Vec<String>,
    /// `sha256:...` of what this plan does, whatever the names and states of the moment.
    pub hash: String,
    /// The names of its objects.
    #[serde(skip)]
    pub names: Names,
    /// The guest's image, which seals the agent's network.
    #[serde(skip)]
    pub guest: BuiltImage,
    /// The guest's binary for the agent's container.
    #[serde(skip)]
    pub guest_binary: bytes::Bytes,
    /// The existing network that the sidecars join, by id.
    #[serde(skip)]
    pub external_network: Option<crate::engine::NetworkId>,
}

/// Whether the launcher stays with the bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// It stays, and tears the bottle down.
    Attached,
}

impl Mode {
    /// As labels say it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
        }
    }
}

/// The engine.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EngineFacts {
    /// Its version.
    pub version: String,
    /// The newest API it speaks.
    pub api: String,
    /// Its machine's architecture.
    pub arch: String,
}

/// The agent's image.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ImagePlan {
    /// Its name.
    pub name: String,
    /// Its id; `null` when the engine does not have it.
    pub id: Option<String>,
    /// The derived image that holds the working folder; not yet.
    pub derived: Option<String>,
}

/// A network.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NetworkPlan {
    /// Its name.
    pub name: String,
    /// Whether it leads nowhere.
    pub internal: bool,
    /// Its subnet, chosen at the launch.
    pub subnet: Option<String>,
    /// Whether it is the user's own, never created, changed or removed.
    pub external: bool,
}

/// A sidecar.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SidecarPlan {
    /// What it is: `ssh-gate`, `cred-proxy`.
    pub role: &'static str,
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
    #[serde(flatten)]
    pub table: Table,
    /// What holds it.
    pub hardening: Hardening,
    /// The port that the agent dials, where there is one for all.
    #[serde(skip)]
    pub port: Option<u16>,
    /// The image itself.
    #[serde(skip)]
    pub built: BuiltImage,
}

/// A sidecar's table.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Table {
    /// ssh-gate's.
    Ports(PortTable),
    /// cred-proxy's.
    Routes(RouteTable),
}

/// What holds a sidecar.
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
    /// The most processes.
    pub pids: i64,
    /// The most memory, bytes.
    pub memory: i64,
}

/// The agent's container.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AgentContainer {
    /// Its name.
    pub name: String,
    /// The agent's user.
    pub user: String,
    /// Names of the manifest's variables.
    pub env: Vec<String>,
    /// Those whose values come from this machine: the agent holds them.
    pub held_by_agent: Vec<String>,
    /// Mounts: none.
    pub mounts: Vec<String>,
    /// Its resolvers.
    pub dns: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// What runs.
    pub command: Vec<String>,
    /// Whether there is a prompt.
    pub prompt: bool,
    /// Skills copied in.
    pub skills: Vec<String>,
    /// The manifest's variables.
    #[serde(skip)]
    pub env_values: BTreeMap<String, EnvValue>,
    /// The prompt.
    #[serde(skip)]
    pub prompt_text: String,
    /// Limits: memory, billionths of CPUs, processes.
    #[serde(skip)]
    pub limits: (Option<i64>, Option<i64>, i64),
    /// The home folder, where the environment names one.
    #[serde(skip)]
    pub home: Option<String>,
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
    /// The private key on this machine.
    #[serde(skip)]
    pub identity_file: String,
    /// The name that the host's key goes by.
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
    /// The first one seen is believed.
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
    /// Whether it is there.
    pub state: State,
    /// The reference.
    #[serde(skip)]
    pub reference: TokenRef,
    /// The CA of this route, on this machine.
    #[serde(skip)]
    pub ca_file: Option<String>,
}

/// Whether a token is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It is.
    Present,
    /// It is not.
    Missing,
}

/// The web.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct EgressPlan {
    /// `none`.
    pub engine: &'static str,
    /// Hosts.
    pub allow: Vec<String>,
}

/// One line of what reaches what.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reach {
    /// Who.
    pub from: &'static str,
    /// What; `*` is everything else.
    pub to: String,
    /// `forward` or `refuse`.
    pub verdict: &'static str,
}

impl Plan {
    /// The sidecar with that role.
    pub(crate) fn sidecar(&self, role: &str) -> Option<&SidecarPlan> {
        self.sidecars.iter().find(|sidecar| sidecar.role == role)
    }
}
