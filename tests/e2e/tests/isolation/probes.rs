//! Probes as data: run in a container all at once, each with what came of it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::Stage;
use e2e::stage::local_addresses;
use tokio::net::{TcpListener, UdpSocket};

/// What the system says at once when there is no route.
pub(crate) const NO_ROUTE: &[&str] = &["Network is unreachable"];
/// The same of IPv6, where an interface without an address of its own answers for the missing route.
pub(crate) const NO_ROUTE6: &[&str] = &["Network is unreachable", "Cannot assign requested address"];
/// What a neighbour's address that nobody has comes to, or a packet that is dropped.
pub(crate) const NOBODY: &[&str] = &["No route to host", "no reply", "", "Network is unreachable"];
/// What a container that is there says of a port that nobody listens on.
pub(crate) const NOT_SERVED: &[&str] = &["Connection refused"];
/// What comes of a connection that is closed before a byte.
pub(crate) const CLOSED: &[&str] = &["closed without an answer"];
/// What a link-local address comes to, with IPv6 or without, and of an interface that may not be there.
pub(crate) const LINK_LOCAL: &[&str] = &[
    "Network is unreachable",
    "Cannot assign requested address",
    "No route to host",
    "Invalid argument",
    "",
];
/// What the kernel says to those who lack the capability.
pub(crate) const NOT_PERMITTED: &[&str] = &["Operation not permitted"];
/// What came of a probe that succeeded.
pub(crate) const REACHED: &[&str] = &["reached"];

/// Probes with what may come of each.
#[derive(Debug, Default)]
pub(crate) struct Probes(Vec<(String, &'static [&'static str])>);

impl Probes {
    pub(crate) fn add(&mut self, probe: impl Into<String>, expected: &'static [&'static str]) {
        self.0.push((probe.into(), expected));
    }

    /// Runs all of them in a container as a user, and asserts what came of each.
    pub(crate) async fn assert(&self, stage: &Stage, container: &str, user: &str) {
        let stdin: String = self.0.iter().map(|(probe, _)| format!("{probe}\n")).collect();
        let done = stage.exec(container, user, include_str!("probes.sh"), stdin.as_bytes()).await;
        let came: BTreeMap<&str, &str> = done.said.lines().filter_map(|line| line.split_once('\t')).collect();
        let wrong: Vec<String> = self
            .0
            .iter()
            .filter(|(probe, expected)| !came.get(probe.as_str()).is_some_and(|said| expected.contains(said)))
            .map(|(probe, expected)| {
                format!("{probe}: {:?}, expected one of {expected:?}", came.get(probe.as_str()))
            })
            .collect();
        assert_eq!(wrong, Vec::<String>::new(), "as {user} in {container}; all:\n{}", done.said);
    }
}

/// A careless service of this machine: TCP and UDP on every address, counting who comes.
pub(crate) struct Machine {
    pub(crate) tcp: u16,
    pub(crate) udp: u16,
    came: Arc<AtomicUsize>,
}

impl Machine {
    pub(crate) async fn listen() -> Self {
        // Both families where there are two.
        let listener = match TcpListener::bind("[::]:0").await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind("0.0.0.0:0").await.unwrap(),
        };
        let socket = match UdpSocket::bind("[::]:0").await {
            Ok(socket) => socket,
            Err(_) => UdpSocket::bind("0.0.0.0:0").await.unwrap(),
        };
        let port = |address: std::io::Result<SocketAddr>| address.unwrap().port();
        let (tcp, udp) = (port(listener.local_addr()), port(socket.local_addr()));
        let came = Arc::new(AtomicUsize::new(0));
        let (connected, received) = (Arc::clone(&came), Arc::clone(&came));
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                connected.fetch_add(1, Ordering::SeqCst);
            }
        });
        tokio::spawn(async move {
            while socket.recv_from(&mut [0; 16]).await.is_ok() {
                received.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { tcp, udp, came }
    }

    /// How many connections and datagrams came so far.
    pub(crate) fn came(&self) -> usize {
        self.came.load(Ordering::SeqCst)
    }

    /// Waits until that many came.
    pub(crate) async fn hears(&self, count: usize) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
        while self.came() < count {
            assert!(tokio::time::Instant::now() < deadline, "{} of {count} came", self.came());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its IPv4 addresses but loopback's: docker0, the gateways of networks, the LAN's.
    pub(crate) fn addresses() -> Vec<Ipv4Addr> {
        local_addresses(&fs::read_to_string("/proc/net/fib_trie").unwrap_or_default())
    }

    /// Its link-local IPv6 addresses, those of bridges among them.
    pub(crate) fn link_local() -> Vec<String> {
        let interfaces = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
        let addresses = interfaces.lines().filter(|line| line.starts_with("fe80"));
        addresses
            .filter_map(|line| u128::from_str_radix(line.get(..32)?, 16).ok())
            .map(|address| std::net::Ipv6Addr::from(address).to_string())
            .collect()
    }
}
