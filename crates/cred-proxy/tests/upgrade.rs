//! A WebSocket passes once the upstream has granted it, with the credential and without the token.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use scene::{SOON, Scene, TOKEN, assert_no_token, bundle, get, route};
use serde_json::{Value, json};
use testbed::{
    eventually,
    https::{RawOrigin, Script, Then, acceptor},
    pki::Ca,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

type Tls = tokio_rustls::server::TlsStream<TcpStream>;

const ASK: &str = "GET /a/chat?x=1 HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                   Sec-WebSocket-Key: a2V5\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
const GRANT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: YWNjZXB0\r\n\r\n";

/// An origin that reads a head and goes on by hand; and the proxy before it.
struct Far {
    scene: Scene,
    heads: Arc<Mutex<Vec<String>>>,
}

async fn far<F, Fut>(changes: Value, args: &[&str], by_hand: F) -> Far
where
    F: Fn(Tls) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let ca = Ca::new();
    let acceptor = acceptor(&ca.server(&["127.0.0.1"]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at: SocketAddr = listener.local_addr().unwrap();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let record = heads.clone();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (acceptor, record, by_hand) = (acceptor.clone(), record.clone(), by_hand.clone());
            tokio::spawn(async move {
                let mut tls = acceptor.accept(tcp).await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = tls.read_u8().await else { return };
                    head.push(byte);
                }
                record.lock().unwrap().push(String::from_utf8(head).unwrap());
                by_hand(tls).await;
            });
        }
    });
    Far { scene: Scene::start(&bundle(&[route("/a/", at, &changes)], &ca), args), heads }
}

async fn say(tls: &mut Tls, bytes: impl AsRef<[u8]>) {
    let _ = tls.write_all(bytes.as_ref()).await;
    let _ = tls.flush().await;
}

async fn echo(mut tls: Tls, first: &str) {
    say(&mut tls, first).await;
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = tls.read(&mut buffer).await {
        let piece = buffer[..n].to_ascii_uppercase();
        say(&mut tls, piece).await;
    }
    // The other side is done; this one is not.
    say(&mut tls, "bye").await;
    let _ = tls.shutdown().await;
}

#[tokio::test]
async fn after_the_101_bytes_pass_both_ways_and_each_side_ends_on_its_own() {
    let far = far(json!({}), &[], |tls| async move { echo(tls, &format!("{GRANT}early")).await }).await;
    let mut client = far.scene.client().await;
    client.send(ASK).await;
    let head = client.head().await.unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    for field in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-accept: ywnjzxb0\r\n"] {
        assert_eq!(head.matches(field).count(), 1, "{head}");
    }
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    client.until(b"early").await.unwrap();
    client.send("hello").await;
    assert_eq!(client.until(b"HELLO").await.unwrap(), b"HELLO");
    client.finish().await;
    assert_eq!(client.rest().await, b"bye");
    let asked = far.heads.lock().unwrap().remove(0).to_ascii_lowercase();
    assert!(asked.starts_with("get /chat?x=1 http/1.1\r\n"), "{asked}");
    for field in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-version: 13\r\n"] {
        assert_eq!(asked.matches(field).count(), 1, "{asked}");
    }
    assert!(
        asked.contains(&format!("authorization: bearer {TOKEN}")) && !asked.contains("deflate"),
        "{asked}"
    );
    let line = far.scene.requests_logged(1).await.remove(0);
    assert_eq!((&line["status"], &line["verdict"]), (&json!(101), &json!("forward")));
    assert_eq!((&line["up_bytes"], &line["down_bytes"]), (&json!(5), &json!(13)));
}

#[tokio::test]
async fn a_token_in_the_tunnel_is_stars_and_a_short_message_does_not_wait_for_the_next() {
    let far = far(json!({}), &[], |mut tls| async move {
        say(&mut tls, format!("{GRANT}{TOKEN}|")).await;
        for piece in ["tok-s3", "cret%2F01", "+23|wha", "t"] {
            say(&mut tls, piece).await;
            sleep(Duration::from_millis(100)).await;
        }
        // Waits for the answer to its question.
        let _ = tls.read_u8().await;
        say(&mut tls, "tok-s3cret/01+2").await;
        let _ = tls.shutdown().await;
        let _ = tokio::io::copy(&mut tls, &mut tokio::io::sink()).await;
    })
    .await;
    let mut client = far.scene.client().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    let got = client.until(b"what").await.unwrap();
    assert_eq!(String::from_utf8(got).unwrap(), format!("{}|{}|what", "*".repeat(16), "*".repeat(18)));
    client.send("!").await;
    // Not whole: no token.
    assert_eq!(client.rest().await, b"tok-s3cret/01+2");
    drop(client);
    let line = far.scene.requests_logged(1).await.remove(0);
    assert_eq!(line["redacted_bytes"], json!(34));
}

#[tokio::test]
async fn a_101_that_is_not_what_was_asked_for_is_502() {
    let extension =
        GRANT.replace("Sec-WebSocket-Accept", "Sec-WebSocket-Extensions: permessage-deflate\r\nX");
    for (case, ask, grant) in [
        ("nobody asked", get("/a/x"), GRANT.to_owned()),
        ("another protocol", ASK.to_owned(), GRANT.replace("websocket", "h2c")),
        ("two protocols", ASK.to_owned(), GRANT.replace("websocket", "websocket, h2c")),
        ("no protocol", ASK.to_owned(), GRANT.replace("Upgrade: websocket\r\n", "")),
        ("not nominated", ASK.to_owned(), GRANT.replace("Connection: Upgrade\r\n", "")),
        ("an extension", ASK.to_owned(), extension),
        ("asked with h2c only", ASK.replace("WebSocket\r\nSec", "h2c\r\nSec"), GRANT.to_owned()),
        ("asked by POST", ASK.replace("GET", "POST"), GRANT.to_owned()),
        ("asked without Connection", ASK.replace(", Upgrade", ""), GRANT.to_owned()),
    ] {
        let ca = Ca::new();
        let script = Script { bytes: format!("{grant}evil").into(), then: Then::Stall };
        let origin = RawOrigin::start(&ca.server(&["127.0.0.1"]), script).await;
        let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
        let answer = scene.ask(&ask).await.unwrap();
        assert_eq!((answer.status, answer.field("x-cred-proxy")), (502, Some("upstream_protocol")), "{case}");
        assert!(!answer.all().contains("evil"), "{case}");
        let asked = origin.requests().remove(0).to_ascii_lowercase();
        let upgrade = !matches!(
            case,
            "nobody asked" | "asked with h2c only" | "asked by POST" | "asked without Connection"
        );
        assert_eq!(asked.contains("upgrade"), upgrade, "{case}: {asked}");
    }
}

#[tokio::test]
async fn h2c_is_stripped_and_the_request_answered_as_any_other() {
    let ca = Ca::new();
    let origin = testbed::https::Origin::start(&ca.server(&["127.0.0.1"])).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let ask = "GET /a/x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
               HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let mut client = scene.client().await;
    for _ in 0..2 {
        let answer = client.ask(ask).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    }
    let fields = origin.requests().remove(0).fields;
    for name in ["upgrade", "connection", "http2-settings"] {
        assert!(!fields.contains_key(name), "{fields:?}");
    }
}

#[tokio::test]
async fn extensions_pass_where_nothing_is_redacted() {
    let grant = GRANT.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
    let first = format!("{grant}{TOKEN}");
    let far = far(json!({"redact": false}), &[], move |tls| {
        let first = first.clone();
        async move { echo(tls, &first).await }
    })
    .await;
    let mut client = far.scene.client().await;
    client.send(ASK).await;
    assert!(client.head().await.unwrap().contains("permessage-deflate"));
    client.until(TOKEN.as_bytes()).await.unwrap();
    assert!(far.heads.lock().unwrap()[0].contains("permessage-deflate"));
}

#[tokio::test]
async fn what_the_caller_sends_too_early_waits_for_the_101_and_is_no_request() {
    let smuggled = get("/a/smuggled");
    let far = far(json!({}), &[], |mut tls| async move {
        let early = timeout(Duration::from_millis(300), tls.read_u8()).await;
        say(&mut tls, if early.is_err() { GRANT } else { "too early" }).await;
        let mut all = vec![0; 4096];
        let n = tls.read(&mut all).await.unwrap();
        say(&mut tls, &all[..n]).await;
        let _ = tls.shutdown().await;
    })
    .await;
    let mut client = far.scene.client().await;
    client.send(format!("{ASK}{smuggled}")).await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.rest().await, smuggled.as_bytes());
    assert_eq!(far.heads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn behind_an_upgrade_that_was_not_granted_nothing_is_read() {
    let ca = Ca::new();
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let script = Script { bytes: refused.into(), then: Then::Again };
    let origin = RawOrigin::start(&ca.server(&["127.0.0.1"]), script).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let upgrade = "Upgrade: websocket\r\n";
    for (asked, status) in [
        (ASK.to_owned(), 403),
        (ASK.replace("/a/", "/b/"), 404),
        (ASK.replace(upgrade, &upgrade.repeat(2)), 403),
        (ASK.replace(upgrade, &format!("{upgrade}Upgrade: h2c\r\n")), 403),
        (ASK.replace("GET", "POST"), 403),
        (get("/a/x").replace("\r\n\r\n", &format!("\r\n{upgrade}\r\n")), 403),
    ] {
        let before = origin.requests().len();
        let mut client = scene.client().await;
        client.send(format!("{asked}{}", get("/a/smuggled"))).await;
        assert_eq!(client.answer().await.unwrap().status, status, "{asked}");
        assert_eq!(client.rest().await, b"", "{asked}");
        assert_eq!(origin.requests().len() - before, usize::from(status == 403), "{asked}");
    }
    // The next connection is as good as any.
    assert_eq!(scene.get("/a/x").await.status, 403);
}

#[tokio::test]
async fn a_caller_that_is_gone_takes_the_upstream_with_it() {
    let (gone, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let far = far(json!({}), &[], move |mut tls| {
        let gone = gone.clone();
        async move {
            say(&mut tls, GRANT).await;
            let _ = tokio::io::copy(&mut tls, &mut tokio::io::sink()).await;
            gone.send(Instant::now()).unwrap();
        }
    })
    .await;
    let mut client = far.scene.client().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    let dropped = Instant::now();
    drop(client);
    let seen = timeout(SOON, seen.recv()).await.unwrap().unwrap();
    assert!(seen - dropped < Duration::from_secs(1), "{:?}", seen - dropped);
    let line = far.scene.requests_logged(1).await.remove(0);
    assert_eq!((&line["status"], &line["side"]), (&json!(101), &json!("downstream")));
}

#[tokio::test]
async fn an_upstream_that_breaks_ends_the_tunnel() {
    let far = far(json!({}), &[], |mut tls| async move {
        say(&mut tls, format!("{GRANT}tok-s3cret/01+2")).await;
        // Without close_notify: cut.
        drop(tls);
    })
    .await;
    let mut client = far.scene.client().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    assert_no_token(&String::from_utf8(client.rest().await).unwrap());
    let line = far.scene.requests_logged(1).await.remove(0);
    assert_eq!((&line["side"], &line["end"]), (&json!("upstream"), &json!("cut")));
}

#[tokio::test]
async fn a_caller_that_does_not_read_stops_the_upstream() {
    let sent = Arc::new(AtomicU64::new(0));
    let count = sent.clone();
    let far = far(json!({}), &[], move |mut tls| {
        let count = count.clone();
        async move {
            say(&mut tls, GRANT).await;
            let piece = vec![b'x'; 64 * 1024];
            while tls.write_all(&piece).await.is_ok() {
                count.fetch_add(piece.len() as u64, Relaxed);
            }
        }
    })
    .await;
    let mut client = far.scene.client().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    let before = Mutex::new(0);
    eventually(SOON, || async {
        sleep(Duration::from_millis(300)).await;
        let now = sent.load(Relaxed);
        std::mem::replace(&mut *before.lock().unwrap(), now) == now
    })
    .await;
    // What the kernels hold, and little of ours.
    assert!(sent.load(Relaxed) < 32 << 20, "{}", sent.load(Relaxed));
}

#[tokio::test]
async fn the_end_of_the_proxy_cuts_a_tunnel_at_the_deadline_and_tells_it() {
    let mut far = far(json!({}), &["--drain-timeout", "1s"], |tls| echo(tls, GRANT)).await;
    let mut client = far.scene.client().await;
    client.send(ASK).await;
    client.head().await.unwrap();
    far.scene.signal("TERM");
    eventually(SOON, || async { far.scene.log().contains("\"event\":\"drain\"") }).await;
    client.send("still here").await;
    client.until(b"STILL HERE").await.unwrap();
    let draining = Instant::now();
    assert!(far.scene.exit().await.success());
    assert!(draining.elapsed() < Duration::from_secs(3), "{:?}", draining.elapsed());
    let line = far.scene.requests_logged(1).await.remove(0);
    assert_eq!(
        (&line["side"], &line["end"], &line["up_bytes"]),
        (&json!("proxy"), &json!("cut"), &json!(10))
    );
}

#[tokio::test]
async fn a_connection_that_was_a_tunnel_is_not_used_again() {
    let far = far(json!({}), &[], |tls| echo(tls, GRANT)).await;
    for n in 1..=3 {
        let mut client = far.scene.client().await;
        client.send(ASK).await;
        client.head().await.unwrap();
        client.finish().await;
        assert_eq!(client.rest().await, b"bye");
        assert_eq!(far.heads.lock().unwrap().len(), n);
    }
}
