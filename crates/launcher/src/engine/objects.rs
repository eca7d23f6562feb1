//! What an engine has and creates: containers, networks and images.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;

/// Which program the engine is, by `Components[0].Name` of its `/version`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Product {
    /// Docker Engine.
    Docker,
    /// podman's Docker-compatible service.
    Podman,
    /// Another engine, by the name it reports.
    Other(String),
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Podman => "podman",
            Self::Other(name) => name,
        })
    }
}

/// The engine, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Which program it is.
    pub product: Product,
    /// E.g. `20.10.24`.
    pub version: String,
    /// The newest API it speaks, e.g. `1.41`.
    pub api: String,
    /// The machine's architecture in Rust's words: `x86_64`, `aarch64`.
    pub arch: String,
    /// Names of the runtimes it can start containers with, e.g. `runc`, `runsc`.
    pub runtimes: Vec<String>,
    /// Whether it is reached over a Unix socket: unless that is forwarded, the engine runs on this machine,
    /// and the routes of this machine are its routes.
    pub local: bool,
}

/// The id of a container, as the engine gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(pub String);

/// The id of a network, as the engine gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(pub String);

/// The id of an exec, as the engine gave it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecId(pub String);

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `sha256:...`: the digest of the configuration or, with the containerd store, of the manifest.
    pub id: String,
    /// The user its containers run as, if the image names one.
    pub user: Option<String>,
    /// The working directory, if the image names one.
    pub working_dir: Option<String>,
}

/// A network to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Whether it has no way out: `Internal`. The bridge options are in [`NetworkSpec::options`].
    pub internal: bool,
    /// Its subnet; the engine keeps the first address for the gateway.
    pub subnet: Ipv4Net,
    /// Driver options, e.g. `com.docker.network.bridge.inhibit_ipv4=true`.
    pub options: BTreeMap<String, String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A network that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedNetwork {
    /// Its id.
    pub id: NetworkId,
    /// What the engine did not do as asked, in its own words: `Warning` of the response.
    pub warning: Option<String>,
}

/// A network that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Its name; on engine 20.10 not unique.
    pub name: String,
    /// Whether it has no way out.
    pub internal: bool,
    /// Its IPv4 subnets.
    pub subnets: Vec<Ipv4Net>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// A container's connection to a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// A fixed address, else the engine picks one.
    pub address: Option<Ipv4Addr>,
    /// Names that the network's other containers may use for it.
    pub aliases: Vec<String>,
    /// Whether the default route leads here. Engines take this from API 1.48 on.
    pub default_route: bool,
}

/// What a container's network is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// This network, joined at creation.
    Network(NetworkId, Endpoint),
    /// The network namespace of another container.
    Container(ContainerId),
    /// Only a loopback interface.
    None,
}

/// A container to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// The image, by id.
    pub image: String,
    /// Replaces the image's entrypoint and command when not empty.
    pub entrypoint: Vec<String>,
    /// Arguments for the entrypoint.
    pub command: Vec<String>,
    /// Environment, visible in `docker inspect`: never a secret.
    pub env: BTreeMap<String, String>,
    /// `name`, `uid` or `uid:gid`; else the image's.
    pub user: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its network.
    pub network: NetworkMode,
    /// Resolvers, in place of the engine's.
    pub dns: Vec<String>,
    /// Options for resolv.conf, e.g. `timeout:1`.
    pub dns_options: Vec<String>,
    /// Names that /etc/hosts resolves, in addition to the engine's.
    pub extra_hosts: BTreeMap<String, IpAddr>,
    /// Whether its root file system is read-only.
    pub read_only: bool,
    /// Capabilities kept; all others are dropped.
    pub cap_add: Vec<String>,
    /// Kernel settings of its namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// The maximum number of processes.
    pub pids: Option<i64>,
    /// The maximum memory, in bytes.
    pub memory: Option<i64>,
    /// The maximum CPU time, in billionths of a CPU.
    pub nano_cpus: Option<i64>,
    /// The runtime, e.g. `runc`; else the engine's default.
    pub runtime: Option<String>,
    /// Whether stdin is open, once: for the bundle.
    pub stdin: bool,
    /// Bounded log files: the json-file driver with `max-size` and `max-file` set.
    pub bounded_logs: bool,
    /// Whether the HEALTHCHECK of the image is run.
    pub healthcheck: bool,
}

impl ContainerSpec {
    /// A container of that name and image on no network, without input, limits or capabilities; its
    /// log files are bounded.
    pub fn new(name: &str, image: &str) -> ContainerSpec {
        ContainerSpec {
            name: name.to_owned(),
            image: image.to_owned(),
            entrypoint: Vec::new(),
            command: Vec::new(),
            env: BTreeMap::new(),
            user: None,
            labels: BTreeMap::new(),
            network: NetworkMode::None,
            dns: Vec::new(),
            dns_options: Vec::new(),
            extra_hosts: BTreeMap::new(),
            read_only: false,
            cap_add: Vec::new(),
            sysctls: BTreeMap::new(),
            pids: None,
            memory: None,
            nano_cpus: None,
            runtime: None,
            stdin: false,
            bounded_logs: true,
            healthcheck: false,
        }
    }
}

/// A container that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name, without the engine's leading slash.
    pub name: String,
    /// The engine's `State.Status`: `created`, `running`, `exited`, ...
    pub status: String,
    /// When it was started, RFC 3339; `None` before that, and in lists.
    pub started: Option<String>,
    /// The exit code, once it has ended; `None` in lists.
    pub exit_code: Option<i64>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}
