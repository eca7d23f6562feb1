//! The container engine, as the launcher needs it.
//!
//! [`Engine`] is everything that the launcher may request of an engine. [`docker`] sends it to a
//! real one over its API. `recording` keeps the objects in memory and can refuse, stall or delay
//! any call, so that a test can see what a failure leaves behind. Objects are referred to by id
//! everywhere: on engine 20.10 the names of networks are not unique.

pub mod docker;
#[cfg(any(test, feature = "recording"))]
pub mod recording;

mod error;
mod objects;
mod streams;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

pub use self::error::{EngineError, FileFault, ObjectKind, Protocol};
pub use self::objects::{
    Container, ContainerId, ContainerSpec, CreatedNetwork, Endpoint, EngineInfo, ExecId, Image, Network,
    NetworkId, NetworkMode, NetworkSpec, Product,
};
pub use self::streams::{Exec, ExecSpec, Input, Output, OutputStream, Streams, cannot_run};

/// What the launcher may request of a container engine. Every call has a deadline of its own.
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

    /// Unpacks a tar archive, whose paths are relative to `/`, into a container, with the owners and modes of the archive.
    fn put(&self, id: &ContainerId, archive: Bytes) -> impl Future<Output = Result<(), EngineError>> + Send;
    /// Reads a regular file of at most 1 MiB in a container; `None` when it is missing. Symbolic links are
    /// followed within the container's root. [`EngineError::File`] when the path leads to anything else.
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
