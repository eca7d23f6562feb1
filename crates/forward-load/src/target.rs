//! Permitted targets: this machine and private networks, or any target that the user declares as their own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

/// Why a target was refused.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It has no address.
    #[error("could not resolve target `{target}`")]
    Resolve {
        /// As it was typed.
        target: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// The resolver knows the name, but no address for it.
    #[error("target `{target}` has no address")]
    NoAddress {
        /// As it was typed.
        target: String,
    },
    /// It may belong to another owner.
    #[error("target `{target}` is {address}, which is neither a loopback nor a private address")]
    NotOurs {
        /// As it was typed.
        target: String,
        /// Where it is.
        address: IpAddr,
    },
}

/// Resolves `HOST:PORT`, and refuses it unless every address of it is loopback or private, or the
/// user has said `--i-own-this-target`.
///
/// # Errors
///
/// It has no address, or one that may belong to another owner.
pub fn resolve(target: &str, i_own_this_target: bool) -> Result<SocketAddr, TargetError> {
    let found = target.to_socket_addrs();
    let found: Vec<SocketAddr> =
        found.map_err(|source| TargetError::Resolve { target: target.into(), source })?.collect();
    // A name with one private and one public address could be aimed elsewhere by its owner.
    if let Some(foreign) = found.iter().find(|address| !is_ours(address.ip())).filter(|_| !i_own_this_target)
    {
        return Err(TargetError::NotOurs { target: target.into(), address: foreign.ip() });
    }
    found.first().copied().ok_or_else(|| TargetError::NoAddress { target: target.into() })
}

/// Whether an address is loopback, or private (RFC 1918, RFC 4193), or link-local.
pub fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_ours_v4(v4),
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or_else(|| is_ours_v6(v6), is_ours_v4),
    }
}

fn is_ours_v4(address: Ipv4Addr) -> bool {
    address.is_loopback() || address.is_private() || address.is_link_local()
}

fn is_ours_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_private_addresses_are_ours() {
        for address in ["127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "::1", "fd00::1"] {
            assert!(is_ours(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn any_other_address_is_refused_even_when_written_as_ipv6() {
        for address in ["198.51.100.1", "172.32.0.1", "0.0.0.0", "2001:db8::1", "::ffff:198.51.100.1"] {
            assert!(!is_ours(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn who_owns_the_target_may_aim_at_it() {
        assert!(matches!(resolve("198.51.100.1:22", false), Err(TargetError::NotOurs { .. })));
        assert_eq!(resolve("198.51.100.1:22", true).unwrap().to_string(), "198.51.100.1:22");
    }
}
