//! The certificates that each route trusts: the public ones, those given for all routes, and its own.
//!
//! Invariant: a CA given for one route signs for that route alone. Each route has a TLS configuration of
//! its own, which all threads share; so TLS sessions, too, are resumed only on the route that began them.

use std::{fmt, fs::File, io, io::Read as _, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::CryptoProvider};
use sidecar::{
    ca::{CaError, CaPem},
    exit::Failure,
    routes::{Route, RouteTable},
    table::MAX_BYTES,
};

/// The TLS configuration of each route, in the order of the table.
#[derive(Debug)]
pub struct Trust(Vec<RouteTls>);

/// The TLS configuration of one route.
#[derive(Clone)]
pub struct RouteTls(Arc<ClientConfig>);

/// A CA, and its name in errors.
#[derive(Debug)]
pub struct Authority {
    name: String,
    ca: CaPem,
}

/// Why a CA cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Its file cannot be read.
    #[error("could not read {ca}")]
    Read {
        /// Its name.
        ca: String,
        /// Why.
        source: io::Error,
    },
    /// It is not a CA.
    #[error("{ca}")]
    Unusable {
        /// Its name.
        ca: String,
        /// Why.
        source: CaError,
    },
    /// Its file is too long to be a CA.
    #[error("{ca}: a CA file is at most 1 MiB")]
    TooLong {
        /// Its name.
        ca: String,
    },
    /// The TLS library has no protocol version for its cryptography.
    #[error("could not configure TLS")]
    Tls(#[source] rustls::Error),
}

impl From<TrustError> for Failure {
    fn from(error: TrustError) -> Self {
        Self::config(error)
    }
}

impl Authority {
    /// Those of a bundle.
    pub fn of_bundle(ca: Vec<CaPem>) -> impl Iterator<Item = Self> {
        ca.into_iter().enumerate().map(|(n, ca)| Self { name: format!("ca[{n}] of the bundle"), ca })
    }

    /// Reads a CA file.
    ///
    /// # Errors
    ///
    /// [`TrustError`], which names the file.
    pub fn load(file: &Path) -> Result<Self, TrustError> {
        Self::load_as(format!("CA file {}", file.display()), file)
    }

    fn load_as(name: String, file: &Path) -> Result<Self, TrustError> {
        let mut pem = Vec::new();
        let read = File::open(file).and_then(|file| file.take(MAX_BYTES as u64 + 1).read_to_end(&mut pem));
        match read {
            Err(source) => Err(TrustError::Read { ca: name, source }),
            Ok(length) if length > MAX_BYTES => Err(TrustError::TooLong { ca: name }),
            Ok(_) => match CaPem::parse(&pem) {
                Ok(ca) => Ok(Self { name, ca }),
                Err(source) => Err(TrustError::Unusable { ca: name, source }),
            },
        }
    }

    fn all_of(route: &Route) -> Result<Vec<Self>, TrustError> {
        let path = &route.path;
        let named =
            |(n, ca): (usize, &CaPem)| Self { name: format!("ca[{n}] of route {path}"), ca: ca.clone() };
        let mut all: Vec<_> = route.ca.iter().enumerate().map(named).collect();
        if let Some(file) = &route.ca_file {
            all.push(Self::load_as(format!("CA file {} of route {path}", file.display()), file)?);
        }
        Ok(all)
    }

    fn add_to(self, roots: &mut RootCertStore) -> Result<(), TrustError> {
        for (n, certificate) in self.ca.certificates().iter().enumerate() {
            // The library's words say less: that the certificate is invalid.
            roots.add(certificate.clone()).map_err(|_| TrustError::Unusable {
                ca: self.name.clone(),
                source: CaError::Certificate(n + 1),
            })?;
        }
        Ok(())
    }
}

impl Trust {
    /// Trusts the public authorities and `for_all` on every route, and on each route its own CAs,
    /// whose files are read now.
    ///
    /// # Errors
    ///
    /// [`TrustError`] for the first CA that cannot be trusted.
    pub fn new(for_all: Vec<Authority>, table: &RouteTable) -> Result<Self, TrustError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for authority in for_all {
            authority.add_to(&mut roots)?;
        }
        let (roots, provider) = (Arc::new(roots), provider());
        let tls = |route: &Route| {
            let mut roots = roots.clone();
            for authority in Authority::all_of(route)? {
                // The first one makes it a copy of the route's own.
                authority.add_to(Arc::make_mut(&mut roots))?;
            }
            configure(provider.clone(), roots).map(RouteTls)
        };
        table.routes().iter().map(tls).collect::<Result<_, _>>().map(Self)
    }

    /// The configurations, in the order of the table's routes.
    pub fn routes(&self) -> impl Iterator<Item = &RouteTls> {
        self.0.iter()
    }
}

impl RouteTls {
    /// The library's configuration.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.0.clone()
    }
}

impl fmt::Debug for RouteTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouteTls(..)")
    }
}

fn configure(
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
) -> Result<Arc<ClientConfig>, TrustError> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    Ok(Arc::new(config))
}

/// The cryptography: in one place, so that it can be another.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// As many as the library keeps for one server, and a route has one.
const SESSIONS: usize = 8;

#[cfg(test)]
mod tests;
