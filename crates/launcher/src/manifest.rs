//! The manifest: what the user wrote, checked as it is read.
//!
//! A parsed manifest needs no second look: every name it refers to is there, every port and host
//! is one, and what this version cannot do has been refused.

mod load;
mod parts;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use sidecar::routes::{Auth, RoutePath, UpstreamUrl};
use sidecar::upstream::Host;

pub use crate::secrets::{EnvValue, TokenRef};
pub use load::{ManifestError, find, load, parse};
pub use parts::{HostKey, Size};

/// A manifest: bottles, and the agents that run in them.
///
/// ```
/// let text = r#"{
///   "bottles": { "dev": {
///     "image": "claude-bottle:latest",
///     "ssh": [ { "Host": "github", "Hostname": "github.com", "IdentityFile": "~/.ssh/id_ed25519" } ],
///     "cred_proxy": { "routes": [ { "path": "/anthropic/", "upstream": "https://api.anthropic.com",
///                     "auth": { "scheme": "bearer" }, "token": { "env": "CLAUDE_BOTTLE_OAUTH_TOKEN" } } ] }
///   } },
///   "agents": { "reviewer": { "bottle": "dev", "prompt": "You review changes.", "command": ["claude"] } }
/// }"#;
/// let manifest = claude_bottle::manifest::parse("claude-bottle.json", text).unwrap();
/// assert_eq!(manifest.bottles["dev"].ssh[0].port, 22);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// For editors; not read.
    #[serde(rename = "$schema", default)]
    pub schema: Option<String>,
    /// Bottles by name.
    pub bottles: BTreeMap<String, Bottle>,
    /// Agents by name.
    pub agents: BTreeMap<String, Agent>,
}

/// A bottle: an image, and what its agent may reach.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bottle {
    /// The agent's image.
    #[serde(default)]
    pub image: Option<String>,
    /// The agent's user, else the image's own, else `node`.
    #[serde(default)]
    pub user: Option<String>,
    /// The agent's environment.
    #[serde(default, deserialize_with = "parts::env")]
    pub env: BTreeMap<String, EnvValue>,
    /// SSH hosts.
    #[serde(default, deserialize_with = "parts::ssh_hosts")]
    pub ssh: Vec<SshHost>,
    /// HTTPS APIs.
    #[serde(default)]
    pub cred_proxy: CredProxy,
    /// The web.
    #[serde(default)]
    pub egress: Egress,
    /// An existing network that the sidecars join instead of one of the bottle's own.
    #[serde(default)]
    pub egress_network: Option<String>,
    /// Fixed addresses for host names, in the sidecars only.
    #[serde(default)]
    pub hosts: BTreeMap<String, IpAddr>,
    /// The CONNECT proxy that cred-proxy uses.
    #[serde(default)]
    pub upstream_proxy: UpstreamProxySetting,
    /// Limits of the agent's container.
    #[serde(default)]
    pub limits: Limits,
}

/// Which CONNECT proxy leads to the upstreams.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UpstreamProxySetting {
    /// The one of this machine's `HTTPS_PROXY`, if set.
    #[default]
    Host,
    /// None, whatever the environment says.
    Off,
    /// This one: `http://[USER:PASSWORD@]HOST:PORT`.
    Url(String),
}

/// One SSH host, in the words of ssh_config(5).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SshHost {
    /// The alias that the agent types.
    #[serde(rename = "Host", deserialize_with = "parts::ssh_alias")]
    pub alias: String,
    /// The real host.
    #[serde(rename = "Hostname", deserialize_with = "parts::host")]
    pub host: Host,
    /// The login name there.
    #[serde(rename = "User", default = "parts::git", deserialize_with = "parts::ssh_user")]
    pub user: String,
    /// The port there.
    #[serde(rename = "Port", default = "parts::port_22", deserialize_with = "parts::port")]
    pub port: u16,
    /// The private key on this machine.
    #[serde(rename = "IdentityFile")]
    pub identity_file: PathBuf,
    /// The host's public key; without it the first one seen is believed.
    #[serde(rename = "KnownHostKey", default)]
    pub known_host_key: Option<HostKey>,
}

/// The APIs that cred-proxy serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredProxy {
    /// Its routes.
    #[serde(deserialize_with = "parts::routes")]
    pub routes: Vec<Route>,
}

/// One API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// The prefix of the agent's requests.
    pub path: RoutePath,
    /// Where they go.
    pub upstream: UpstreamUrl,
    /// How the token is presented there.
    pub auth: Auth,
    /// Where the token is found.
    pub token: TokenRef,
    /// Whether the upstream may be at a private address.
    #[serde(default)]
    pub allow_private_upstream: bool,
    /// Whether the token is redacted from answers.
    #[serde(default = "parts::yes")]
    pub redact: bool,
    /// Whether cookies pass.
    #[serde(default)]
    pub cookies: bool,
    /// A CA to trust for this manifest's upstreams, PEM, on this machine.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The requests it takes, all for `None`.
    #[serde(default, deserialize_with = "sidecar::routes::rules")]
    pub allow: Option<Vec<sidecar::routes::Rule>>,
    /// Not yet.
    #[serde(default, deserialize_with = "parts::provides_not_yet")]
    pub provides: (),
}

/// What of the web the agent may reach: nothing, in this version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// Only `none`.
    #[serde(default, deserialize_with = "parts::egress_engine")]
    pub engine: (),
    /// Hosts; only an engine that is not here yet would read them.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// Limits of the agent's container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, e.g. `4GiB`.
    #[serde(default)]
    pub memory: Option<Size>,
    /// CPUs in billionths; written as a number such as `1.5`.
    #[serde(default, rename = "cpus", deserialize_with = "parts::cpus")]
    pub nano_cpus: Option<i64>,
    /// Processes.
    #[serde(default, deserialize_with = "parts::pids")]
    pub pids: Option<i64>,
}

/// An agent: what runs in which bottle.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// The bottle's name.
    pub bottle: String,
    /// Skills to copy in. Not yet: a manifest that names some is refused.
    #[serde(default, deserialize_with = "parts::skills_not_yet")]
    pub skills: Vec<String>,
    /// What the agent is told before everything else.
    #[serde(default)]
    pub prompt: String,
    /// What to run.
    #[serde(default)]
    pub command: Vec<String>,
}

impl SshHost {
    /// The name that the host's key goes by: `HOST`, or `[HOST]:PORT`.
    pub fn key_name(&self) -> String {
        let host = match &self.host {
            // OpenSSH writes a bare literal, and brackets only for a port.
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        if self.port == 22 { host } else { format!("[{host}]:{}", self.port) }
    }
}
