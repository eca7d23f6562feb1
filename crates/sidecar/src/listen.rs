//! Bound listeners, and who is served on them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::log::Coalesced;

/// Connections that wait for an accept; the kernel cuts it to net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Binds a listener with SO_REUSEADDR, so that a restart does not wait for old connections.
///
/// # Errors
/// The kernel's.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // A listener is one address, not two families.
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Raises the soft limit of open descriptors to the hard one; returns what holds now.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { limit };
    now.current.unwrap_or(u64::MAX)
}

/// Who is served.
#[derive(Debug, Clone)]
pub enum Peers {
    /// Whoever connects.
    Anyone,
    /// Peers of these subnets; others are closed before a byte is read.
    From(Vec<IpNet>),
}

impl Peers {
    /// Those of a bundle.
    pub fn from_bundle(from: Option<Vec<IpNet>>) -> Self {
        from.map_or(Self::Anyone, Self::From)
    }

    /// Whether that peer is served.
    pub fn serve(&self, peer: IpAddr) -> bool {
        match self {
            Self::Anyone => true,
            Self::From(subnets) => subnets.iter().any(|subnet| subnet.contains(&peer.to_canonical())),
        }
    }
}

/// Takes connections from a listener: peers that are not served are closed, errors are waited out.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    peers: Peers,
    name: String,
    refused: Coalesced,
    failed: Coalesced,
    back_off: Duration,
}

/// The first wait after an accept error, and the longest: long enough not to spin at the
/// descriptor limit, short enough that nobody notices when it is over.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(100));

impl Acceptor {
    /// `name` is what the log calls the listener.
    pub fn new(listener: TcpListener, peers: Peers, name: &str) -> Self {
        Self {
            listener,
            peers,
            name: name.to_owned(),
            refused: Coalesced::default(),
            failed: Coalesced::default(),
            back_off: BACK_OFF.0,
        }
    }

    /// The next connection of a peer that is served. Cancel-safe.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) if self.peers.serve(peer.ip()) => {
                    self.back_off = BACK_OFF.0;
                    return (stream, peer);
                }
                Ok((_closed, peer)) => {
                    if let Some(count) = self.refused.count() {
                        tracing::warn!(event = "refused", listener = %self.name, peer = %peer, reason = "peer", count);
                    }
                }
                Err(error) => {
                    if let Some(count) = self.failed.count() {
                        tracing::warn!(event = "accept_error", listener = %self.name, error = %error, count);
                    }
                    tokio::time::sleep(self.back_off).await;
                    self.back_off = BACK_OFF.1;
                }
            }
        }
    }

    /// How many accepts have failed so far.
    pub fn errors(&self) -> u64 {
        self.failed.total()
    }

    /// The listener's own address.
    ///
    /// # Errors
    /// The kernel's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    #[tokio::test]
    async fn a_peer_from_elsewhere_is_closed_and_the_next_one_served() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let elsewhere = Peers::From(vec!["10.201.7.0/28".parse().unwrap()]);
        let mut acceptor = Acceptor::new(listener, elsewhere, "test");
        let serving = tokio::spawn(async move { acceptor.accept().await });
        let mut stream = TcpStream::connect(address).await.unwrap();
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "nothing is served: {read:?}");
        assert!(!serving.is_finished());
        serving.abort();
    }

    #[test]
    fn a_mapped_address_counts_as_its_own() {
        let peers = Peers::From(vec!["127.0.0.0/8".parse().unwrap()]);
        assert!(peers.serve("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!peers.serve("::1".parse().unwrap()));
    }
}
