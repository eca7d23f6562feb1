//! The `websockets` package speaks through the proxy as if it were not there.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::net::SocketAddr;

use scene::{
    Scene, TOKEN, bundle,
    program::{Running, python, ran},
    route,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::pki::Ca;

#[tokio::test]
async fn messages_of_every_kind_pass_both_ways_and_a_close_keeps_its_code() {
    for (redact, asks) in [(true, &["whoami"][..]), (false, &[])] {
        let mut server = Server::start().await;
        let changes = json!({"redact": redact});
        let scene = Scene::start(&bundle(&[route("/ws/", server.addr, &changes)], &server.ca), &[]);
        let url = format!("ws://{}/ws/echo?room=1", scene.addr);
        let said = ran(python("websocket_client.py", &[&[&*url], asks].concat())).await.well().text();
        let mut told: Value = serde_json::from_str(&said).unwrap();
        // Compressed messages could not be redacted.
        let extensions = told["extensions"].take().to_string();
        assert_eq!(extensions.contains("permessage-deflate"), !redact, "{extensions}");
        let mut expected = json!({
            "extensions": null, "subprotocol": "echo", "text": true, "binary": true, "empty": true,
            "megabyte": true, "many": true, "endings": true, "fragmented": "one message in pieces", "pong": true,
            "close": [4001, "done"], "closed": [4002, "told to", true],
        });
        if redact {
            // The upstream has seen the token, and cannot tell it.
            expected["whoami"] = json!(format!("Bearer {}", "*".repeat(TOKEN.len())));
        }
        assert_eq!(told, expected);

        for close in [json!({"closed": 4001, "reason": "done"}), json!({"closed": 4002, "reason": "told to"})]
        {
            let handshake = server.says().await;
            assert_eq!(handshake["path"], "/echo?room=1");
            let values = |name: &str| -> Vec<String> {
                let fields = handshake["fields"].as_array().unwrap().iter();
                fields.filter(|f| f[0] == name).map(|f| f[1].as_str().unwrap().to_owned()).collect()
            };
            assert_eq!(values("authorization"), [format!("Bearer {TOKEN}")]);
            assert_eq!(values("host"), [server.addr.to_string()]);
            assert_eq!(values("sec-websocket-protocol"), ["echo"]);
            assert_eq!(server.says().await, close);
        }
        let lines = scene.requests_logged(2).await;
        assert!(lines.iter().all(|line| line["status"] == 101 && line["verdict"] == "forward"), "{lines:?}");
        assert!(lines[0]["up_bytes"].as_u64() > Some(1 << 20), "{lines:?}");
        assert!(lines[0]["down_bytes"].as_u64() > Some(1 << 20), "{lines:?}");
    }
}

#[tokio::test]
async fn a_handshake_that_the_upstream_refuses_is_its_answer() {
    let server = Server::start().await;
    let wrong = json!({"auth": {"scheme": "token"}});
    let scene = Scene::start(&bundle(&[route("/ws/", server.addr, &wrong)], &server.ca), &[]);
    let ran = ran(python("websocket_client.py", &[&format!("ws://{}/ws/echo", scene.addr)])).await;
    assert!(!ran.status.success() && ran.err.contains("HTTP 401"), "{}", ran.err);
}

/// An echo server that wants the scene's token as a bearer.
struct Server {
    ca: Ca,
    addr: SocketAddr,
    program: Running,
    _files: TempDir,
}

impl Server {
    async fn start() -> Self {
        let (ca, files) = (Ca::new(), TempDir::new().unwrap());
        let cert = ca.server(&["127.0.0.1"]);
        let file = |name: &str, pem: &str| {
            let path = files.path().join(name);
            std::fs::write(&path, pem).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (cert, key) = (file("cert.pem", &cert.cert_pem), file("key.pem", &cert.key_pem));
        let bearer = format!("Bearer {TOKEN}");
        let mut program = Running::start(python("websocket_server.py", &[&cert, &key, &bearer]));
        let port: u16 = program.line().await.parse().unwrap();
        Self { ca, addr: SocketAddr::from(([127, 0, 0, 1], port)), program, _files: files }
    }

    /// What it says next.
    async fn says(&mut self) -> Value {
        serde_json::from_str(&self.program.line().await).unwrap()
    }
}
