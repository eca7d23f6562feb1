//! From an upstream's name to a TCP connection, to an address that was checked.

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use sidecar::{
    address::Class,
    listen::is_own,
    upstream::{Host, Upstream, resolve},
    upstream_proxy::UpstreamProxy,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::timeout};

use crate::{refusal::Reason, via};

/// Connects to upstreams, never to ourselves.
#[derive(Clone, Debug)]
pub struct Dialer {
    own: Vec<SocketAddr>,
    via: Option<UpstreamProxy>,
}

/// Why there is no connection to an upstream.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Its name has no address.
    #[error("could not resolve {upstream}")]
    Resolve {
        /// Whose name.
        upstream: Upstream,
        /// Why.
        source: io::Error,
    },
    /// Its name leads to an address that the route does not permit.
    #[error("{upstream} leads to {address}, which the route does not permit")]
    Private {
        /// Whose name.
        upstream: Upstream,
        /// Where to.
        address: SocketAddr,
    },
    /// Nobody took the connection.
    #[error("could not connect to upstream {upstream}")]
    Connect {
        /// To whom.
        upstream: Upstream,
        /// Why; of several addresses, the last one's.
        source: io::Error,
    },
    /// The proxy in between made no way.
    #[error("could not reach upstream {upstream} through proxy {proxy}")]
    Proxy {
        /// Whom.
        upstream: Upstream,
        /// Through whom.
        proxy: Upstream,
        /// Why.
        source: io::Error,
    },
    /// It could not prove who it is, or does not speak TLS.
    #[error("could not speak TLS with upstream {upstream}")]
    Tls {
        /// With whom.
        upstream: Upstream,
        /// Why.
        source: io::Error,
    },
    /// It does not speak HTTP.
    #[error("could not speak HTTP with upstream {upstream}")]
    Http {
        /// With whom.
        upstream: Upstream,
        /// Why.
        source: hyper::Error,
    },
    /// It took too long.
    #[error("upstream {upstream} was not connected within {}", humantime::format_duration(*.within))]
    Timeout {
        /// To whom.
        upstream: Upstream,
        /// How long we waited.
        within: Duration,
    },
}

impl ConnectError {
    /// The word of the answer.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Resolve { .. } | Self::Connect { .. } | Self::Proxy { .. } => Reason::UpstreamConnect,
            Self::Private { .. } => Reason::PrivateAddress,
            Self::Tls { .. } => Reason::UpstreamTls,
            Self::Http { .. } => Reason::UpstreamProtocol,
            Self::Timeout { .. } => Reason::UpstreamTimeout,
        }
    }
}

impl Dialer {
    /// `own` are our listeners and the admin endpoint: nothing is sent there, ever.
    pub fn new(own: Vec<SocketAddr>) -> Self {
        Self { own, via: None }
    }

    /// The same, through a proxy.
    pub fn via(self, via: Option<UpstreamProxy>) -> Self {
        Self { via, ..self }
    }

    /// Resolves the name anew, checks every address, and connects to the first that answers.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]. One address that is not permitted is enough to refuse them all: such an
    /// answer is a mistake or an attack. The caller sets the deadline over all of it.
    pub async fn connect(&self, upstream: &Upstream, allow_private: bool) -> Result<TcpStream, ConnectError> {
        match &self.via {
            // What may be at a private address is on a network of ours, which the proxy may not reach.
            Some(via) if !allow_private && via.leads_to(upstream) => self.connect_via(via, upstream).await,
            _ => self.connect_to(upstream, allow_private).await,
        }
    }

    /// The proxy resolves the name, so only a literal address can be checked; the proxy itself may be
    /// at a private address, as its owner says.
    async fn connect_via(&self, via: &UpstreamProxy, upstream: &Upstream) -> Result<TcpStream, ConnectError> {
        if let Host::Address(address) = upstream.host {
            let address = SocketAddr::new(address, upstream.port);
            if self.is_refused(address, false) {
                return Err(ConnectError::Private { upstream: upstream.clone(), address });
            }
        }
        let proxy = via.url.upstream();
        let mut stream = self.connect_to(proxy, true).await?;
        via::tunnel(&mut stream, &via.url, upstream).await.map_err(|source| ConnectError::Proxy {
            upstream: upstream.clone(),
            proxy: proxy.clone(),
            source,
        })?;
        Ok(stream)
    }

    fn is_refused(&self, address: SocketAddr, allow_private: bool) -> bool {
        !Class::of(address.ip()).permitted(allow_private) || is_own(address, &self.own)
    }

    async fn connect_to(&self, upstream: &Upstream, allow_private: bool) -> Result<TcpStream, ConnectError> {
        let addresses = resolve(upstream)
            .await
            .map_err(|source| ConnectError::Resolve { upstream: upstream.clone(), source })?;
        if let Some(address) = addresses.iter().find(|address| self.is_refused(**address, allow_private)) {
            return Err(ConnectError::Private { upstream: upstream.clone(), address: *address });
        }
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match timeout(PER_ADDRESS, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    tune(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => failed = error,
                Err(_) => failed = io::ErrorKind::TimedOut.into(),
            }
        }
        if failed.kind() == io::ErrorKind::TimedOut {
            return Err(ConnectError::Timeout { upstream: upstream.clone(), within: PER_ADDRESS });
        }
        Err(ConnectError::Connect { upstream: upstream.clone(), source: failed })
    }
}

/// Small writes go out at once, and a peer that vanished without a word is noticed.
fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    keep_alive(stream);
}

/// Has the kernel ask silent peers whether they are there. What a listener accepts inherits it
/// (Linux; elsewhere the timeouts between requests notice too, only later).
pub fn keep_alive(socket: &impl AsFd) {
    let probes = TcpKeepalive::new().with_time(KEEP_ALIVE.0).with_interval(KEEP_ALIVE.1).with_retries(4);
    let _ = SockRef::from(socket).set_tcp_keepalive(&probes);
}

/// A second address must still have its turn within the time for all.
const PER_ADDRESS: Duration = Duration::from_secs(5);

/// First after a minute of silence, then every 15 s: gone for two minutes is gone.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(15));

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_permitted_is_never_dialled() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let any: SocketAddr = ([0, 0, 0, 0], addr.port()).into();
        for (own, upstream, allow_private, permitted) in [
            (vec![], addr.to_string(), true, true),
            (vec![], format!("localhost:{}", addr.port()), true, true),
            (vec![], addr.to_string(), false, false),
            (vec![], format!("localhost:{}", addr.port()), false, false),
            (vec![addr], addr.to_string(), true, false),
            (vec![any], addr.to_string(), true, false),
            (vec![any], format!("[::ffff:127.0.0.1]:{}", addr.port()), true, false),
            (vec![], "169.254.169.254:443".into(), true, false),
            (vec![], "[fe80::1]:443".into(), true, false),
            (vec![], "0.0.0.0:443".into(), true, false),
        ] {
            let connected = Dialer::new(own).connect(&upstream.parse().unwrap(), allow_private).await;
            let private = matches!(connected, Err(ConnectError::Private { .. }));
            assert_eq!((connected.is_ok(), private), (permitted, !permitted), "{upstream} {allow_private}");
        }
    }
}
