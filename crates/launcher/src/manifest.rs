//! The manifest: what the user wrote, checked as it is read.
//!
//! A parsed manifest is never checked again: every name it refers to exists, every port and host is
//! valid, and what this version does not implement has been refused. Its errors begin with file,
//! line, column and the value's path. They never print what may be a secret.

mod at;
mod document;
mod fault;
mod guard;
mod host_key;
mod json;
mod load;
mod names;
mod numbers;
mod proxy;
mod routes;
mod ssh;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use sidecar::routes::{Auth, RoutePath, UpstreamUrl};
use sidecar::upstream::Host;

pub use crate::secrets::{EnvValue, TokenRef};
pub use fault::{Fault, ManifestError};
pub use host_key::HostKey;
pub use load::{find, load, parse};
pub use numbers::Size;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// For editors; not read.
    pub schema: Option<String>,
    /// Bottles by name.
    pub bottles: BTreeMap<String, Bottle>,
    /// Agents by name.
    pub agents: BTreeMap<String, Agent>,
}

/// A bottle: an image, and what its agent may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bottle {
    /// The agent's image.
    pub image: Option<String>,
    /// The agent's user, else the image's own, else `node`.
    pub user: Option<String>,
    /// The agent's environment.
    pub env: BTreeMap<String, EnvValue>,
    /// SSH hosts.
    pub ssh: Vec<SshHost>,
    /// HTTPS APIs.
    pub cred_proxy: CredProxy,
    /// The web.
    pub egress: Egress,
    /// An existing network that the sidecars join instead of one of the bottle's own.
    pub egress_network: Option<String>,
    /// Fixed addresses for host names, in the sidecars only.
    pub hosts: BTreeMap<String, IpAddr>,
    /// The CONNECT proxy that cred-proxy uses.
    pub upstream_proxy: UpstreamProxySetting,
    /// Limits of the agent's container.
    pub limits: Limits,
}

/// Which CONNECT proxy is used for the upstreams. `Debug` does not print a URL: it may contain a password.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum UpstreamProxySetting {
    /// The one of this machine's `HTTPS_PROXY`, if set.
    #[default]
    Host,
    /// None, even if the environment names one.
    Off,
    /// This one: `http://[USER:PASSWORD@]HOST:PORT`.
    Url(String),
}

/// One SSH host, in the words of ssh_config(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshHost {
    /// The alias that the agent types.
    pub alias: String,
    /// The real host.
    pub host: Host,
    /// The login name there.
    pub user: String,
    /// The port there.
    pub port: u16,
    /// The private key on this machine.
    pub identity_file: PathBuf,
    /// The host's public key. Without it the host key is trusted on first use.
    pub known_host_key: Option<HostKey>,
}

/// The APIs that cred-proxy serves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredProxy {
    /// Its routes.
    pub routes: Vec<Route>,
}

/// One API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The prefix of the agent's requests.
    pub path: RoutePath,
    /// Where requests go.
    pub upstream: UpstreamUrl,
    /// How the token is presented there.
    pub auth: Auth,
    /// Where the token is found.
    pub token: TokenRef,
    /// Whether the upstream may be at a private address.
    pub allow_private_upstream: bool,
    /// Whether the token is redacted from answers.
    pub redact: bool,
    /// Whether cookies pass.
    pub cookies: bool,
    /// CA certificates for this route alone: a PEM file on this machine.
    pub ca_file: Option<PathBuf>,
    /// The requests it accepts; all for `None`.
    pub allow: Option<Vec<sidecar::routes::Rule>>,
}

/// Which web hosts the agent may reach: none, in this version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    /// Hosts, for an engine that is not implemented yet.
    pub allow: Vec<String>,
}

/// Limits of the agent's container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory, e.g. `4GiB`.
    pub memory: Option<Size>,
    /// CPUs in billionths; `1.5` in the manifest.
    pub nano_cpus: Option<i64>,
    /// Processes.
    pub pids: Option<i64>,
}

/// An agent: what runs in which bottle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The bottle's name.
    pub bottle: String,
    /// Skills to copy in. Not implemented yet: a manifest that names one is refused.
    pub skills: Vec<String>,
    /// The agent's instructions.
    pub prompt: String,
    /// What to run.
    pub command: Vec<String>,
}

impl fmt::Debug for UpstreamProxySetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "Host",
            Self::Off => "Off",
            Self::Url(_) => "Url(..)",
        })
    }
}

impl SshHost {
    /// The name that the host's key goes by: `HOST`, or `[HOST]:PORT`.
    pub fn key_name(&self) -> String {
        host_key::row_name(&self.host, self.port)
    }
}

#[cfg(test)]
mod tests;
