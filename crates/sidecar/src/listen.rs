//! Bound listeners, and who is served on them.

use std::io;
use std::net::{self, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use rustix::io::Errno;
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

/// What to do about an error that says that no descriptor is left.
pub fn descriptor_hint(error: &io::Error) -> Option<&'static str> {
    let none_left = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    none_left
        .contains(&error.raw_os_error())
        .then_some("raise the limit of open files (ulimit -n), or allow fewer connections")
}

/// Whether a connection to `address` would arrive at one of our own listeners.
pub fn is_own(address: SocketAddr, listeners: &[SocketAddr]) -> bool {
    let ip = match address.ip().to_canonical() {
        // To connect to "any address" is to connect to this machine.
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    listeners.iter().filter(|listener| listener.port() == address.port()).any(|listener| {
        let bound = listener.ip().to_canonical();
        bound == ip || bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4() && is_local(ip)
    })
}

/// Whether this machine has the address: only then can a socket be bound to it.
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
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
    troubles: Arc<Troubles>,
    back_off: Duration,
}

/// A listener that is on no thread yet, so that several can accept from it.
#[derive(Debug)]
pub struct Listening {
    listener: net::TcpListener,
    peers: Peers,
    troubles: Arc<Troubles>,
}

/// What goes wrong at one listener, whichever thread sees it.
#[derive(Debug)]
pub struct Troubles {
    name: Arc<str>,
    refused: Arc<Coalesced>,
    failed: Arc<Coalesced>,
}

/// The first wait after an accept error, and the longest: long enough not to spin at the
/// descriptor limit, short enough that nobody notices when it is over.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(100));

impl Listening {
    /// `name` is what the log calls the listener.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(listener: TcpListener, peers: Peers, name: &str) -> io::Result<Self> {
        Ok(Self { listener: listener.into_std()?, peers, troubles: Arc::new(Troubles::at(name)) })
    }

    /// The same listener for another thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn share(&self) -> io::Result<Self> {
        Ok(Self {
            listener: self.listener.try_clone()?,
            peers: self.peers.clone(),
            troubles: self.troubles.clone(),
        })
    }

    /// Accepts on the runtime of this thread from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn into_acceptor(self) -> io::Result<Acceptor> {
        let listener = TcpListener::from_std(self.listener)?;
        Ok(Acceptor { listener, peers: self.peers, troubles: self.troubles, back_off: BACK_OFF.0 })
    }

    /// What goes wrong there, also when nobody accepts any more.
    pub fn troubles(&self) -> Arc<Troubles> {
        self.troubles.clone()
    }
}

impl Troubles {
    fn at(name: &str) -> Self {
        Self { name: name.into(), refused: Arc::default(), failed: Arc::default() }
    }

    /// How many accepts have failed so far.
    pub fn failed(&self) -> u64 {
        self.failed.total()
    }
}

impl Acceptor {
    /// `name` is what the log calls the listener.
    pub fn new(listener: TcpListener, peers: Peers, name: &str) -> Self {
        Self { listener, peers, troubles: Arc::new(Troubles::at(name)), back_off: BACK_OFF.0 }
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
                    let name = self.troubles.name.clone();
                    self.troubles.refused.count(move |count| {
                        tracing::warn!(event = "refused", listener = %name, peer = %peer, reason = "peer", count);
                    });
                }
                Err(error) => {
                    let name = self.troubles.name.clone();
                    self.troubles.failed.count(move |count| {
                        let hint = descriptor_hint(&error);
                        tracing::warn!(event = "accept_error", listener = %name, error = %error, hint, count);
                    });
                    tokio::time::sleep(self.back_off).await;
                    self.back_off = BACK_OFF.1;
                }
            }
        }
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
    fn our_own_listeners_are_known_in_all_their_spellings() {
        let own = ["127.0.0.1:30000", "0.0.0.0:30001", "[::]:30002"].map(|text| text.parse().unwrap());
        for (text, expected) in [
            ("127.0.0.1:30000", true),
            ("0.0.0.0:30000", true),
            ("[::ffff:127.0.0.1]:30000", true),
            ("127.0.0.2:30000", false),
            ("127.0.0.1:30003", false),
            ("127.9.9.9:30001", true),
            ("198.51.100.1:30001", false),
            ("[::1]:30001", false),
            ("[::1]:30002", true),
            ("[::]:30002", true),
        ] {
            assert_eq!(is_own(text.parse().unwrap(), &own), expected, "{text}");
        }
    }

    #[test]
    fn a_mapped_address_counts_as_its_own() {
        let peers = Peers::From(vec!["127.0.0.0/8".parse().unwrap()]);
        assert!(peers.serve("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!peers.serve("::1".parse().unwrap()));
    }
}
