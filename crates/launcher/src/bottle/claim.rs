//! A bottle's name, claimed among the launchers of this machine while one of them launches it.
//!
//! The engine decides who has a name, but only after a network was created for it. Launchers that
//! start at once look here first, and take different names.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// A claim on a name. It ends when it is dropped, and with the process.
#[derive(Debug)]
pub(super) struct Claim {
    /// An abstract Unix socket (unix(7)): one process per name, and nothing to remove. Nothing connects.
    _socket: UnixListener,
}

impl Claim {
    /// Claims the name of a bottle on an engine; `None` when another launcher has claimed it.
    pub(super) fn of(engine: &str, name: &str) -> Option<Self> {
        // An address is at most 107 bytes long.
        let digest = crate::digest::sha256(format!("{engine}\n{name}").as_bytes());
        let address = SocketAddr::from_abstract_name(format!("claude-bottle/{digest}")).ok()?;
        Some(Self { _socket: UnixListener::bind_addr(&address).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_an_engine_is_claimed_once_at_a_time() {
        let (engine, name) = ("unix:///e", format!("claude-bottle-claimed-{}", std::process::id()));
        let first = Claim::of(engine, &name).unwrap();
        assert!(Claim::of(engine, &name).is_none());
        assert!(Claim::of("unix:///other", &name).is_some());
        drop(first);
        assert!(Claim::of(engine, &name).is_some());
    }
}
