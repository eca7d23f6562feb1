//! The networks of a bottle. The internal one comes first: its name is the claim on the bottle's name.

use std::sync::PoisonError;

use ipnet::Ipv4Net;

use super::steps::step;
use super::{Launch, LaunchError};
use crate::bottle::teardown::Named;
use crate::engine::{Engine, EngineError, NetworkId, NetworkSpec, ObjectKind};
use crate::plan::Site;

impl<E: Engine> Launch<'_, E> {
    pub(super) async fn internal(&self) -> Result<Site, LaunchError> {
        let spec = |subnet| self.specs.internal_network(subnet);
        let (internal, subnet) = self.network(&self.plan.names.internal(), spec).await?;
        Ok(Site { internal, subnet })
    }

    /// The network that leads out: one of the bottle's own, the user's, or none where nothing needs it.
    pub(super) async fn egress(&self) -> Result<Option<NetworkId>, LaunchError> {
        if let Some((external, _)) = self.plan.external_network() {
            return Ok(Some(external));
        }
        if self.plan.networks.len() < 2 {
            return Ok(None);
        }
        let spec = |subnet| self.specs.egress_network(subnet);
        let (id, _) = self.network(&self.plan.names.egress(), spec).await?;
        Ok(Some(id))
    }

    /// Creates a network on the first subnet that is free.
    async fn network(
        &self,
        name: &str,
        spec: impl Fn(Ipv4Net) -> NetworkSpec,
    ) -> Result<(NetworkId, Ipv4Net), LaunchError> {
        let create = async {
            for subnet in self.means.ground.subnets(name) {
                self.go_on()?;
                let object = Named { kind: ObjectKind::Network, name: name.to_owned() };
                let spec = spec(subnet);
                let created = self.means.pending.creation(object, self.engine.create_network(&spec)).await;
                let created = match created {
                    // Someone else took it since we looked.
                    Err(LaunchError::Engine(EngineError::SubnetTaken { .. })) => continue,
                    created => created?,
                };
                if let Some(warning) = created.warning {
                    let network = name.to_owned();
                    let doubt = LaunchError::Unproved { network, warning };
                    if !self.means.unproved {
                        return Err(doubt);
                    }
                    self.doubts.lock().unwrap_or_else(PoisonError::into_inner).push(doubt.to_string());
                }
                return Ok((created.id, subnet));
            }
            Err(LaunchError::NoSubnet(self.means.ground.obstacles()))
        };
        step(self.means.watch, &format!("network {name}"), create).await
    }
}
