//! The kinds of sidecar: one variant and one descriptor file for each.
//!
//! A descriptor says what is particular to a kind: its binary, its place in the internal subnet, its
//! table, the arguments that bind its listeners, and what it must report when it is ready.

mod cred_proxy;
mod ssh_gate;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::Ipv4Net;
use serde::{Serialize, Serializer};
use sidecar::bundle::Bundle;
use sidecar::ca::CaPem;
use sidecar::ports::{PortTable, RowError};
use sidecar::routes::{RouteError, RouteTable};
use sidecar::token::Tokens;
use sidecar::upstream_proxy::UpstreamProxy;
use zeroize::Zeroizing;

use crate::images::Binary;
use crate::manifest::Bottle;

pub(crate) use cred_proxy::token_name;
pub(crate) use ssh_gate::FIRST_PORT;

/// A kind of sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Forwards a table of ports to SSH hosts.
    SshGate,
    /// Puts credentials on requests to HTTPS APIs.
    CredProxy,
}

/// What is particular to a kind of sidecar.
struct Descriptor {
    /// Its name in labels, container names and tables, and its alias on the internal network.
    name: &'static str,
    binary: Binary,
    /// Its place in the internal subnet, counted from the network's address.
    slot: u32,
    /// Its table; `None` where the bottle has no use for this kind.
    table: fn(&Bottle, &Options<'_>) -> Result<Option<Table>, TableError>,
    /// The arguments that bind it to its address.
    listen: fn(Ipv4Addr, &Table) -> Vec<String>,
    /// The ports that the agent dials, in the order in which the readiness line lists them.
    ports: fn(&Table) -> Vec<u16>,
}

/// What tables depend on beside the manifest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options<'a> {
    /// The port of cred-proxy.
    pub cred_proxy_port: u16,
    /// The certificates of the manifest's CA files, by their paths.
    pub cas: &'a BTreeMap<PathBuf, CaPem>,
}

/// Why there is no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TableError {
    /// The SSH hosts do not fit together.
    #[error("ssh")]
    Ports(#[from] RowError),
    /// The routes do not fit together.
    #[error("cred_proxy.routes")]
    Routes(#[from] RouteError),
}

/// A sidecar's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Table {
    /// ssh-gate's.
    Ports(PortTable),
    /// cred-proxy's, and the port that it listens on.
    Routes(RouteTable, u16),
}

/// What a sidecar is given beside its table.
#[derive(Debug)]
pub(crate) struct Handover<'a> {
    /// The internal subnet: only its peers are served.
    pub from: Ipv4Net,
    /// Tokens by their names in the table.
    pub tokens: &'a Tokens,
    /// The proxy that leads to the upstreams.
    pub upstream_proxy: Option<&'a UpstreamProxy>,
}

impl Role {
    /// Every kind.
    pub(crate) const ALL: [Self; 2] = [Self::SshGate, Self::CredProxy];

    fn descriptor(self) -> &'static Descriptor {
        match self {
            Self::SshGate => &ssh_gate::DESCRIPTOR,
            Self::CredProxy => &cred_proxy::DESCRIPTOR,
        }
    }

    /// Its name: `ssh-gate`.
    pub(crate) fn name(self) -> &'static str {
        self.descriptor().name
    }

    /// The binary in its image.
    pub(crate) fn binary(self) -> Binary {
        self.descriptor().binary
    }

    /// Its address in an internal subnet.
    pub(crate) fn address(self, subnet: Ipv4Net) -> Ipv4Addr {
        address(subnet, self.descriptor().slot)
    }

    /// Its table; `None` where the bottle has no use for this kind.
    ///
    /// # Errors
    /// [`TableError`] for rows or routes that exclude each other.
    pub(crate) fn table(self, bottle: &Bottle, options: &Options<'_>) -> Result<Option<Table>, TableError> {
        (self.descriptor().table)(bottle, options)
    }

    /// The arguments that start it: its bundle comes over stdin, and it binds this address only.
    pub(crate) fn command(self, at: Ipv4Addr, table: &Table) -> Vec<String> {
        let mut command = vec!["--stdin-bundle".to_owned()];
        command.extend((self.descriptor().listen)(at, table));
        command
    }

    /// The ports that the agent dials.
    pub(crate) fn ports(self, table: &Table) -> Vec<u16> {
        (self.descriptor().ports)(table)
    }

    /// What its readiness line must list.
    pub(crate) fn listeners(self, at: Ipv4Addr, table: &Table) -> Vec<SocketAddr> {
        self.ports(table).into_iter().map(|port| SocketAddr::new(at.into(), port)).collect()
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl Table {
    /// The bundle: one line for the sidecar's stdin, which stays open as its lifeline.
    ///
    /// # Errors
    /// When the line is longer than a sidecar accepts.
    pub(crate) fn bundle(&self, handover: &Handover<'_>) -> io::Result<Zeroizing<Vec<u8>>> {
        fn common<T>(table: T, handover: &Handover<'_>) -> Bundle<T> {
            let mut bundle = Bundle::new(table);
            bundle.from = Some(vec![handover.from.into()]);
            bundle.lifeline = true;
            bundle
        }
        match self {
            Self::Ports(table) => common(table, handover).to_line(),
            Self::Routes(table, _) => {
                let mut bundle = common(table, handover);
                bundle.tokens = handover.tokens.clone();
                bundle.upstream_proxy = handover.upstream_proxy.cloned();
                bundle.to_line()
            }
        }
    }
}

/// The agent's place in the internal subnet. The first is the gateway's, which no one answers for.
const AGENT_SLOT: u32 = 5;

/// The agent's address in an internal subnet.
pub(crate) fn agent_address(subnet: Ipv4Net) -> Ipv4Addr {
    address(subnet, AGENT_SLOT)
}

fn address(subnet: Ipv4Net, slot: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_of_a_bottle_has_an_address_of_its_own_after_the_gateway() {
        let subnet = "10.201.7.0/28".parse().unwrap();
        let mut addresses: Vec<_> = Role::ALL.into_iter().map(|role| role.address(subnet)).collect();
        addresses.push(agent_address(subnet));
        let first: Ipv4Addr = "10.201.7.1".parse().unwrap();
        assert!(addresses.iter().all(|address| subnet.contains(address) && *address > first));
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.len(), Role::ALL.len() + 1);
    }
}
