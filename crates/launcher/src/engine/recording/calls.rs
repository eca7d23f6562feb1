//! The recording as an engine: every call is recorded, meets its fault, and acts on the objects.

use std::time::Duration;

use bytes::Bytes;

use super::Recording;
use super::state::State;
use super::streams::{self, Written};
use crate::engine::{
    Container, ContainerId, ContainerSpec, CreatedNetwork, Endpoint, Engine, EngineError, EngineInfo, Exec,
    ExecId, ExecSpec, Image, Network, NetworkId, NetworkSpec, Streams,
};

impl Engine for Recording {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        self.call(|_| "info".into(), |state| Ok(state.info.clone())).await
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, EngineError> {
        let wanted = reference.to_owned();
        self.call(|_| format!("inspect image {reference}"), move |state| Ok(state.image(&wanted))).await
    }

    async fn load_image(&self, archive: Bytes) -> Result<(), EngineError> {
        self.call(|_| "load image".into(), move |state| state.load_image(&archive)).await
    }

    async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        let removed = reference.to_owned();
        let act = move |state: &mut State| {
            state.remove_image(&removed);
            Ok(())
        };
        self.call(|_| format!("remove image {reference}"), act).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<CreatedNetwork, EngineError> {
        let created = spec.clone();
        let name = |_: &State| format!("create network {}", spec.name);
        self.call(name, move |state| state.create_network(&created)).await
    }

    async fn network(&self, reference: &str) -> Result<Option<Network>, EngineError> {
        let wanted = reference.to_owned();
        self.call(|_| format!("inspect network {reference}"), move |state| Ok(state.network(&wanted))).await
    }

    async fn networks(&self, label: Option<&str>) -> Result<Vec<Network>, EngineError> {
        let label = label.map(str::to_owned);
        self.call(|_| "list networks".into(), move |state| Ok(state.networks(label.as_deref()))).await
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
        let (network, container, endpoint) = (network.clone(), container.clone(), endpoint.clone());
        self.call(name, move |state| state.connect(&network, &container, &endpoint)).await
    }

    async fn remove_network(&self, id: &NetworkId) -> Result<(), EngineError> {
        let removed = id.clone();
        let name = |state: &State| format!("remove network {}", state.network_name(&id.0));
        self.call(name, move |state| state.remove_network(&removed)).await
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, EngineError> {
        let created = spec.clone();
        let name = |_: &State| format!("create container {}", spec.name);
        self.call(name, move |state| state.create_container(&created)).await
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        let started = id.clone();
        self.call(about("start", id), move |state| state.start(&started)).await
    }

    async fn attach(&self, id: &ContainerId) -> Result<Streams, EngineError> {
        let (engine, id) = (self.clone(), id.clone());
        let attached = id.clone();
        let attach = move |state: &mut State| Ok((state.attach(&attached)?, state.is_deaf(&attached)));
        let (output, deaf) = self.call(about("attach", &id), attach).await?;
        if deaf {
            return Ok(streams::deaf(output));
        }
        Ok(streams::joined(output, move |written| {
            engine.perform(|state| match written {
                Written::Bytes(bytes) => state.write_to_container(&id, bytes),
                Written::End => state.end_stdin(&id),
            });
        }))
    }

    async fn wait(&self, id: &ContainerId, deadline: Duration) -> Result<i64, EngineError> {
        let awaited = id.clone();
        self.call(about("wait for", id), move |state| state.must_have(&awaited).map(drop)).await?;
        let ended = async {
            loop {
                let changed = self.0.changed.notified();
                tokio::pin!(changed);
                // From here on no change is missed.
                changed.as_mut().enable();
                if let Some(code) = self.state().exit_code(id) {
                    return code;
                }
                changed.await;
            }
        };
        let late =
            |_| EngineError::Timeout { act: "wait for a container".into(), seconds: deadline.as_secs() };
        tokio::time::timeout(deadline, ended).await.map_err(late)
    }

    async fn container(&self, reference: &str) -> Result<Option<Container>, EngineError> {
        let wanted = reference.to_owned();
        let name = |state: &State| format!("inspect container {}", state.container_name(reference));
        self.call(name, move |state| Ok(state.container(&wanted))).await
    }

    async fn containers(&self, label: Option<&str>) -> Result<Vec<Container>, EngineError> {
        let label = label.map(str::to_owned);
        self.call(|_| "list containers".into(), move |state| Ok(state.containers(label.as_deref()))).await
    }

    async fn logs(&self, id: &ContainerId, tail: usize) -> Result<String, EngineError> {
        let read = id.clone();
        self.call(about("logs", id), move |state| state.logs(&read, tail)).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        let removed = id.clone();
        let act = move |state: &mut State| {
            state.remove_container(&removed);
            Ok(())
        };
        self.call(about("remove container", id), act).await
    }

    async fn put(&self, id: &ContainerId, archive: Bytes) -> Result<(), EngineError> {
        let filled = id.clone();
        self.call(about("put", id), move |state| state.put(&filled, &archive)).await
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Bytes>, EngineError> {
        let (read, at) = (id.clone(), path.to_owned());
        let name = |state: &State| format!("read {path} of {}", state.container_name(&id.0));
        self.call(name, move |state| state.read_file(&read, &at)).await
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Exec, EngineError> {
        let name = |state: &State| {
            let program = spec.command.first().map_or("", String::as_str);
            format!("exec {program} in {}", state.container_name(&id.0))
        };
        let (container, command) = (id.clone(), spec.clone());
        let (exec, output) = self.call(name, move |state| state.exec(&container, &command)).await?;
        let (engine, running) = (self.clone(), exec.clone());
        let streams = (spec.stdin || spec.output).then(|| {
            streams::joined(output, move |written| {
                engine.perform(|state| match written {
                    Written::Bytes(bytes) => state.write_to_exec(&running, bytes),
                    Written::End => state.run_exec(&running),
                });
            })
        });
        Ok(Exec { id: exec, streams })
    }

    async fn exec_exit_code(&self, exec: &ExecId) -> Result<i64, EngineError> {
        let ended = exec.clone();
        self.call(|_| "exec exit code".into(), move |state| state.exec_exit_code(&ended)).await
    }
}

/// The name of a call about a container.
fn about(act: &'static str, id: &ContainerId) -> impl FnOnce(&State) -> String + Send {
    let id = id.clone();
    move |state| format!("{act} {}", state.container_name(&id.0))
}
