//! The origins record what they received, and their certificates are as good or bad as named.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use http::StatusCode;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use testbed::{
    eventually,
    https::{Origin, RawOrigin, Script, text},
    pki::{Ca, Fault},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const REQUEST: &[u8] = b"POST /a?b=c HTTP/1.1\r\nHost: origin.test\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
    Content-Length: 5\r\nConnection: close\r\n\r\nhello";

#[tokio::test]
async fn an_origin_records_the_request_and_counts_its_content() {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["origin.test"]), |request| async {
        use http_body_util::BodyExt;
        request.into_body().collect().await.unwrap();
        text(StatusCode::CREATED, "made")
    })
    .await;
    let answer = exchange(connect(&ca, origin.addr()).await.unwrap(), REQUEST).await;
    assert!(answer.starts_with("HTTP/1.1 201 Created\r\n"), "{answer}");
    assert!(answer.ends_with("made"), "{answer}");
    let recorded = origin.take().remove(0);
    assert_eq!((recorded.method.as_str(), recorded.target.as_str()), ("POST", "/a?b=c"));
    assert_eq!(recorded.fields.get_all("x-twice").iter().count(), 2);
    assert_eq!((recorded.body_bytes, recorded.body_complete), (5, true));
    assert!(origin.take().is_empty());
}

#[tokio::test]
async fn a_raw_origin_sends_its_script() {
    let ca = Ca::new();
    let script = Script::close("HTTP/1.1 299 Odd\r\n\r\nbytes");
    let origin = RawOrigin::start(&ca.server(&["origin.test"]), script).await;
    let answer = exchange(connect(&ca, origin.addr()).await.unwrap(), REQUEST).await;
    assert_eq!(answer, "HTTP/1.1 299 Odd\r\n\r\nbytes");
    assert!(origin.requests()[0].starts_with("POST /a?b=c HTTP/1.1\r\n"));
}

#[tokio::test]
async fn no_faulty_certificate_is_accepted() {
    for fault in Fault::ALL {
        if fault == Fault::AddressNotNamed {
            continue; // the name is right; it is the address that is missing
        }
        let ca = Ca::new();
        let origin = Origin::start(&ca.faulty(&["origin.test"], fault)).await;
        assert!(connect(&ca, origin.addr()).await.is_err(), "{fault:?}");
    }
}

#[tokio::test]
async fn the_demo_api_knows_its_token_and_ends_on_a_signal() {
    let ca = Ca::new();
    let cert = ca.server(&["origin.test"]);
    let mut api = Api::start(&serde_json::json!({
        "listen": "127.0.0.1:0", "cert_pem": cert.cert_pem, "key_pem": cert.key_pem, "token": "right-token",
    }));
    let ready: serde_json::Value = serde_json::from_str(&api.line()).unwrap();
    let addr = ready["listen"].as_str().unwrap().parse().unwrap();
    for (token, expected) in [("right-token", "200 OK"), ("wrong-token", "401 Unauthorized")] {
        let request = format!(
            "GET /whoami HTTP/1.1\r\nHost: origin.test\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(connect(&ca, addr).await.unwrap(), request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
    }
    let stream = b"GET /stream HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n\r\n";
    let answer = exchange(connect(&ca, addr).await.unwrap(), stream).await;
    assert_eq!(answer.matches("event: tick").count(), 5);
    Command::new("kill").arg(api.0.id().to_string()).status().unwrap();
    eventually(Duration::from_secs(10), || std::future::ready(api.0.try_wait().unwrap().is_some())).await;
    assert!(api.0.wait().unwrap().success());
}

async fn connect(ca: &Ca, to: std::net::SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
    let name = ServerName::try_from("origin.test").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(to).await?).await
}

async fn exchange(mut tls: TlsStream<TcpStream>, request: &[u8]) -> String {
    tls.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

struct Api(Child);

impl Api {
    fn start(setup: &serde_json::Value) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_demo-api"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.as_ref().unwrap(), "{setup}").unwrap();
        Self(child)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
