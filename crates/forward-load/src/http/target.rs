//! Where the load goes: a URL, its address, and how to connect to it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, InvalidDnsNameError, ServerName, pem::PemObject as _},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::{fault::Fault, wire::Wire};

/// A URL of which every part is known to be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether it begins with `https:`.
    pub tls: bool,
    /// Its host, an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Its path and query, at least `/`.
    pub target: String,
}

/// Where connections are made to.
#[derive(Clone)]
pub struct Target {
    /// The address; the name is resolved once, so that the resolver is not measured.
    pub address: SocketAddr,
    /// The value of `Host`.
    pub authority: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why a URL cannot be aimed at.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It is not a URL of HTTP.
    #[error("expected a URL such as http://127.0.0.1:8080/path, found `{0}`")]
    Url(String),
    /// Its name has no address, or one that may belong to another owner.
    #[error(transparent)]
    Address(#[from] crate::target::TargetError),
    /// The file of authorities cannot be read.
    #[error("could not read certificates from `{}`", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file of authorities holds none.
    #[error("no usable certificate in `{}`", .0.display())]
    NoAuthority(PathBuf),
    /// TLS needs an authority to trust.
    #[error("an https URL needs --ca-file: the certificate is always verified")]
    NoCaFile,
    /// The host cannot be in a certificate.
    #[error("`{host}` cannot be verified")]
    Name {
        /// The name.
        host: String,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// TLS could not be set up.
    #[error("could not set TLS up")]
    Tls(#[from] rustls::Error),
}

impl std::str::FromStr for Url {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        parse(text).ok_or_else(|| TargetError::Url(text.escape_default().to_string()))
    }
}

fn parse(text: &str) -> Option<Url> {
    let (tls, rest) = match text.split_once("://")? {
        ("http", rest) => (false, rest),
        ("https", rest) => (true, rest),
        _ => return None,
    };
    let (authority, target) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let visible =
        |part: &str| part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'@');
    if !visible(authority) || !visible(target) {
        return None;
    }
    let (host, port) = match authority.rsplit_once(':').filter(|_| !authority.ends_with(']')) {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, if tls { 443 } else { 80 }),
    };
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then(|| Url { tls, host: host.into(), port, target: target.into() })
}

impl Target {
    /// Resolves the URL's name, and reads the authorities that its certificate may come from.
    ///
    /// # Errors
    ///
    /// A name without address or with one that may belong to another owner, or an https URL without
    /// authority.
    pub fn new(url: &Url, ca_file: Option<&Path>, i_own_this_target: bool) -> Result<Self, TargetError> {
        let host = if url.host.contains(':') { format!("[{}]", url.host) } else { url.host.clone() };
        let authority = format!("{host}:{}", url.port);
        let address = crate::target::resolve(&authority, i_own_this_target)?;
        let tls = match (url.tls, ca_file) {
            (false, _) => None,
            (true, None) => return Err(TargetError::NoCaFile),
            (true, Some(path)) => {
                let name = ServerName::try_from(url.host.clone());
                let name = name.map_err(|source| TargetError::Name { host: url.host.clone(), source })?;
                Some((connector(path)?, name))
            }
        };
        Ok(Self { address, authority, tls })
    }

    /// Opens a connection.
    ///
    /// # Errors
    ///
    /// [`Fault::Connect`] or [`Fault::Tls`].
    pub async fn connect(&self) -> Result<Wire, Fault> {
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(self.address)).await;
        let stream = stream.map_err(|_| Fault::Connect(io::ErrorKind::TimedOut))?;
        let stream = stream.map_err(|error| Fault::Connect(error.kind()))?;
        stream.set_nodelay(true).map_err(|error| Fault::Connect(error.kind()))?;
        let Some((connector, name)) = &self.tls else { return Ok(Wire::Plain(stream)) };
        let stream = timeout(CONNECT_TIMEOUT, connector.connect(name.clone(), stream)).await;
        let stream = stream.map_err(|_| Fault::Tls)?.map_err(|_| Fault::Tls)?;
        Ok(Wire::Tls(Box::new(stream)))
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("address", &self.address).field("tls", &self.tls.is_some()).finish()
    }
}

fn connector(path: &Path) -> Result<TlsConnector, TargetError> {
    let unread = |source| TargetError::Authorities { path: path.into(), source };
    let pem = fs::read(path).map_err(unread)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if roots.is_empty() {
        return Err(TargetError::NoAuthority(path.into()));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Every new connection is a whole handshake, as the origin wants it anyway.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, tls, host, port, target) in [
            ("http://127.0.0.1:8080", false, "127.0.0.1", 8080, "/"),
            ("http://localhost/a/b?c", false, "localhost", 80, "/a/b?c"),
            ("https://[::1]:9443/x", true, "::1", 9443, "/x"),
            ("https://[::1]/", true, "::1", 443, "/"),
        ] {
            let expected = Url { tls, host: host.into(), port, target: target.into() };
            assert_eq!(text.parse::<Url>().unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "localhost:80",
            "ftp://x/",
            "http:///x",
            "http://a@b/",
            "http://x:99999/",
            "http://x/a b",
            "http://x/\r\nh: 1",
        ] {
            assert!(text.parse::<Url>().is_err(), "{text}");
        }
    }
}
