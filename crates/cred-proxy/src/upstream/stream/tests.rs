//! Both ends of a TLS stream in one place.

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use testbed::pki::Ca;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::upstream::trust::provider;

type Server = tokio_rustls::server::TlsStream<DuplexStream>;

/// Both ends of a connection through a pipe that holds `room` bytes.
async fn connected(room: usize) -> (TlsStream<DuplexStream>, Server) {
    let ca = Ca::new();
    let certificates = |pem: &str| -> Vec<_> {
        CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&ca.pem()));
    let named = ca.server(&["up.test"]);
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            certificates(&named.cert_pem),
            PrivateKeyDer::from_pem_slice(named.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // Nobody reads them while the handshake ends: a small pipe would not hold them.
    server.send_tls13_tickets = if room < 1 << 14 { 0 } else { 2 };
    let (ours, theirs) = tokio::io::duplex(room);
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let connecting = TlsStream::connect(Arc::new(config), "up.test".try_into().unwrap(), ours);
    let (client, server) = tokio::join!(connecting, acceptor.accept(theirs));
    (client.unwrap(), server.unwrap())
}

#[tokio::test]
async fn every_byte_arrives_in_order_whatever_the_pipe_holds() {
    let sent: Vec<u8> = (0..300_000_u32).map(|n| ((n * 31) >> 3) as u8).collect();
    for (room, read) in [(7, 1000), (1000, 3), (20_000, 50_000), (1 << 20, 1 << 17)] {
        let (mut client, mut server) = connected(room).await;
        let sent = &sent[..if room * read < 10_000 { 30_000 } else { sent.len() }];
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let serve = async {
            while up.len() < sent.len() {
                assert!(server.read_buf(&mut up).await.unwrap() > 0);
            }
            server.write_all(sent).await.unwrap();
            server.shutdown().await.unwrap();
        };
        let ask = async {
            client.write_all(sent).await.unwrap();
            client.flush().await.unwrap();
            let mut some = vec![0; read];
            loop {
                match client.read(&mut some).await.unwrap() {
                    0 => return,
                    n => down.extend_from_slice(&some[..n]),
                }
            }
        };
        tokio::join!(serve, ask);
        assert!(up == sent && down == sent, "{room} {read}");
        assert_eq!(
            (client.incoming.capacity(), client.unread.capacity(), client.outgoing.capacity()),
            (0, 0, 0)
        );
    }
}

#[tokio::test]
async fn an_end_that_was_not_announced_is_an_error_and_ours_is_announced() {
    let (mut client, mut server) = connected(1 << 16).await;
    server.write_all(b"half an ans").await.unwrap();
    server.flush().await.unwrap();
    drop(server);
    let mut got = [0; 11];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(client.read(&mut got).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);

    let (mut client, mut server) = connected(1 << 16).await;
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut got).await.unwrap(), 0);
}

#[tokio::test]
async fn a_record_that_was_changed_on_its_way_is_an_error() {
    let (client, mut server) = connected(1 << 16).await;
    server.get_mut().0.write_all(&[23, 3, 3, 0, 20]).await.unwrap();
    server.get_mut().0.write_all(&[7; 20]).await.unwrap();
    let mut client = client;
    assert_eq!(client.read(&mut [0; 9]).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
}
