//! The network of a scene: a small subnet of its own, away from what this machine already routes.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;

use claude_bottle::engine::{Engine, EngineError, NetworkId, NetworkSpec};

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
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let name = format!("scene-{run}");
    // Runs begin at different places, so that those at the same time seldom meet.
    let begin = u16::try_from(std::process::id() % 1024).expect("a remainder of 1024 fits");
    for slot in (begin..begin + TRIES).map(|slot| slot % 1024) {
        let first = subnet(slot);
        if routed(&routes, first) {
            continue;
        }
        let spec = NetworkSpec {
            name: name.clone(),
            internal: false,
            subnet: format!("{first}/26").parse().expect("an address and a length are a subnet"),
            options: BTreeMap::new(),
            labels: BTreeMap::from([(LABEL.to_owned(), run.to_owned())]),
        };
        match engine.create_network(&spec).await {
            Ok(id) => {
                let gateway = Ipv4Addr::from(u32::from(first) + 1);
                return Ok(SceneNetwork { id, name, gateway });
            }
            Err(EngineError::SubnetTaken { .. }) => {}
            Err(source) => return Err(SceneError::engine("create the network")(source)),
        }
    }
    Err(SceneError::NoSubnet)
}

/// The `slot`th /26 of 10.213.0.0/16.
fn subnet(slot: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 213, 0, 0)) + u32::from(slot) * 64)
}

/// Whether a route of `/proc/net/route`, other than the default one, overlaps the /26 at `first`.
fn routed(routes: &str, first: Ipv4Addr) -> bool {
    // Destination and mask stand there as the bytes lie in memory.
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::from_be);
    routes.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        let (to, mask) = (fields.nth(1).and_then(number), fields.nth(5).and_then(number));
        let (Some(to), Some(mask)) = (to, mask) else { return false };
        let both = mask & (u32::MAX << 6);
        mask != 0 && (to & both) == (u32::from(first) & both)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_inside_a_route_is_passed_over() {
        // 10.213.1.0/24 by way of eth0, and the default route.
        let routes = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0001D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert!(routed(routes, Ipv4Addr::new(10, 213, 1, 64)));
        assert!(!routed(routes, Ipv4Addr::new(10, 213, 2, 0)));
    }
}
