//! The networks of the recording: names are unique, subnets may not overlap, and a network with a
//! running container cannot be removed.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use super::objects::{NetworkObject, Owner};
use super::refusals::refused;
use super::state::{State, labelled};
use crate::engine::{
    ContainerId, CreatedNetwork, Endpoint, EngineError, Network, NetworkId, NetworkSpec, ObjectKind,
};

impl State {
    pub(super) fn create_network(&mut self, spec: &NetworkSpec) -> Result<CreatedNetwork, EngineError> {
        let overlap = |other: &Ipv4Net| other.contains(&spec.subnet) || spec.subnet.contains(other);
        if self.networks.iter().any(|object| object.network.name == spec.name) {
            return Err(EngineError::NameTaken { kind: ObjectKind::Network, name: spec.name.clone() });
        }
        if self.networks.iter().flat_map(|object| &object.network.subnets).any(overlap) {
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
        self.networks.push(NetworkObject { network, owner: Owner::Caller });
        self.created_networks.push(spec.clone());
        Ok(CreatedNetwork { id, warning: self.network_warning.clone() })
    }

    pub(super) fn add_foreign_network(&mut self, name: &str, internal: bool, subnet: Ipv4Net) {
        let network = Network {
            id: NetworkId(self.new_id()),
            name: name.to_owned(),
            internal,
            subnets: vec![subnet],
            labels: BTreeMap::new(),
        };
        self.networks.push(NetworkObject { network, owner: Owner::User });
    }

    pub(super) fn network(&self, reference: &str) -> Option<Network> {
        let mut networks = self.networks.iter().map(|object| &object.network);
        networks.find(|network| network.id.0 == reference || network.name == reference).cloned()
    }

    pub(super) fn networks(&self, label: Option<&str>) -> Vec<Network> {
        let wanted = |network: &&Network| labelled(&network.labels, label);
        self.networks.iter().map(|object| &object.network).filter(wanted).cloned().collect()
    }

    pub(super) fn network_name(&self, reference: &str) -> String {
        self.network(reference).map_or_else(|| reference.to_owned(), |network| network.name)
    }

    pub(super) fn remove_network(&mut self, id: &NetworkId) -> Result<(), EngineError> {
        if self.in_use(id) {
            let name = self.network_name(&id.0);
            let message = format!("error while removing network: network {name} has active endpoints");
            return Err(refused(&format!("remove network {name}"), 403, &message));
        }
        self.networks.retain(|object| object.network.id != *id);
        Ok(())
    }

    /// Removes what nothing uses, as `docker network prune` does.
    pub(super) fn prune_networks(&mut self) {
        let used: Vec<bool> = self
            .networks
            .iter()
            .map(|object| object.owner == Owner::User || self.in_use(&object.network.id))
            .collect();
        let mut used = used.into_iter();
        self.networks.retain(|_| used.next().expect("one for each network"));
    }

    /// Like an engine, which knows a container's endpoints only while it runs.
    fn in_use(&self, id: &NetworkId) -> bool {
        let mut running = self.containers.iter().filter(|container| container.running());
        running.any(|container| container.endpoints.iter().any(|(network, _)| network == id))
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

    pub(super) fn must_be_free(&self, network: &NetworkId, endpoint: &Endpoint) -> Result<(), EngineError> {
        let act = "connect the container";
        // Like Docker, which looks for the network when the container starts.
        let Some(found) = self.network(&network.0) else { return Ok(()) };
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
