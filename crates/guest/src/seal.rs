//! The seal: no default route is left in our network namespace, and that is read back.
//!
//! A direct connection to the outside then fails at once with ENETUNREACH. What the gate and
//! the proxies need, the internal subnet's own route, stays.

use std::{fmt, fs, io};

use crate::{
    route_table::{DefaultRoute, Family, TableError, parse_v4, parse_v6},
    rtnetlink::Routes,
};

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
    check()?;
    Ok(removed)
}

/// Succeeds if no default route of either family is left. Deletes nothing, needs no capability.
///
/// Each source sees what the other does not:
///
/// * `/proc/net` shows routes that an answer over rtnetlink leaves out.
/// * rtnetlink shows the IPv4 tables other than the main one. gVisor shows its IPv6 routes only
///   there: its `/proc/net/ipv6_route` is always empty (`task_net.go`).
///
/// # Errors
///
/// A default route is left, or the tables cannot be read.
pub fn check() -> Result<(), SealError> {
    let mut routes = Routes::open().map_err(SealError::Open)?;
    let mut left = Vec::new();
    for family in [Family::V4, Family::V6] {
        let mut found = read(family)?;
        if found.is_empty() {
            let listed = routes.defaults(family).map_err(|source| SealError::List { family, source })?;
            found.extend(listed.iter().map(|route| routes.describe(family, route)));
        }
        left.extend(found);
    }
    if left.is_empty() { Ok(()) } else { Err(SealError::Remains(Remaining(left))) }
}

/// The default routes of one family in `/proc/net`, which other code of the kernel writes than
/// rtnetlink's.
fn read(family: Family) -> Result<Vec<DefaultRoute>, SealError> {
    let path = match family {
        Family::V4 => "/proc/net/route",
        Family::V6 => "/proc/net/ipv6_route",
    };
    let table = match fs::read_to_string(path) {
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound && family == Family::V6 => {
            return Ok(Vec::new());
        }
        outcome => outcome.map_err(|source| SealError::Read { path, source })?,
    };
    let parsed = match family {
        Family::V4 => parse_v4(&table),
        Family::V6 => parse_v6(&table),
    };
    parsed.map_err(|source| SealError::Parse { path, source })
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
    Err(SealError::Returns { family })
}

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
    /// The text of a table is not as expected.
    #[error("could not parse `{path}`")]
    Parse {
        /// Which table.
        path: &'static str,
        /// Where.
        source: TableError,
    },
    /// Deleted again and again.
    #[error("a default route remains: {family}, added again after each deletion")]
    Returns {
        /// Whose.
        family: Family,
    },
    /// Not deleted, or deleted and there all the same.
    #[error("a default route remains: {0}")]
    Remains(Remaining),
}

/// The default routes that are left, at least one.
#[derive(Debug)]
pub struct Remaining(Vec<DefaultRoute>);

impl fmt::Display for Remaining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, route) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(f, "{separator}{route}")?;
        }
        Ok(())
    }
}
