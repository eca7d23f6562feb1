//! Verified TLS to an upstream. This file and [`stream`] are all that knows the TLS library.

use std::{sync::Arc, time::Duration};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use sidecar::{exit::Failure, upstream::Host};
use tokio::{net::TcpStream, time::timeout};

pub mod stream;

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
pub struct Connector {
    tls: Arc<ClientConfig>,
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
    /// Trusts the public authorities, and those of `authorities` (PEM, each with the name that a
    /// failure calls it by).
    ///
    /// # Errors
    ///
    /// When one of them holds no certificate, or one that cannot be read.
    pub fn new(
        authorities: &[(String, Vec<u8>)],
        dialer: Dialer,
        limits: ConnectLimits,
    ) -> Result<Self, Failure> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for (name, pem) in authorities {
            let refuse = |what: &str| Failure::config(format!("CA {name}: {what}"));
            let mut found = 0;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| refuse("it is no PEM"))?;
                roots.add(certificate).map_err(|_| refuse("it holds a certificate that cannot be read"))?;
                found += 1;
            }
            if found == 0 {
                return Err(refuse("it holds no certificate"));
            }
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Failure::runtime)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(config), dialer, limits })
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
            let stream = TlsStream::connect(self.tls.clone(), name, stream).await.map_err(tls_failed)?;
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

/// The cryptography: in one place, so that it can be another.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_name(host: &Host) -> std::io::Result<ServerName<'static>> {
    match host {
        Host::Address(address) => Ok(ServerName::IpAddress((*address).into())),
        // A certificate names no trailing dot (RFC 6066 section 3).
        Host::Name(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error)),
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("dialer", &self.dialer).finish_non_exhaustive()
    }
}
