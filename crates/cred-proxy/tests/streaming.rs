//! Content flows as it comes, both ways, and ends for one side when it ends for the other.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use scene::{SOON, Scene, bundle, get, route};
use serde_json::json;
use testbed::{
    eventually,
    https::{Content, Origin, RawOrigin, Script, Then, channel, full, text},
    pki::Ca,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

#[tokio::test]
async fn the_first_event_arrives_before_the_last_is_known() {
    let ca = Ca::new();
    let (bodies, mut body) = mpsc::unbounded_channel();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), move |_| {
        let (send, content) = channel();
        bodies.send(send).unwrap();
        async { Response::builder().header("content-type", "text/event-stream").body(content).unwrap() }
    })
    .await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    client.send(get("/a/x")).await;
    let events = tokio::time::timeout(SOON, body.recv()).await.unwrap().unwrap();
    let head = client.head().await.unwrap();
    assert!(head.contains("text/event-stream"));
    for n in 0..20 {
        let event = format!("data: {n}\n\n");
        let sent = Instant::now();
        events.send(Ok(Bytes::from(event.clone()))).await.unwrap();
        client.until(event.as_bytes()).await.unwrap();
        assert!(sent.elapsed() < Duration::from_secs(1));
    }
    // The caller goes away: so does the upstream's connection.
    drop(client);
    let gone = Instant::now();
    tokio::time::timeout(SOON, events.closed()).await.unwrap();
    assert!(gone.elapsed() < Duration::from_secs(1), "{:?}", gone.elapsed());
    let line = scene.requests_logged(1).await.remove(0);
    assert_eq!((&line["side"], &line["status"]), (&json!("downstream"), &json!(200)));
}

#[tokio::test]
async fn a_caller_that_goes_away_before_the_answer_lets_the_upstream_go() {
    let ca = Ca::new();
    let asked = Arc::new(());
    let hold = asked.clone();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), move |_| {
        let held = hold.clone();
        async move {
            std::future::pending::<()>().await;
            drop(held);
            text(http::StatusCode::OK, "")
        }
    })
    .await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let plain = get("/a/x");
    let upgrade =
        |to| plain.replace("\r\n\r\n", &format!("\r\nConnection: upgrade\r\nUpgrade: {to}\r\n\r\n"));
    // A byte of what comes next in the proxy's own buffer must not hide that the caller has left.
    let requests = [
        plain.clone(),
        format!("{plain}GET /a/y HT"),
        format!("{}GET /a/y HT", upgrade("h2c")),
        format!("{}\u{1}\u{2}", upgrade("websocket")),
    ];
    for (half_close, request) in
        [false, true].into_iter().flat_map(|half| requests.iter().map(move |r| (half, r)))
    {
        let (before, idle) = (origin.requests().len(), Arc::strong_count(&asked));
        let mut client = scene.client().await;
        client.send(request).await;
        eventually(SOON, || async { origin.requests().len() > before }).await;
        if half_close {
            client.finish().await;
            assert!(client.closes(Duration::from_secs(2)).await);
        } else {
            drop(client);
        }
        // The service's future holds one until its connection is gone.
        eventually(Duration::from_secs(1), || async { Arc::strong_count(&asked) <= idle }).await;
    }
    let lines = scene.requests_logged(8).await;
    assert!(lines.iter().all(|line| line["side"] == "downstream" && line["end"] == "cut"), "{lines:?}");
}

#[tokio::test]
async fn content_is_sent_up_as_it_comes_and_much_of_it_passes_both_ways() {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |request: http::Request<Content>| async {
        let content = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(full(content))
    })
    .await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    client
        .send("POST /a/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    eventually(SOON, || async { origin.requests().first().is_some_and(|r| r.body_bytes == 5) }).await;
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().text(), "hello");

    let content = testbed::tcp::pattern(20_000_000);
    let head = format!("PUT /a/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", content.len());
    client.send(&head).await;
    client.send(&content).await;
    let answer = client.answer().await.unwrap();
    assert!(answer.complete && answer.body == content);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_answer_that_comes_early_is_relayed_and_the_upload_stopped() {
    let ca = Ca::new();
    let answer = "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig";
    let script = Script { bytes: answer.into(), then: Then::Stall };
    let origin = RawOrigin::start(&ca.server(&["127.0.0.1"]), script).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    client.send("POST /a/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nhello").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (413, "big"));
    assert_eq!(answer.field("connection"), Some("close"));
    assert!(client.closes(SOON).await);
}

#[tokio::test]
async fn an_early_answer_is_found_by_a_caller_that_has_sent_megabytes_before_it_looks() {
    let ca = Ca::new();
    let answer = "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig";
    let script = Script { bytes: answer.into(), then: Then::Stall };
    let origin = RawOrigin::start(&ca.server(&["127.0.0.1"]), script).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    client.send("POST /a/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n").await;
    scene.requests_logged(1).await;
    let mut stream = client.into_stream();
    // curl gives up when it cannot send, without a look at what has come.
    tokio::time::timeout(SOON, stream.write_all(&[7; 10_000_000])).await.unwrap().unwrap();
    let mut answer = String::new();
    let _ = tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("\r\n\r\nbig"), "{answer}");
}

#[tokio::test]
async fn behind_an_early_error_nothing_more_is_sent_up() {
    let ca = Ca::new();
    let (bodies, mut body) = mpsc::unbounded_channel();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), move |request: http::Request<Content>| {
        let (send, content) = channel();
        bodies.send(send).unwrap();
        tokio::spawn(request.into_body().collect());
        async { Response::builder().status(409).body(content).unwrap() }
    })
    .await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    client
        .send("POST /a/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    let pieces = tokio::time::timeout(SOON, body.recv()).await.unwrap().unwrap();
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 409 "));
    eventually(SOON, || async { origin.requests()[0].body_bytes == 5 }).await;
    client.send("5\r\nworld\r\n").await;
    for piece in ["one", "two", "six"] {
        pieces.send(Ok(Bytes::from(piece))).await.unwrap();
        client.until(piece.as_bytes()).await.unwrap();
    }
    drop(pieces);
    client.until(b"0\r\n\r\n").await.unwrap();
    assert!(client.closes(SOON).await);
    let recorded = origin.take().remove(0);
    assert_eq!((recorded.body_bytes, recorded.body_complete), (5, false));
}

#[tokio::test]
async fn an_answer_may_begin_while_its_request_is_still_coming() {
    let ca = Ca::new();
    // Every piece of the request is sent back at once.
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |request: http::Request<Content>| async {
        let (send, content) = channel();
        tokio::spawn(async move {
            let mut incoming = request.into_body();
            while let Some(Ok(frame)) = incoming.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                if send.send(Ok(data)).await.is_err() {
                    return;
                }
            }
        });
        Response::new(content)
    })
    .await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    client.send("POST /a/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 200 OK"));
    for piece in ["one", "two", "six"] {
        client.send(format!("3\r\n{piece}\r\n")).await;
        client.until(piece.as_bytes()).await.unwrap();
    }
    client.send("0\r\n\r\n").await;
    client.until(b"0\r\n\r\n").await.unwrap();
    assert_eq!(client.ask(get("/a/y")).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_caller_that_stops_reading_is_given_up_and_holds_no_memory() {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |_| async {
        let (send, content) = channel();
        tokio::spawn(async move {
            let block = Bytes::from(vec![7; 1 << 16]);
            while send.send(Ok(block.clone())).await.is_ok() {}
        });
        Response::new(content)
    })
    .await;
    let scene =
        Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &["--write-timeout", "1s"]);
    let mut client = scene.client().await;
    client.send(get("/a/x")).await;
    client.head().await.unwrap();
    let line = scene.requests_logged(1).await.remove(0);
    assert_eq!((&line["side"], &line["end"]), (&json!("downstream"), &json!("cut")));
    assert!(resident_kib(scene.pid()) < 64 * 1024, "{} KiB", resident_kib(scene.pid()));
    let mut rest = Vec::new();
    let read = tokio::time::timeout(SOON, client.into_stream().read_to_end(&mut rest)).await;
    assert!(read.is_ok() && !rest.ends_with(b"0\r\n\r\n"), "no clean end");
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_at_once_each_get_their_own_answer() {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |request: http::Request<Content>| async {
        let target = request.uri().to_string();
        let content =
            request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        Response::new(full(format!("{target} {}", content.len())))
    })
    .await;
    let scene = Arc::new(Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64_usize {
        let scene = scene.clone();
        callers.spawn(async move {
            let mut client = scene.client().await;
            for n in 0..50_usize {
                let length = (caller * 37 + n * 1013) % 20_000;
                let answer =
                    client.ask(scene::post(&format!("/a/{caller}/{n}"), &"x".repeat(length))).await.unwrap();
                assert_eq!((answer.status, answer.text()), (200, format!("/{caller}/{n} {length}")));
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    assert_eq!(origin.requests().len(), 64 * 50);
    assert!(origin.connections() <= 64, "{}", origin.connections());
}

#[tokio::test]
async fn an_answer_that_stops_coming_is_cut_where_a_timeout_says_so() {
    let ca = Ca::new();
    let bytes = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let origin =
        RawOrigin::start(&ca.server(&["127.0.0.1"]), Script { bytes: bytes.into(), then: Then::Stall }).await;
    let bundle = bundle(&[route("/a/", origin.addr(), &json!({}))], &ca);
    let scene = Scene::start(&bundle, &["--response-body-timeout", "300ms"]);
    let answer = scene.get("/a/x").await;
    assert_eq!((answer.status, answer.text().as_str(), answer.complete), (200, "hello", false));
    let line = scene.requests_logged(1).await.remove(0);
    assert_eq!((&line["side"], &line["end"]), (&json!("upstream"), &json!("cut")));
}

#[tokio::test]
async fn an_upstream_that_stops_reading_is_504() {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |request| async move {
        std::future::pending::<()>().await;
        drop(request);
        text(http::StatusCode::OK, "")
    })
    .await;
    let bundle = bundle(&[route("/a/", origin.addr(), &json!({}))], &ca);
    let scene = Scene::start(&bundle, &["--write-timeout", "500ms"]);
    let (mut answer, mut upload) = scene.client().await.into_stream().into_split();
    let uploading = tokio::spawn(async move {
        let head = b"PUT /a/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n";
        let _ = upload.write_all(head).await;
        let _ = upload.write_all(&vec![7; 100_000_000]).await;
    });
    let mut head = [0; 12];
    tokio::time::timeout(SOON, answer.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(&head, b"HTTP/1.1 504");
    tokio::time::timeout(SOON, uploading).await.unwrap().unwrap();
    assert_eq!(scene.requests_logged(1).await[0]["reason"], "upstream_timeout");
}
