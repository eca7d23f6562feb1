//! The container engine, as the launcher needs it.
//!
//! [`Engine`] is everything the launcher may ask of an engine; [`docker`] asks a real one over its
//! API, [`recording`] keeps the objects in memory and can refuse any call, so that a test can see
//! what a failure leaves behind. Objects are referred to by id everywhere: on engine 20.10 the
//! names of networks are not unique.

pub mod docker;
pub mod recording;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use ipnet::Ipv4Net;
use tokio::io::AsyncWrite;

/// What the launcher may ask of a container engine. Every call has a deadline of its own.
pub trait Engine: Send + Sync {
    /// The engine's version, API version and architecture, and the runtimes it has.
    fn info(&self) -> impl Future<Output = Result<EngineInfo, EngineError>> + Send;

    /// The image of that name or id, or `None` when the engine does not have it. Never pulls.
    fn image(&self, reference: &str) -> impl Future<Output = Result<Option<Image>, EngineError>> + Send;
    /// Loads a `docker load` archive.
    fn load_image(&self, archive: Bytes) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Removes an image by name or id; a missing one is success.
    fn remove_image(&self, reference: &str) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Creates a bridge network and returns its id. [`EngineError::SubnetTaken`] when its subnet overlaps another.
    fn create_network(
        &self,
        spec: &NetworkSpec,
    ) -> impl Future<Output = Result<CreatedNetwork, EngineError>> + Send;
    /// The network of that name or id, or `None`.
    fn network(&self, reference: &str) -> impl Future<Output = Result<Option<Network>, EngineError>> + Send;
    /// The networks that carry a label, given as `key` or `key=value`; all networks for `None`.
    fn networks(&self, label: Option<&str>)
    -> impl Future<Output = Result<Vec<Network>, EngineError>> + Send;
    /// Connects a created container to a network.
    fn connect(
        &self,
        network: &NetworkId,
        container: &ContainerId,
        endpoint: &Endpoint,
    ) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Removes a network; a missing one is success.
    fn remove_network(&self, id: &NetworkId) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Creates a container, not yet started, and returns its id. [`EngineError::NameTaken`] when its name is in use.
    fn create_container(
        &self,
        spec: &ContainerSpec,
    ) -> impl Future<Output = Result<ContainerId, EngineError>> + Send;
    /// Starts a created container.
    fn start(&self, id: &ContainerId) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Attaches to the standard streams of a container without a terminal. Attach before the start, to miss nothing.
    fn attach(&self, id: &ContainerId) -> impl Future<Output = Result<Streams, EngineError>> + Send;
    /// Waits until a container has ended and returns its exit code. [`EngineError::Timeout`] after the deadline.
    fn wait(
        &self,
        id: &ContainerId,
        deadline: Duration,
    ) -> impl Future<Output = Result<i64, EngineError>> + Send;
    /// What the engine knows of a container, or `None` when it is gone.
    fn container(
        &self,
        reference: &str,
    ) -> impl Future<Output = Result<Option<Container>, EngineError>> + Send;
    /// The containers, running or not, that carry a label, given as `key` or `key=value`; all containers for `None`.
    fn containers(
        &self,
        label: Option<&str>,
    ) -> impl Future<Output = Result<Vec<Container>, EngineError>> + Send;
    /// The last lines, at most `tail`, of what a container wrote, stdout and stderr together.
    fn logs(&self, id: &ContainerId, tail: usize)
    -> impl Future<Output = Result<String, EngineError>> + Send;
    /// Kills and removes a container and its anonymous volumes; a missing one is success.
    fn remove_container(&self, id: &ContainerId) -> impl Future<Output = Result<(), EngineError>> + Send;

    /// Unpacks a tar archive, whose paths are relative to `/`, into a container, owners and modes as they stand in it.
    fn put(&self, id: &ContainerId, archive: Bytes) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Reads one small regular file (at most 1 MiB) out of a container, `None` when it is not there.
    fn read_file(
        &self,
        id: &ContainerId,
        path: &str,
    ) -> impl Future<Output = Result<Option<Bytes>, EngineError>> + Send;

    /// Runs a command in a running container, and joins its streams.
    fn exec(
        &self,
        id: &ContainerId,
        spec: &ExecSpec,
    ) -> impl Future<Output = Result<Exec, EngineError>> + Send;
    /// The exit code of an exec whose output has ended; waits for it, within a deadline.
    fn exec_exit_code(&self, exec: &ExecId) -> impl Future<Output = Result<i64, EngineError>> + Send;
}

/// Why the engine did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No engine answers at the address.
    #[error("could not reach the container engine at {address}")]
    Unreachable {
        /// Where it was looked for, e.g. `unix:///var/run/docker.sock`.
        address: String,
        /// What the connection said.
        source: std::io::Error,
    },
    /// The socket is there, but not for this user.
    #[error("no permission to use the container engine at {address}")]
    Permission {
        /// Where it was looked for.
        address: String,
    },
    /// The engine's address makes no sense.
    #[error(
        "expected an engine address such as unix:///var/run/docker.sock or tcp://127.0.0.1:2375, found {found:?}"
    )]
    Address {
        /// What was given.
        found: String,
    },
    /// The object is not there.
    #[error("the engine could not {act}: {message}")]
    NotFound {
        /// What was asked, e.g. `create container claude-bottle-dev`.
        act: String,
        /// The engine's sentence.
        message: String,
    },
    /// The name of a container or network is in use.
    #[error("the {kind} name {name} is taken")]
    NameTaken {
        /// What has that name.
        kind: ObjectKind,
        /// The name asked for.
        name: String,
    },
    /// The subnet overlaps another network's.
    #[error("the subnet {subnet} is taken")]
    SubnetTaken {
        /// The subnet asked for.
        subnet: String,
    },
    /// The engine refused, in its own words.
    #[error("the engine could not {act}: {message}")]
    Refused {
        /// What was asked.
        act: String,
        /// The HTTP status of its answer.
        status: u16,
        /// The engine's sentence.
        message: String,
    },
    /// The connection to the engine broke, or its answer made no sense.
    #[error("the engine's answer could not be read: could not {act}")]
    Broken {
        /// What was asked.
        act: String,
        /// What the client library said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine did not answer within the deadline.
    #[error("the engine did not {act} within {seconds} s")]
    Timeout {
        /// What was asked.
        act: String,
        /// The deadline.
        seconds: u64,
    },
}

/// What an engine keeps under names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A container.
    Container,
    /// A network.
    Network,
    /// An image.
    Image,
}

impl ObjectKind {
    /// The command that removes the object of that name.
    pub fn removal(self, name: &str) -> String {
        match self {
            Self::Container => format!("docker rm -f {name}"),
            Self::Network => format!("docker network rm {name}"),
            Self::Image => format!("docker rmi {name}"),
        }
    }
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Image => "image",
        })
    }
}

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
    /// Whether the engine runs on this machine, so that the routes of this machine are its routes.
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
    /// Whether it leads nowhere: `Internal`, and the bridge options of [`NetworkSpec::options`].
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
    /// Whether it leads nowhere.
    pub internal: bool,
    /// Its IPv4 subnets.
    pub subnets: Vec<Ipv4Net>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// How a container stands in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// A fixed address, else the engine picks one.
    pub address: Option<Ipv4Addr>,
    /// Names that the network's other containers may use for it.
    pub aliases: Vec<String>,
    /// Whether the default route leads here, where the engine can be told (API 1.48).
    pub default_route: bool,
}

/// What a container's network is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkMode {
    /// This network, joined at creation.
    Network(NetworkId, Endpoint),
    /// The network namespace of another container.
    Container(ContainerId),
    /// None but its own loopback.
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
    /// Environment, visible in `docker inspect`: never a secret of the sidecars.
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
    /// The most processes.
    pub pids: Option<i64>,
    /// The most memory, bytes.
    pub memory: Option<i64>,
    /// The most CPUs, in billionths.
    pub nano_cpus: Option<i64>,
    /// The runtime, e.g. `runc`; else the engine's default.
    pub runtime: Option<String>,
    /// Whether stdin is open, once: for the bundle.
    pub stdin: bool,
    /// Bounded log files: the json-file driver with `max-size` and `max-file` set.
    pub bounded_logs: bool,
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

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// From its stdout.
    Stdout(Bytes),
    /// From its stderr.
    Stderr(Bytes),
}

/// What comes out of a container or an exec, until it ends.
pub type OutputStream = Pin<Box<dyn Stream<Item = Result<Output, EngineError>> + Send>>;

/// What goes into a container or an exec; shutting it down half-closes, which is EOF for the reader.
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// The standard streams of a container.
pub struct Streams {
    /// Its stdout and stderr.
    pub output: OutputStream,
    /// Its stdin.
    pub input: Input,
}

/// A command to run in a running container. Its arguments are published in the engine's event
/// stream: a secret goes over stdin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment, on top of the container's.
    pub env: BTreeMap<String, String>,
    /// The user, else the container's.
    pub user: Option<String>,
    /// The working directory, else the container's.
    pub working_dir: Option<String>,
    /// Whether stdin is joined.
    pub stdin: bool,
    /// Whether the output is joined; without it the exec runs on by itself.
    pub output: bool,
}

/// A running exec.
pub struct Exec {
    /// Its id.
    pub id: ExecId,
    /// Its streams; `None` when it was started without joining any.
    pub streams: Option<Streams>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("id", &self.id).finish_non_exhaustive()
    }
}
