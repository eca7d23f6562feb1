//! Where a bottle's networks may lie: small subnets of our own, beside everything that the engine and
//! this machine already use.
//!
//! The engine has about thirty default pools, which fifteen bottles would exhaust, and it accepts a
//! subnet that shadows a route of the machine (20.10): so the subnets are chosen here.

use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::Ipv4Net;

use crate::engine::Network;
use crate::proc::Routes;

/// What is known of the ground before a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ground {
    pools: Vec<Ipv4Net>,
    taken: Vec<Taken>,
    /// The MTU of the route that leads out, where it is not the usual one.
    pub mtu: Option<u32>,
}

/// What is in use, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    subnet: Ipv4Net,
    by: String,
}

/// The subnets of one bottle have 16 addresses.
pub(crate) const PREFIX: u8 = 28;
/// The first is a corner of 10/8 that is seldom routed.
const POOLS: [&str; 3] = ["10.201.0.0/16", "172.28.0.0/14", "192.168.128.0/17"];
/// Tries before giving up; each that fails meets another launcher or a route unknown to us.
const TRIES: usize = 64;

impl Default for Ground {
    fn default() -> Self {
        Self::new(None, &[], &Routes::default())
    }
}

impl Ground {
    /// The ground of an engine with these networks, on a machine with these routes.
    pub(crate) fn new(pools: Option<&[Ipv4Net]>, networks: &[Network], routes: &Routes) -> Self {
        let usual = || POOLS.iter().filter_map(|pool| pool.parse().ok()).collect();
        let of_networks = networks.iter().flat_map(|network| {
            let by = format!("network {}", network.name);
            network.subnets.iter().map(move |subnet| Taken { subnet: *subnet, by: by.clone() })
        });
        let of_routes = routes.subnets.iter().map(|route| Taken {
            subnet: route.to,
            by: format!("route {} by {}", route.to, route.interface),
        });
        Self {
            pools: pools.map_or_else(usual, <[_]>::to_vec),
            taken: of_networks.chain(of_routes).collect(),
            mtu: routes.mtu,
        }
    }

    /// Subnets to try for a network, the first one differing from launch to launch.
    pub(crate) fn subnets(&self, name: &str) -> impl Iterator<Item = Ipv4Net> {
        let seed = seed(name);
        self.pools
            .iter()
            .flat_map(move |pool| candidates(*pool, seed))
            .filter(|subnet| self.in_the_way(*subnet).is_none())
            .take(TRIES)
    }

    fn in_the_way(&self, subnet: Ipv4Net) -> Option<&Taken> {
        self.taken.iter().find(|taken| {
            taken.subnet.contains(&subnet.network()) || subnet.contains(&taken.subnet.network())
        })
    }

    /// Why no subnet is free: the pools, each with what is in the way.
    pub(crate) fn obstacles(&self) -> String {
        let of_pool = |pool: &Ipv4Net| {
            let widest = self
                .taken
                .iter()
                .filter(|taken| {
                    taken.subnet.contains(&pool.network()) || pool.contains(&taken.subnet.network())
                })
                .min_by_key(|taken| taken.subnet.prefix_len());
            widest.map_or_else(|| pool.to_string(), |taken| format!("{pool} ({} is in the way)", taken.by))
        };
        self.pools.iter().map(of_pool).collect::<Vec<_>>().join(", ")
    }
}

/// All small subnets of a pool, each once. Neighbours in this order are far apart in the pool: a wide
/// network that takes one of them is left with the next.
fn candidates(pool: Ipv4Net, seed: u32) -> impl Iterator<Item = Ipv4Net> {
    let count = 1_u32 << u32::from(PREFIX.saturating_sub(pool.prefix_len()));
    // Odd, so that every subnet has its turn; near the golden section of their number.
    let stride = (count / 8 * 5).max(1) | 1;
    (0..count).map(move |n| {
        let index = seed.wrapping_add(n.wrapping_mul(stride)) % count;
        let base = u32::from(pool.network()) + index * (1 << (32 - PREFIX));
        Ipv4Net::new_assert(base.into(), PREFIX)
    })
}

fn seed(name: &str) -> u32 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    // FNV-1a: two networks of one launch start apart.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash ^ nanos ^ std::process::id()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::proc::Route;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn routed(to: &str) -> Routes {
        Routes { subnets: vec![Route { to: net(to), interface: "tun0".into() }], mtu: None }
    }

    #[test]
    fn candidates_are_small_disjoint_and_inside_the_pool() {
        for pool in ["10.201.0.0/16", "192.168.7.0/26", "192.168.7.16/28"] {
            let all: BTreeSet<_> = candidates(net(pool), 7).collect();
            assert_eq!(all.len(), 1 << (28 - net(pool).prefix_len()), "{pool}");
            assert!(all.iter().all(|subnet| net(pool).contains(subnet) && subnet.prefix_len() == 28));
        }
    }

    #[test]
    fn a_wide_network_that_came_meanwhile_does_not_take_every_try() {
        let half = net("10.201.0.0/17");
        for seed in [0, 1, 2047, 4095] {
            let tried: Vec<_> = candidates(net("10.201.0.0/16"), seed).take(TRIES).collect();
            let inside = tried.iter().filter(|subnet| half.contains(*subnet)).count();
            assert!((TRIES / 4..=TRIES * 3 / 4).contains(&inside), "{inside} of {TRIES}");
        }
    }

    #[test]
    fn a_machine_that_routes_ten_slash_eight_gets_another_range() {
        let ground = Ground::new(None, &[], &routed("10.0.0.0/8"));
        let first = ground.subnets("a").next().unwrap();
        assert!(net("172.28.0.0/14").contains(&first), "{first}");
    }

    #[test]
    fn where_nothing_is_free_the_route_is_named() {
        let ground = Ground::new(Some(&[net("10.9.0.0/24")]), &[], &routed("10.0.0.0/8"));
        assert_eq!(ground.subnets("a").next(), None);
        assert_eq!(ground.obstacles(), "10.9.0.0/24 (route 10.0.0.0/8 by tun0 is in the way)");
    }
}
