//! A connection to an upstream: its name resolved now, every address tried, within one budget.
//!
//! The addresses take turns by family and start a quarter of a second after each other, or as soon
//! as one has failed (RFC 8305), so that one dead address does not use up the time of the others.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use sidecar::listen::{descriptor_hint, is_own};
use sidecar::upstream::{Host, Upstream, resolve};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::tune::tune;

/// RFC 8305 section 5.
const STAGGER: Duration = Duration::from_millis(250);
/// Look-ups of one row at once. Each holds a thread until the system's resolver gives up; a row
/// whose name server is silent must leave threads for the others.
const LOOKUPS: usize = 16;

/// Connects the connections of one row.
#[derive(Debug)]
pub(crate) struct Dialer {
    lookups: Arc<Semaphore>,
}

/// Why an upstream was not connected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Its name has no address now.
    #[error("could not resolve upstream {upstream}")]
    Resolve { upstream: Upstream, source: io::Error },
    /// It is the gate itself.
    #[error("upstream {upstream} is the gate's own listener {address}")]
    Own { upstream: Upstream, address: SocketAddr },
    /// No address took the connection.
    #[error("could not connect to upstream {upstream} at {address}")]
    Connect { upstream: Upstream, address: SocketAddr, source: io::Error },
    /// The gate has no descriptor left for it.
    #[error("no descriptor is left for upstream {upstream}: {}", descriptor_hint(.source).unwrap_or_default())]
    Descriptors { upstream: Upstream, source: io::Error },
    /// The budget is used up.
    #[error("upstream {upstream} did not answer within {} ms", .budget.as_millis())]
    Late { upstream: Upstream, budget: Duration },
}

impl ConnectError {
    /// Whether the fault is the gate's own: its table's, or its limit's.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Own { .. } | Self::Descriptors { .. })
    }

    /// The same, or that no descriptor was left for it: of that the upstream knows nothing.
    fn or_descriptors(self) -> Self {
        match self {
            Self::Resolve { upstream, source } | Self::Connect { upstream, source, .. }
                if descriptor_hint(&source).is_some() =>
            {
                Self::Descriptors { upstream, source }
            }
            other => other,
        }
    }

    /// Whether the upstream took the connection, and reset it before we had seen that it did.
    pub(crate) fn is_reset(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionReset)
    }
}

impl Default for Dialer {
    fn default() -> Self {
        Self { lookups: Arc::new(Semaphore::new(LOOKUPS)) }
    }
}

impl Dialer {
    /// Connects to `upstream`, but never to one of the listeners `own`.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(crate) async fn connect(
        &self,
        upstream: &Upstream,
        own: &[SocketAddr],
        budget: Duration,
    ) -> Result<TcpStream, ConnectError> {
        let connected =
            async {
                let addresses = self
                    .addresses(upstream)
                    .await
                    .map_err(|source| ConnectError::Resolve { upstream: upstream.clone(), source })?;
                if let Some(address) = addresses.iter().copied().find(|address| is_own(*address, own)) {
                    return Err(ConnectError::Own { upstream: upstream.clone(), address });
                }
                first(take_turns(addresses), budget).await.map_err(|(address, source)| {
                    ConnectError::Connect { upstream: upstream.clone(), address, source }
                })
            };
        tokio::time::timeout(budget, connected)
            .await
            .unwrap_or_else(|_| Err(ConnectError::Late { upstream: upstream.clone(), budget }))
            .map_err(ConnectError::or_descriptors)
    }

    async fn addresses(&self, upstream: &Upstream) -> io::Result<Vec<SocketAddr>> {
        if let Host::Address(address) = upstream.host {
            return Ok(vec![SocketAddr::new(address, upstream.port)]);
        }
        // Boxed: most of what connecting takes is for names.
        Box::pin(self.look_up(upstream)).await
    }

    async fn look_up(&self, upstream: &Upstream) -> io::Result<Vec<SocketAddr>> {
        let lookups = self.lookups.clone();
        let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
        let upstream = upstream.clone();
        // In a task of its own: a look-up that we no longer wait for still holds its thread.
        let lookup = tokio::spawn(async move {
            let _permit = permit;
            resolve(&upstream).await
        });
        lookup.await.map_err(io::Error::other)?
    }
}

/// The families in turn, beginning with the resolver's first choice (RFC 8305 section 4).
fn take_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let Some(preferred) = addresses.first().map(SocketAddr::is_ipv6) else { return addresses };
    let (mut one, mut other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == preferred);
    let mut turns = Vec::with_capacity(one.len() + other.len());
    let (mut one, mut other) = (one.drain(..), other.drain(..));
    loop {
        let pair = (one.next(), other.next());
        if pair == (None, None) {
            return turns;
        }
        turns.extend(pair.0);
        turns.extend(pair.1);
    }
}

/// A connection that is reset when it is given up, even when the upstream has accepted it already: to
/// close it would look like a client that had nothing to say.
struct Attempt(Option<TcpStream>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Connects to one address.
async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    tune(&SockRef::from(&socket));
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
        connected => connected?,
    }
    let mut attempt = Attempt(Some(TcpStream::from_std(socket.into())?));
    if let Some(stream) = &attempt.0 {
        stream.writable().await?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
    }
    // From here on an end is what the peers make it.
    attempt.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into())
}

/// The first address that takes the connection, else the failure of the last one.
async fn first(addresses: Vec<SocketAddr>, budget: Duration) -> Result<TcpStream, (SocketAddr, io::Error)> {
    if let [address] = addresses[..] {
        return dial(address).await.map_err(|error| (address, error));
    }
    Box::pin(race(addresses, budget)).await
}

async fn race(addresses: Vec<SocketAddr>, budget: Duration) -> Result<TcpStream, (SocketAddr, io::Error)> {
    // With many addresses they start closer together, so that the last one has its time too.
    let stagger = STAGGER.min(budget / u32::try_from(addresses.len() + 1).unwrap_or(u32::MAX));
    let mut waiting = addresses.into_iter();
    let mut trying = JoinSet::new();
    let mut failed = None;
    loop {
        let more = waiting.next();
        let is_last = more.is_none();
        if let Some(address) = more {
            trying.spawn(async move { (address, dial(address).await) });
        }
        let tried = tokio::select! {
            tried = trying.join_next() => tried,
            () = tokio::time::sleep(stagger), if !is_last => continue,
        };
        match tried {
            Some(Ok((_, Ok(stream)))) => return Ok(stream),
            Some(Ok((address, Err(error)))) => failed = Some((address, error)),
            Some(Err(_)) => {}
            None if is_last => {
                let nowhere = || (SocketAddr::from(([0; 4], 0)), io::ErrorKind::NotFound.into());
                return Err(failed.unwrap_or_else(nowhere));
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_the_resolvers_choice_is_first() {
        let given = addresses(&["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1", "1.1.1.2:1"]);
        let turns = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"]);
        assert_eq!(take_turns(given), turns);
    }

    #[tokio::test]
    async fn a_refusing_address_hands_over_to_the_next_at_once() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = open.local_addr().unwrap();
        let stream = first(vec![gone, gone, address], Duration::from_secs(5)).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let (_, error) = first(vec![gone, gone], Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
