//! Small subnets of our own, beside everything that the engine and this machine already use.
//!
//! The engine has about thirty default pools, which fifteen bottles would exhaust, and it accepts a
//! subnet that shadows a route of the machine (20.10): so the subnets are chosen here.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use ipnet::Ipv4Net;

use super::{LaunchError, Walk};
use crate::engine::{Engine, EngineError, NetworkId, NetworkSpec};

/// 4096 subnets of 16 addresses, in a corner of 10/8 that is seldom routed.
const POOL: Ipv4Addr = Ipv4Addr::new(10, 201, 0, 0);
const PREFIX: u8 = 28;
const SUBNETS: u32 = 4096;
/// Odd, so that every subnet has its turn; near the golden section of their number.
const STRIDE: u32 = 2531;
/// Tries before giving up; each that fails met another launcher or a route unknown to us.
const TRIES: usize = 64;

/// Who has which address in the internal subnet. The first is the gateway's, which nobody answers.
pub(super) struct Addresses {
    pub subnet: Ipv4Net,
}

impl Addresses {
    pub(super) fn of(subnet: Ipv4Net) -> Self {
        Self { subnet }
    }

    /// The address of a role.
    pub(super) fn role(&self, role: &str) -> Ipv4Addr {
        let offset = match role {
            "ssh-gate" => 2,
            "cred-proxy" => 3,
            "egress" => 4,
            _ => 5,
        };
        Ipv4Addr::from(u32::from(self.subnet.network()) + offset)
    }
}

impl<E: Engine> Walk<'_, E> {
    /// Creates a network on the first subnet that is free.
    pub(super) async fn network(
        &self,
        name: &str,
        internal: bool,
    ) -> Result<(NetworkId, Ipv4Net), LaunchError> {
        let used: Vec<Ipv4Net> =
            self.engine.networks(None).await?.into_iter().flat_map(|network| network.subnets).collect();
        let local = self.engine.info().await?.local;
        let routes = if local {
            routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
        } else {
            Vec::new()
        };
        let overlaps = |subnet: &Ipv4Net| {
            used.iter()
                .chain(&routes)
                .any(|other| other.contains(&subnet.network()) || subnet.contains(&other.network()))
        };
        let free = candidates(seed(name)).filter(|subnet| !overlaps(subnet)).take(TRIES);
        let mut taken = None;
        for subnet in free {
            self.go_on()?;
            let spec = NetworkSpec {
                name: name.to_owned(),
                internal,
                subnet,
                options: options(internal),
                labels: self.labels.role("network"),
            };
            match self.engine.create_network(&spec).await {
                Ok(created) => return Ok((created.id, subnet)),
                Err(error @ EngineError::SubnetTaken { .. }) => taken = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(taken.unwrap_or(EngineError::SubnetTaken { subnet: format!("{POOL}/16") }).into())
    }
}

/// What keeps the internal bridge from the host: engines ignore options that they do not know, so
/// the old and the new way are both asked for.
fn options(internal: bool) -> BTreeMap<String, String> {
    let options: &[(&str, &str)] = if internal {
        &[
            ("com.docker.network.bridge.inhibit_ipv4", "true"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "isolated"),
            ("com.docker.network.bridge.gateway_mode_ipv6", "isolated"),
        ]
    } else {
        // Nothing on the way out needs its neighbours.
        &[("com.docker.network.bridge.enable_icc", "false")]
    };
    options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// All subnets of the pool, each once, from one that differs from launch to launch. Neighbours stand
/// far apart: a wide network that takes one of them is left with the next.
fn candidates(seed: u32) -> impl Iterator<Item = Ipv4Net> {
    (0..SUBNETS).map(move |n| {
        let index = seed.wrapping_add(n.wrapping_mul(STRIDE)) % SUBNETS;
        let base = u32::from(POOL) + index * (1 << (32 - PREFIX));
        Ipv4Net::new_assert(Ipv4Addr::from(base), PREFIX)
    })
}

fn seed(name: &str) -> u32 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    // FNV-1a: two networks of one launch start apart.
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash ^ nanos ^ std::process::id()
}

/// The routes of /proc/net/route but for the default one: hexadecimal, in the machine's byte order.
fn routes(table: &str) -> Vec<Ipv4Net> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok().map(|value| Ipv4Addr::from(value.swap_bytes()));
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let destination = hex(fields.nth(1)?)?;
            let mask = hex(fields.nth(5)?)?;
            Ipv4Net::with_netmask(destination, mask).ok()
        })
        .filter(|route| route.prefix_len() > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_small_disjoint_and_inside_the_pool() {
        let all: std::collections::BTreeSet<_> = candidates(7).collect();
        assert_eq!(all.len(), 4096);
        let pool: Ipv4Net = "10.201.0.0/16".parse().unwrap();
        assert!(all.iter().all(|subnet| pool.contains(subnet) && subnet.prefix_len() == 28));
    }

    #[test]
    fn a_wide_network_that_came_meanwhile_does_not_take_every_try() {
        let half: Ipv4Net = "10.201.0.0/17".parse().unwrap();
        for seed in [0, 1, 2047, 4095] {
            let tried: Vec<_> = candidates(seed).take(TRIES).collect();
            let inside = tried.iter().filter(|subnet| half.contains(*subnet)).count();
            assert!((TRIES / 4..=TRIES * 3 / 4).contains(&inside), "{inside} of {TRIES}");
        }
    }

    #[test]
    fn the_machines_routes_are_read_without_the_default_one() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(routes(table), ["172.17.0.0/16".parse::<Ipv4Net>().unwrap()]);
    }

    #[test]
    fn every_role_has_an_address_of_its_own_after_the_gateway() {
        let addresses = Addresses::of("10.201.7.0/28".parse().unwrap());
        assert_eq!(addresses.role("ssh-gate").to_string(), "10.201.7.2");
        assert_eq!(addresses.role("cred-proxy").to_string(), "10.201.7.3");
        assert_eq!(addresses.role("agent").to_string(), "10.201.7.5");
    }
}
