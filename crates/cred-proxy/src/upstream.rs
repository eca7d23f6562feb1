//! Verified TLS to an upstream. This file, [`stream`] and [`trust`] are all that knows the TLS library.

use std::time::Duration;

use rustls::pki_types::ServerName;
use sidecar::upstream::Host;
use tokio::{net::TcpStream, time::timeout};

pub mod stream;
pub mod trust;

use self::stream::TlsStream;
use crate::{
    dial::{ConnectError, Dialer},
    link::Link,
    route::Route,
    stall::Stall,
};

/// A verified connection to an upstream.
pub type UpstreamStream = TlsStream<Stall<TcpStream>>;

/// Opens connections to upstreams.
#[derive(Debug)]
pub struct Connector {
    dialer: Dialer,
    limits: ConnectLimits,
}

/// How long an upstream may take.
#[derive(Clone, Copy, Debug)]
pub struct ConnectLimits {
    /// Name, connection and TLS together.
    pub connect: Duration,
    /// The longest an upstream may take nothing while we write.
    pub write: Option<Duration>,
}

impl Connector {
    /// Connects by this dialer, within these limits.
    pub fn new(dialer: Dialer, limits: ConnectLimits) -> Self {
        Self { dialer, limits }
    }

    /// Connects to a route's upstream: name and SNI are the route's, whatever was asked for.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]; nothing but a TLS handshake was then sent.
    pub async fn connect(&self, route: &Route) -> Result<Link, ConnectError> {
        let upstream = &route.upstream;
        let connect = async {
            let tls_failed = |source| ConnectError::Tls { upstream: upstream.clone(), source };
            let name = server_name(&upstream.host).map_err(tls_failed)?;
            let stream = self.dialer.connect(upstream, route.allow_private).await?;
            let stream = Stall::new(stream, self.limits.write);
            let stream = TlsStream::connect(route.tls.config(), name, stream).await.map_err(tls_failed)?;
            Link::open(stream)
                .await
                .map_err(|source| ConnectError::Http { upstream: upstream.clone(), source })
        };
        // Boxed: a handshake's state would else weigh on every request that needs none.
        timeout(self.limits.connect, Box::pin(connect)).await.unwrap_or_else(|_| {
            Err(ConnectError::Timeout { upstream: upstream.clone(), within: self.limits.connect })
        })
    }
}

fn server_name(host: &Host) -> std::io::Result<ServerName<'static>> {
    match host {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        // A certificate names no trailing dot (RFC 6066 section 3).
        Host::Name(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error)),
    }
}
