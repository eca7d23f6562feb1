//! A throw-away authority and the origin's certificate.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
};

/// Why there is no TLS for the origin.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The certificates could not be made.
    #[error("could not make the origin's certificate")]
    Make(#[from] rcgen::Error),
    /// rustls does not take them.
    #[error("could not set the origin's TLS up")]
    Tls(#[from] rustls::Error),
}

/// Makes an authority and a certificate for `localhost` and the loopback addresses. Returns the
/// origin's side and the authority's certificate as PEM; its key is gone with the return.
///
/// # Errors
///
/// None that a working random source leaves.
pub fn origin_tls() -> Result<(Arc<ServerConfig>, String), PkiError> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority.distinguished_name.push(DnType::CommonName, "forward-load throw-away authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "forward-load origin");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));

    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    // No resumption: a cold upstream connection is then the same work for every forwarder.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), authority.pem()))
}
