use proptest::prelude::*;
use rustls::{
    ClientConnection, HandshakeKind, ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use testbed::pki::Ca;

use super::*;

/// Two routes, the first with a CA of its own.
fn trust(own: &Ca, for_all: &Ca) -> Trust {
    let route = |path: &str, ca: &[String]| {
        serde_json::json!({"path": path, "upstream": "https://up.test", "auth": {"scheme": "bearer"},
            "token_env": "T", "ca": ca})
    };
    let table = serde_json::json!({"routes": [route("/own/", &[own.pem()]), route("/other/", &[])]});
    let table: RouteTable = serde_json::from_value(table).unwrap();
    let ca = CaPem::parse(for_all.pem().as_bytes()).unwrap();
    Trust::new(Authority::of_bundle(vec![ca]).collect(), &table).unwrap()
}

fn server(ca: &Ca) -> Arc<ServerConfig> {
    let cert = ca.server(&["up.test"]);
    let chain = CertificateDer::pem_slice_iter(cert.cert_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(cert.key_pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    Arc::new(config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap())
}

/// A whole handshake with all its tickets, in memory.
fn handshake(tls: &RouteTls, server: &Arc<ServerConfig>) -> Result<HandshakeKind, rustls::Error> {
    let name = ServerName::try_from("up.test").unwrap();
    let mut client = ClientConnection::new(tls.config(), name)?;
    let mut server = ServerConnection::new(server.clone())?;
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    Ok(client.handshake_kind().unwrap())
}

#[test]
fn a_session_is_resumed_on_its_route_and_on_no_other() {
    let (own, for_all) = (Ca::new(), Ca::new());
    let trust = trust(&own, &for_all);
    let [first, second] = [&trust.0[0], &trust.0[1]];
    let (by_own, by_all) = (server(&own), server(&for_all));
    assert_eq!(handshake(first, &by_own), Ok(HandshakeKind::Full));
    // Whatever thread asks next has a clone of the same configuration.
    assert_eq!(handshake(&first.clone(), &by_own), Ok(HandshakeKind::Resumed));
    assert!(matches!(handshake(second, &by_own), Err(rustls::Error::InvalidCertificate(_))));
    assert_eq!(handshake(second, &by_all), Ok(HandshakeKind::Full));
    assert_eq!(handshake(second, &by_all), Ok(HandshakeKind::Resumed));
    assert_eq!(handshake(first, &by_all), Ok(HandshakeKind::Full));
}

proptest! {
    /// The launcher goes by the outline: it must not refuse what the TLS library takes.
    #[test]
    fn what_the_tls_library_takes_has_the_outline_of_a_certificate(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        static CA: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
            CaPem::parse(Ca::new().pem().as_bytes()).unwrap().certificates()[0].to_vec()
        });
        let mut der = CA.clone();
        for (at, byte) in changes {
            // Where the outline is, mostly.
            let at = at.index(der.len());
            der[if byte.is_multiple_of(2) { at } else { at % 48 }] = byte;
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len()));
        }
        let taken = RootCertStore::empty().add(der.clone().into()).is_ok();
        let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &der);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n");
        prop_assert!(!taken || CaPem::parse(pem.as_bytes()).is_ok(), "{der:?}");
    }
}
