//! An engine in memory, for tests of whoever drives an engine.
//!
//! It keeps the objects by the rules of a real one: names of containers are unique, subnets may
//! not overlap, a network with a container on it cannot be removed, a container starts only once.
//! A sidecar (a container with an open stdin) says that it is ready once its bundle has been
//! written. It records every call, and can refuse any one of them, or do it and lose the answer,
//! so that a test can see what a failure leaves behind:
//!
//! ```
//! # use claude_bottle::engine::{Engine, recording::Recording};
//! # async fn launch(engine: &impl Engine) -> Result<(), claude_bottle::engine::EngineError> { engine.info().await.map(drop) }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let calls = {
//!     let engine = Recording::new();
//!     launch(&engine).await.unwrap();
//!     engine.calls().len()
//! };
//! for nth in 0..calls {
//!     let engine = Recording::refusing(nth);
//!     assert!(launch(&engine).await.is_err());
//!     assert_eq!(engine.leftovers(), Vec::<String>::new());
//! }
//! # });
//! ```

mod archive;
mod objects;
mod processes;
mod streams;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use ipnet::Ipv4Net;
use tokio::sync::Notify;

pub use self::archive::PutFile;
use self::objects::State;
use super::{
    Container, ContainerId, ContainerSpec, CreatedNetwork, Endpoint, Engine, EngineError, EngineInfo, Exec,
    ExecId, ExecSpec, Image, Network, NetworkId, NetworkSpec, Streams,
};

/// An engine in memory. Clones share their objects.
#[derive(Clone)]
pub struct Recording(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Wakes whoever waits for a container.
    changed: Notify,
    fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Refuse(usize),
    Lose(usize),
}

/// A command that was run: by exec, or as a one-shot container in another's network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// The name of the container.
    pub container: String,
    /// What was run, and as whom. Of a one-shot container: its entrypoint, command, env and user.
    pub spec: ExecSpec,
    /// What it read from its stdin.
    pub stdin: Vec<u8>,
}

/// What a command that was run does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it writes.
    pub stdout: Vec<u8>,
    /// What it complains.
    pub stderr: Vec<u8>,
    /// How it ends.
    pub exit_code: i64,
}

impl Recording {
    /// An engine that does all it is asked, without images of its own.
    pub fn new() -> Recording {
        Recording::with_fault(Fault::None)
    }

    /// An engine that refuses the call of that number, counted from 0, and does nothing for it.
    pub fn refusing(nth: usize) -> Recording {
        Recording::with_fault(Fault::Refuse(nth))
    }

    /// An engine that does the call of that number, counted from 0, but whose answer is lost.
    pub fn losing(nth: usize) -> Recording {
        Recording::with_fault(Fault::Lose(nth))
    }

    fn with_fault(fault: Fault) -> Recording {
        Recording(Arc::new(Shared { state: Mutex::new(State::default()), changed: Notify::new(), fault }))
    }

    /// Has an image by that name.
    #[must_use]
    pub fn with_image(self, name: &str, image: Image) -> Recording {
        self.state().add_image(image, Some(name));
        self
    }

    /// Has a network of the user's own, which does not count as left over.
    #[must_use]
    pub fn with_network(self, name: &str, internal: bool, subnet: Ipv4Net) -> Recording {
        self.state().add_foreign_network(name, internal, subnet);
        self
    }

    /// Describes itself so.
    #[must_use]
    pub fn with_info(self, info: EngineInfo) -> Recording {
        self.state().info = info;
        self
    }

    /// Has this file in every container, besides what is put there.
    #[must_use]
    pub fn with_file(self, path: &str, contents: impl Into<Bytes>) -> Recording {
        self.state().files.insert(path.to_owned(), contents.into());
        self
    }

    /// Answers commands so, without asking the recording; else each ends with exit code 0 and no output.
    #[must_use]
    pub fn with_runs(self, answer: impl Fn(&Run) -> Answer + Send + Sync + 'static) -> Recording {
        self.state().answer = Arc::new(answer);
        self
    }

    /// Sidecars of this role (`ssh-gate`, ...) never say that they are ready.
    #[must_use]
    pub fn with_unready(self, role: &str) -> Recording {
        self.state().unready.insert(role.to_owned(), None);
        self
    }

    /// Sidecars of this role end so once they have read their bundle, in place of becoming ready.
    #[must_use]
    pub fn with_failing(self, role: &str, answer: Answer) -> Recording {
        self.state().unready.insert(role.to_owned(), Some(answer));
        self
    }

    /// The calls so far, e.g. `create network claude-bottle-int-dev`; the faulty one included.
    pub fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// The commands that were run, and have read their stdin to its end.
    pub fn runs(&self) -> Vec<Run> {
        self.state().runs.clone()
    }

    /// The names of the containers and networks that remain.
    pub fn leftovers(&self) -> Vec<String> {
        self.state().leftovers()
    }

    /// The names and ids of the images it has.
    pub fn images(&self) -> BTreeSet<String> {
        self.state().image_references()
    }

    /// How a container was created; also after its removal.
    pub fn created(&self, name: &str) -> Option<ContainerSpec> {
        self.state().created.iter().rev().find(|spec| spec.name == name).cloned()
    }

    /// How a network was created; also after its removal.
    pub fn created_network(&self, name: &str) -> Option<NetworkSpec> {
        self.state().created_networks.iter().rev().find(|spec| spec.name == name).cloned()
    }

    /// What was written to the stdin of a container; also after its removal.
    pub fn stdin_of(&self, name: &str) -> Vec<u8> {
        self.state().stdin.get(name).cloned().unwrap_or_default()
    }

    /// The files that were put into a container; also after its removal.
    pub fn put_into(&self, name: &str) -> Vec<PutFile> {
        self.state().put.get(name).cloned().unwrap_or_default()
    }

    /// Ends a container as if its first process had exited.
    pub fn end(&self, name: &str, exit_code: i64) {
        self.state().end(name, exit_code);
        self.0.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no test panics while it holds the recording")
    }

    /// Records a call and does it, unless it is the faulty one.
    fn call<T>(
        &self,
        name: impl FnOnce(&State) -> String,
        act: impl FnOnce(&mut State) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let mut state = self.state();
        let (nth, name) = (state.calls.len(), name(&state));
        state.calls.push(name.clone());
        if self.0.fault == Fault::Refuse(nth) {
            return Err(EngineError::Refused {
                act: name,
                status: 500,
                message: "refused by the test".into(),
            });
        }
        let done = act(&mut state);
        drop(state);
        self.0.changed.notify_waiters();
        if self.0.fault == Fault::Lose(nth) {
            return Err(EngineError::Broken { act: name, source: "the answer was lost by the test".into() });
        }
        done
    }
}

impl Engine for Recording {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.call(|_| "info".into(), |state| Ok(state.info.clone()))
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, EngineError> {
        self.call(|_| format!("inspect image {reference}"), |state| Ok(state.image(reference)))
    }

    async fn load_image(&self, archive: Bytes) -> Result<(), EngineError> {
        self.call(|_| "load image".into(), |state| state.load_image(&archive))
    }

    async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        self.call(
            |_| format!("remove image {reference}"),
            |state| {
                state.remove_image(reference);
                Ok(())
            },
        )
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<CreatedNetwork, EngineError> {
        self.call(|_| format!("create network {}", spec.name), |state| state.create_network(spec))
    }

    async fn network(&self, reference: &str) -> Result<Option<Network>, EngineError> {
        self.call(|_| format!("inspect network {reference}"), |state| Ok(state.network(reference)))
    }

    async fn networks(&self, label: Option<&str>) -> Result<Vec<Network>, EngineError> {
        self.call(|_| "list networks".into(), |state| Ok(state.networks(label)))
    }

    async fn connect(
        &self,
        network: &NetworkId,
        container: &ContainerId,
        endpoint: &Endpoint,
    ) -> Result<(), EngineError> {
        let name = |state: &State| {
            format!("connect {} to {}", state.container_name(&container.0), state.network_name(&network.0))
        };
        self.call(name, |state| state.connect(network, container, endpoint))
    }

    async fn remove_network(&self, id: &NetworkId) -> Result<(), EngineError> {
        self.call(
            |state| format!("remove network {}", state.network_name(&id.0)),
            |state| state.remove_network(id),
        )
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, EngineError> {
        self.call(|_| format!("create container {}", spec.name), |state| state.create_container(spec))
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.call(|state| format!("start {}", state.container_name(&id.0)), |state| state.start(id))
    }

    async fn attach(&self, id: &ContainerId) -> Result<Streams, EngineError> {
        let output =
            self.call(|state| format!("attach {}", state.container_name(&id.0)), |state| state.attach(id))?;
        Ok(streams::joined(output, streams::Stdin::of_container(self.clone(), id.clone())))
    }

    async fn wait(&self, id: &ContainerId, deadline: Duration) -> Result<i64, EngineError> {
        self.call(
            |state| format!("wait for {}", state.container_name(&id.0)),
            |state| state.must_have(id).map(drop),
        )?;
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(code) = self.state().exit_code(id) {
                return Ok(code);
            }
            let late =
                |_| EngineError::Timeout { act: "wait for a container".into(), seconds: deadline.as_secs() };
            tokio::time::timeout(deadline, changed).await.map_err(late)?;
        }
    }

    async fn container(&self, reference: &str) -> Result<Option<Container>, EngineError> {
        self.call(
            |state| format!("inspect container {}", state.container_name(reference)),
            |state| Ok(state.container(reference)),
        )
    }

    async fn containers(&self, label: Option<&str>) -> Result<Vec<Container>, EngineError> {
        self.call(|_| "list containers".into(), |state| Ok(state.containers(label)))
    }

    async fn logs(&self, id: &ContainerId, tail: usize) -> Result<String, EngineError> {
        self.call(|state| format!("logs {}", state.container_name(&id.0)), |state| state.logs(id, tail))
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.call(
            |state| format!("remove container {}", state.container_name(&id.0)),
            |state| {
                state.remove_container(id);
                Ok(())
            },
        )
    }

    async fn put(&self, id: &ContainerId, archive: Bytes) -> Result<(), EngineError> {
        self.call(|state| format!("put {}", state.container_name(&id.0)), |state| state.put(id, &archive))
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Bytes>, EngineError> {
        self.call(
            |state| format!("read {path} of {}", state.container_name(&id.0)),
            |state| state.read_file(id, path),
        )
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Exec, EngineError> {
        let name = |state: &State| {
            let program = spec.command.first().map_or("", String::as_str);
            format!("exec {program} in {}", state.container_name(&id.0))
        };
        let (exec, output) = self.call(name, |state| state.exec(id, spec))?;
        let streams = (spec.stdin || spec.output)
            .then(|| streams::joined(output, streams::Stdin::of_exec(self.clone(), exec.clone())));
        Ok(Exec { id: exec, streams })
    }

    async fn exec_exit_code(&self, exec: &ExecId) -> Result<i64, EngineError> {
        self.call(|_| "exec exit code".into(), |state| state.exec_exit_code(exec))
    }
}

impl Default for Recording {
    fn default() -> Recording {
        Recording::new()
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("calls", &self.calls()).field("fault", &self.0.fault).finish()
    }
}

#[cfg(test)]
mod tests;
