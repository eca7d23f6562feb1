//! The seal: no default route is left in our network namespace, and that is looked up again.
//!
//! A direct connection to the outside then fails at once with ENETUNREACH. What the gate and
//! the proxies need, the internal subnet's own route, stays.

use std::{fmt, fs, io};

use crate::rtnetlink::{Family, Routes};

/// Deletes the default routes of both families and returns how many there were.
///
/// # Errors
///
/// The kernel refuses, or a default route is there again afterwards.
pub fn seal() -> Result<usize, SealError> {
    let mut routes = Routes::open().map_err(SealError::Open)?;
    let mut removed = 0;
    for family in [Family::V4, Family::V6] {
        removed += empty(&mut routes, family)?;
    }
    for (path, defaults) in TABLES {
        let table = match fs::read_to_string(path) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            outcome => outcome.map_err(|source| SealError::Read { path, source })?,
        };
        if let Some(device) = defaults(&table) {
            return Err(SealError::Remains(format!("{path}, device {}", device.escape_debug())));
        }
    }
    Ok(removed)
}

/// Deletes until the kernel lists none: one deletion may take several routes or only one hop.
fn empty(routes: &mut Routes, family: Family) -> Result<usize, SealError> {
    let mut removed = 0;
    for _ in 0..ROUNDS {
        let found = routes.defaults(family).map_err(|source| SealError::List { family, source })?;
        if found.is_empty() {
            return Ok(removed);
        }
        for route in found {
            let deleted = routes.delete(&route).map_err(|source| SealError::Delete { family, source })?;
            removed += usize::from(deleted);
        }
    }
    Err(SealError::Remains(family.to_string()))
}

/// The device of a default route in /proc/net/route that leads somewhere.
fn default_v4(table: &str) -> Option<&str> {
    table.lines().skip(1).find_map(|row| {
        let columns: Vec<_> = row.split_ascii_whitespace().collect();
        let [device, destination, _gateway, flags, _, _, _, mask, ..] = columns[..] else { return None };
        (is_zero(destination) && is_zero(mask) && !is_rejected(flags)).then_some(device)
    })
}

/// The device of a default route in /proc/net/ipv6_route that leads somewhere; the kernel's own
/// last row, an `unreachable` default on `lo`, does not.
fn default_v6(table: &str) -> Option<&str> {
    table.lines().find_map(|row| {
        let columns: Vec<_> = row.split_ascii_whitespace().collect();
        let [destination, prefix, _, _, _, _, _, _, flags, device] = columns[..] else { return None };
        (is_zero(destination) && is_zero(prefix) && !is_rejected(flags)).then_some(device)
    })
}

fn is_zero(hexadecimal: &str) -> bool {
    hexadecimal.bytes().all(|digit| digit == b'0')
}

fn is_rejected(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_REJECT != 0)
}

/// linux/route.h: a route that answers "unreachable".
const RTF_REJECT: u32 = 0x0200;

/// Finds a default route in a table of the kernel's.
type Finder = fn(&str) -> Option<&str>;

/// The second opinion: these tables are written by other code of the kernel than rtnetlink's.
const TABLES: [(&str, Finder); 2] = [("/proc/net/route", default_v4), ("/proc/net/ipv6_route", default_v6)];

/// More routes than a container ever has; ends a race with something that puts them back.
const ROUNDS: usize = 64;

/// A namespace that is not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No rtnetlink.
    #[error("could not open an rtnetlink socket")]
    Open(#[source] io::Error),
    /// The kernel does not list.
    #[error("could not list the {family} routes")]
    List {
        /// Whose.
        family: Family,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not delete.
    #[error("could not delete an {family} default route")]
    Delete {
        /// Whose.
        family: Family,
        /// Why: without NET_ADMIN, EPERM.
        source: io::Error,
    },
    /// The kernel does not tell.
    #[error("could not read `{path}`")]
    Read {
        /// Which table.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Deleted, and there all the same.
    #[error("a default route remains: {0}")]
    Remains(String),
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t0007C90A\t00000000\t0001\t0\t0\t0\tF0FFFFFF\t0\t0\t0\n";
    const V6: &str = "fd000001000000000000000000000000 40 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";

    #[test]
    fn a_subnet_and_an_unreachable_default_are_no_way_out() {
        assert_eq!(default_v4(V4), None);
        assert_eq!(default_v4(""), None);
        assert_eq!(default_v6(V6), None);
    }

    #[test]
    fn a_default_route_is_seen() {
        let v4 = format!("{V4}eth0\t00000000\t0107C90A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n");
        assert_eq!(default_v4(&v4), Some("eth0"));
        let zeros = "0".repeat(32);
        let v6 = format!(
            "{V6}{zeros} 00 {zeros} 00 fd000001000000000000000000000009 00000400 00000001 00000000 00000003 eth0"
        );
        assert_eq!(default_v6(&v6), Some("eth0"));
    }
}
