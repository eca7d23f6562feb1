//! The objects of the recording, and the rules they keep.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ipnet::Ipv4Net;

use super::archive::{self, PutFile};
use super::processes::{ContainerObject, ExecObject};
use super::{Answer, Run};
use crate::engine::{
    Container, ContainerId, ContainerSpec, CreatedNetwork, Endpoint, EngineError, EngineInfo, Image, Network,
    NetworkId, NetworkMode, NetworkSpec, ObjectKind, Product,
};

/// Everything the engine has, and everything it was asked.
pub(super) struct State {
    pub(super) info: EngineInfo,
    pub(super) calls: Vec<String>,
    pub(super) runs: Vec<Run>,
    pub(super) created: Vec<ContainerSpec>,
    pub(super) created_networks: Vec<NetworkSpec>,
    pub(super) stdin: BTreeMap<String, Vec<u8>>,
    pub(super) put: BTreeMap<String, Vec<PutFile>>,
    pub(super) files: BTreeMap<String, Bytes>,
    pub(super) unready: BTreeMap<String, Option<Answer>>,
    pub(super) answer: Arc<dyn Fn(&Run) -> Answer + Send + Sync>,
    pub(super) containers: Vec<ContainerObject>,
    pub(super) execs: Vec<ExecObject>,
    images: Vec<(Image, BTreeSet<String>)>,
    networks: Vec<(Network, Owner)>,
    last_id: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Caller,
    User,
}

impl Default for State {
    fn default() -> State {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n";
        State {
            info: EngineInfo {
                product: Product::Docker,
                version: "20.10.24".into(),
                api: "1.41".into(),
                arch: "x86_64".into(),
                runtimes: vec!["runc".into()],
                local: false,
            },
            files: BTreeMap::from([("/etc/passwd".to_owned(), Bytes::from_static(passwd.as_bytes()))]),
            answer: Arc::new(|_| Answer::default()),
            calls: Vec::new(),
            runs: Vec::new(),
            created: Vec::new(),
            created_networks: Vec::new(),
            stdin: BTreeMap::new(),
            put: BTreeMap::new(),
            unready: BTreeMap::new(),
            containers: Vec::new(),
            execs: Vec::new(),
            images: Vec::new(),
            networks: Vec::new(),
            last_id: 0,
        }
    }
}

/// Images.
impl State {
    pub(super) fn add_image(&mut self, image: Image, name: Option<&str>) {
        // A name leads to one image only.
        for (_, names) in &mut self.images {
            names.retain(|taken| Some(taken.as_str()) != name);
        }
        let at = self.images.iter().position(|(known, _)| known.id == image.id).unwrap_or_else(|| {
            self.images.push((image, BTreeSet::new()));
            self.images.len() - 1
        });
        self.images[at].1.extend(name.map(str::to_owned));
    }

    pub(super) fn image(&self, reference: &str) -> Option<Image> {
        let (image, _) =
            self.images.iter().find(|(image, names)| image.id == reference || names.contains(reference))?;
        Some(image.clone())
    }

    pub(super) fn load_image(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let images = archive::images(bytes)
            .map_err(|error| refused("load the image", 400, &format!("invalid archive: {error}")))?;
        for (image, tags) in images {
            self.add_image(image.clone(), None);
            for tag in tags {
                self.add_image(image.clone(), Some(&tag));
            }
        }
        Ok(())
    }

    pub(super) fn remove_image(&mut self, reference: &str) {
        self.images.retain_mut(|(image, names)| {
            let untagged = names.remove(reference);
            image.id != reference && !(untagged && names.is_empty())
        });
    }

    pub(super) fn image_references(&self) -> BTreeSet<String> {
        self.images.iter().flat_map(|(image, names)| names.iter().chain([&image.id])).cloned().collect()
    }
}

/// Networks.
impl State {
    pub(super) fn create_network(&mut self, spec: &NetworkSpec) -> Result<CreatedNetwork, EngineError> {
        let overlap = |other: &Ipv4Net| other.contains(&spec.subnet) || spec.subnet.contains(other);
        if self.networks.iter().any(|(network, _)| network.name == spec.name) {
            return Err(EngineError::NameTaken { kind: ObjectKind::Network, name: spec.name.clone() });
        }
        if self.networks.iter().flat_map(|(network, _)| &network.subnets).any(overlap) {
            return Err(EngineError::SubnetTaken { subnet: spec.subnet.to_string() });
        }
        let id = NetworkId(self.new_id());
        let network = Network {
            id: id.clone(),
            name: spec.name.clone(),
            internal: spec.internal,
            subnets: vec![spec.subnet],
            labels: spec.labels.clone(),
        };
        self.networks.push((network, Owner::Caller));
        self.created_networks.push(spec.clone());
        Ok(CreatedNetwork { id, warning: None })
    }

    pub(super) fn add_foreign_network(&mut self, name: &str, internal: bool, subnet: Ipv4Net) {
        let network = Network {
            id: NetworkId(self.new_id()),
            name: name.to_owned(),
            internal,
            subnets: vec![subnet],
            labels: BTreeMap::new(),
        };
        self.networks.push((network, Owner::User));
    }

    pub(super) fn network(&self, reference: &str) -> Option<Network> {
        let is = |network: &Network| network.id.0 == reference || network.name == reference;
        self.networks.iter().find(|(network, _)| is(network)).map(|(network, _)| network.clone())
    }

    pub(super) fn networks(&self, label: Option<&str>) -> Vec<Network> {
        let wanted = |network: &&Network| labelled(&network.labels, label);
        self.networks.iter().map(|(network, _)| network).filter(wanted).cloned().collect()
    }

    pub(super) fn network_name(&self, reference: &str) -> String {
        self.network(reference).map_or_else(|| reference.to_owned(), |network| network.name)
    }

    pub(super) fn remove_network(&mut self, id: &NetworkId) -> Result<(), EngineError> {
        if self
            .containers
            .iter()
            .any(|container| container.endpoints.iter().any(|(network, _)| network == id))
        {
            let name = self.network_name(&id.0);
            let message = format!("error while removing network: network {name} has active endpoints");
            return Err(refused(&format!("remove network {name}"), 403, &message));
        }
        self.networks.retain(|(network, _)| network.id != *id);
        Ok(())
    }

    pub(super) fn connect(
        &mut self,
        network: &NetworkId,
        container: &ContainerId,
        endpoint: &Endpoint,
    ) -> Result<(), EngineError> {
        let at = self.must_have(container)?;
        self.must_be_free(network, endpoint)?;
        let endpoints = &mut self.containers[at].endpoints;
        if endpoints.iter().any(|(connected, _)| connected == network) {
            return Err(refused("connect the container", 403, "endpoint already exists in network"));
        }
        endpoints.push((network.clone(), endpoint.clone()));
        Ok(())
    }

    fn must_be_free(&self, network: &NetworkId, endpoint: &Endpoint) -> Result<(), EngineError> {
        let act = "connect the container";
        let Some(found) = self.network(&network.0) else {
            return Err(missing(act, &format!("network {} not found", network.0)));
        };
        let Some(address) = endpoint.address else { return Ok(()) };
        if !found.subnets.iter().any(|subnet| subnet.contains(&address)) {
            return Err(refused(act, 400, &format!("address {address} does not belong to the network")));
        }
        let used = self.containers.iter().flat_map(|container| &container.endpoints);
        if used.into_iter().any(|(other, taken)| other == network && taken.address == Some(address)) {
            return Err(refused(act, 403, "Address already in use"));
        }
        Ok(())
    }
}

/// Containers.
impl State {
    pub(super) fn create_container(&mut self, spec: &ContainerSpec) -> Result<ContainerId, EngineError> {
        let act = format!("create container {}", spec.name);
        if self.containers.iter().any(|container| container.spec.name == spec.name) {
            return Err(EngineError::NameTaken { kind: ObjectKind::Container, name: spec.name.clone() });
        }
        if self.image(&spec.image).is_none() {
            return Err(missing(&act, &format!("No such image: {}", spec.image)));
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
        self.position(&id.0)
            .ok_or_else(|| missing("find the container", &format!("No such container: {}", id.0)))
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

    pub(super) fn leftovers(&self) -> Vec<String> {
        let networks = self.networks.iter().filter(|(_, owner)| *owner == Owner::Caller);
        let containers = self.containers.iter().map(|container| container.spec.name.clone());
        containers.chain(networks.map(|(network, _)| network.name.clone())).collect()
    }

    /// 64 hexadecimal digits, as engines give them.
    pub(super) fn new_id(&mut self) -> String {
        self.last_id += 1;
        crate::images::sha256(&self.last_id.to_be_bytes())
    }
}

fn labelled(labels: &BTreeMap<String, String>, wanted: Option<&str>) -> bool {
    match wanted.map(|label| label.split_once('=').map_or((label, None), |(key, value)| (key, Some(value)))) {
        None => true,
        Some((key, value)) => labels.get(key).is_some_and(|found| value.is_none_or(|value| value == found)),
    }
}

pub(super) fn refused(act: &str, status: u16, message: &str) -> EngineError {
    EngineError::Refused { act: act.to_owned(), status, message: message.to_owned() }
}

pub(super) fn missing(act: &str, message: &str) -> EngineError {
    EngineError::NotFound { act: act.to_owned(), message: message.to_owned() }
}
