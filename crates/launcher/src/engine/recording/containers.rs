//! The containers of the recording: names are unique, addresses are taken once, and a read-only
//! root takes no files.

use bytes::Bytes;

use super::archive;
use super::objects::ContainerObject;
use super::refusals::{missing, refused};
use super::state::{State, labelled};
use crate::engine::{Container, ContainerId, ContainerSpec, EngineError, NetworkMode, ObjectKind};

impl State {
    pub(super) fn create_container(&mut self, spec: &ContainerSpec) -> Result<ContainerId, EngineError> {
        let act = format!("create container {}", spec.name);
        if self.containers.iter().any(|container| container.spec.name == spec.name) {
            return Err(EngineError::NameTaken { kind: ObjectKind::Container, name: spec.name.clone() });
        }
        if self.image(&spec.image).is_none() {
            return Err(missing(ObjectKind::Image, &act, &format!("No such image: {}", spec.image)));
        }
        let endpoints = match &spec.network {
            NetworkMode::Network(network, endpoint) => {
                self.must_be_free(network, endpoint)?;
                vec![(network.clone(), endpoint.clone())]
            }
            NetworkMode::Container(id) => {
                self.must_have(id)?;
                Vec::new()
            }
            NetworkMode::None => Vec::new(),
        };
        let id = ContainerId(self.new_id());
        self.created.push(spec.clone());
        self.containers.push(ContainerObject::new(id.clone(), spec.clone(), endpoints));
        Ok(id)
    }

    pub(super) fn must_have(&self, id: &ContainerId) -> Result<usize, EngineError> {
        self.position(&id.0).ok_or_else(|| {
            missing(ObjectKind::Container, "find the container", &format!("No such container: {}", id.0))
        })
    }

    pub(super) fn position(&self, reference: &str) -> Option<usize> {
        self.containers.iter().position(|c| c.id.0 == reference || c.spec.name == reference)
    }

    pub(super) fn container_name(&self, reference: &str) -> String {
        self.position(reference)
            .map_or_else(|| reference.to_owned(), |at| self.containers[at].spec.name.clone())
    }

    pub(super) fn container(&self, reference: &str) -> Option<Container> {
        let container = &self.containers[self.position(reference)?];
        Some(Container {
            started: container.started.then(|| "2026-01-01T00:00:00Z".to_owned()),
            exit_code: container.exit_code,
            ..container.row()
        })
    }

    pub(super) fn containers(&self, label: Option<&str>) -> Vec<Container> {
        let wanted = self.containers.iter().filter(|container| labelled(&container.spec.labels, label));
        wanted.map(ContainerObject::row).collect()
    }

    pub(super) fn remove_container(&mut self, id: &ContainerId) {
        self.containers.retain(|container| container.id != *id);
        self.execs.retain(|exec| exec.container != *id);
    }

    /// Removes what does not run, as `docker container prune` does.
    pub(super) fn prune_containers(&mut self) {
        let stopped: Vec<ContainerId> = self
            .containers
            .iter()
            .filter(|container| !container.running())
            .map(|container| container.id.clone())
            .collect();
        for id in stopped {
            self.remove_container(&id);
        }
    }

    pub(super) fn put(&mut self, id: &ContainerId, bytes: &[u8]) -> Result<(), EngineError> {
        let spec = &self.containers[self.must_have(id)?].spec;
        let act = "put files into the container";
        if spec.read_only {
            return Err(refused(act, 400, "container rootfs is marked read-only"));
        }
        let files =
            archive::files(bytes).map_err(|error| refused(act, 400, &format!("invalid archive: {error}")))?;
        self.put.entry(spec.name.clone()).or_default().extend(files);
        Ok(())
    }

    pub(super) fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Bytes>, EngineError> {
        let name = &self.containers[self.must_have(id)?].spec.name;
        let put = self.put.get(name).and_then(|files| files.iter().rev().find(|file| file.path == path));
        Ok(put.map(|file| &file.contents).or_else(|| self.files.get(path)).cloned())
    }
}
