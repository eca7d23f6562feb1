//! The network of a scene: a small subnet of its own, away from what this machine already routes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use claude_bottle::engine::{Engine, EngineError, NetworkId, NetworkSpec};
use claude_bottle::proc::Routes;
use ipnet::Ipv4Net;

use super::{LABEL, SceneError};

/// How many subnets are tried: others may be starting scenes, too.
const TRIES: u16 = 64;

/// The network of a scene.
#[derive(Debug, Clone)]
pub struct SceneNetwork {
    /// Its id.
    pub id: NetworkId,
    /// Its name, as the manifest's `egress_network` takes it.
    pub name: String,
    /// Its first address, that of the bridge on this machine; hosts follow from the second on.
    pub gateway: Ipv4Addr,
}

impl SceneNetwork {
    /// The address of the `n`th host, counted from 0.
    pub fn host(&self, n: u8) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.gateway) + 1 + u32::from(n))
    }
}

/// Creates the network of a run: a plain bridge, which leads outside as a user's own would.
pub(super) async fn create<E: Engine>(engine: &E, run: &str) -> Result<SceneNetwork, SceneError> {
    let routes = Routes::read();
    let name = format!("scene-{run}");
    // Runs begin at different places, so that those at the same time seldom meet.
    let begin = u16::try_from(std::process::id() % 1024).expect("a remainder of 1024 fits");
    for slot in (begin..begin + TRIES).map(|slot| slot % 1024) {
        let first = begin_of(slot);
        let subnet: Ipv4Net = format!("{first}/26").parse().expect("an address and a length are a subnet");
        if routes.overlapping(subnet).is_some() {
            continue;
        }
        let spec = NetworkSpec {
            name: name.clone(),
            internal: false,
            subnet,
            options: BTreeMap::new(),
            labels: BTreeMap::from([(LABEL.to_owned(), run.to_owned())]),
        };
        match engine.create_network(&spec).await {
            Ok(created) => {
                let gateway = Ipv4Addr::from(u32::from(first) + 1);
                return Ok(SceneNetwork { id: created.id, name, gateway });
            }
            Err(EngineError::SubnetTaken { .. }) => {}
            Err(source) => return Err(SceneError::engine("create the network")(source)),
        }
    }
    Err(SceneError::NoSubnet)
}

/// The first address of the `slot`th /26 of 10.213.0.0/16.
fn begin_of(slot: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 213, 0, 0)) + u32::from(slot) * 64)
}
