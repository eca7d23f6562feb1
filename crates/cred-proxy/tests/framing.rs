//! Where a request ends cannot be read in two ways: not by us, and not by the upstream.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::time::Duration;

use scene::{SOON, Scene, assert_no_token, bundle, echo, get, post, route};
use serde_json::json;
use testbed::{eventually, pki::Ca};

/// What happens to a request.
enum Then {
    /// Refused with this status and closed; the upstream heard nothing, or nothing whole.
    Refused(u16),
    /// Answered with what was uploaded, of this length.
    Echoed(u64),
    /// Closed without an answer, or with a 400 or 505.
    Closed,
}
use Then::{Closed, Echoed, Refused};

const H: &str = "POST /a/x HTTP/1.1\r\nHost: localhost\r\n";

#[rustfmt::skip]
fn cases() -> Vec<(&'static str, String, Then)> {
    let with = |rest: &str| format!("{H}{rest}");
    vec![
        ("both, chunked last", with("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("both, length last", with("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("a length behind a tab", with("Content-Length:\t5\r\n\r\nhello"), Refused(400)),
        ("chunks to GET", with("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").replace("POST", "GET"), Echoed(5)),
        ("a bad chunk to GET", with("Transfer-Encoding: chunked\r\n\r\n5\r\r;hello\r\n0\r\n\r\n").replace("POST", "GET"), Refused(400)),
        ("chunk size and a space", with("Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("an empty chunk extension", with("Transfer-Encoding: chunked\r\n\r\n5;\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("a control character in a chunk extension", with("Transfer-Encoding: chunked\r\n\r\n5;a\x01\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("the last chunk ended by LF", with("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\n"), Refused(400)),
        ("a fragment", get("/a/x#y"), Refused(400)),
        ("raw bytes in the target", get("/a/caf\u{e9}"), Refused(400)),
        ("a list of lengths", with("Content-Length: 5, 5\r\n\r\nhello"), Refused(400)),
        ("two lengths", with("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), Refused(400)),
        ("a length with a sign", with("Content-Length: +5\r\n\r\nhello"), Refused(400)),
        ("a negative length", with("Content-Length: -5\r\n\r\nhello"), Refused(400)),
        ("a length in hex", with("Content-Length: 0x5\r\n\r\nhello"), Refused(400)),
        ("an empty length", with("Content-Length: \r\n\r\nhello"), Refused(400)),
        ("a length of 20 digits", with("Content-Length: 99999999999999999999\r\n\r\nhello"), Refused(400)),
        ("the largest length of all", with("Content-Length: 18446744073709551615\r\n\r\nhello"), Refused(400)),
        ("a length with zeros", with("Content-Length: 005\r\n\r\nhello"), Echoed(5)),
        ("the same length twice", with("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), Echoed(5)),
        ("gzip, chunked", with("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), Refused(400)),
        ("chunked, chunked", with("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"), Refused(400)),
        ("two lines chunked", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Refused(400)),
        ("identity", with("Transfer-Encoding: identity\r\n\r\n"), Refused(400)),
        ("xchunked", with("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), Refused(400)),
        ("chunked;x", with("Transfer-Encoding: chunked;x=y\r\n\r\n0\r\n\r\n"), Refused(400)),
        ("CHUNKED", with("Transfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), Echoed(5)),
        ("chunked in 1.0", with("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n").replace("/1.1", "/1.0"), Refused(400)),
        ("obs-fold", with("X-A: b\r\n c\r\n\r\n"), Refused(400)),
        ("space before the colon", with("X-A : b\r\n\r\n"), Refused(400)),
        ("NUL in a value", with("X-A: b\0c\r\n\r\n"), Refused(400)),
        ("a control character in a value", with("X-A: b\x01c\r\n\r\n"), Refused(400)),
        ("bare CR in a value", with("X-A: b\rc\r\n\r\n"), Refused(400)),
        ("a name that is no token", with("X(A): b\r\n\r\n"), Refused(400)),
        ("no colon", with("X-A b\r\n\r\n"), Refused(400)),
        ("no name", with(": b\r\n\r\n"), Refused(400)),
        ("bare LF", "POST /a/x HTTP/1.1\nHost: localhost\nContent-Length: 5\n\nhello".into(), Echoed(5)),
        ("chunk size with a sign", with("Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("chunk size with 0x", with("Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("chunk size with _", with("Transfer-Encoding: chunked\r\n\r\n0_5\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("chunk size overflow", with("Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("chunk size below zero", with("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("chunk without CRLF", with("Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n"), Refused(400)),
        ("chunk that spills", with("Transfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n"), Refused(400)),
        ("chunk extensions", with("Transfer-Encoding: chunked\r\n\r\n5;a=b;c\r\nhello\r\n0;d\r\n\r\n"), Echoed(5)),
        ("trailers", with("Transfer-Encoding: chunked\r\nTrailer: authorization\r\n\r\n5\r\nhello\r\n0\r\nAuthorization: mine\r\n\r\n"), Echoed(5)),
        ("HTTP/1.0", get("/a/x").replace("/1.1", "/1.0"), Refused(505)),
        ("HTTP/1.0 that would be kept", get("/a/x").replace("/1.1", "/1.0").replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n"), Refused(505)),
        ("HTTP/1.2", get("/a/x").replace("/1.1", "/1.2"), Closed),
        ("HTTP/2.0", get("/a/x").replace("/1.1", "/2.0"), Closed),
        ("HTTP/0.9", "GET /a/x\r\n\r\n".into(), Closed),
        ("h2c preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Closed),
        ("TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".into(), Closed),
        ("an unknown expectation", with("Expect: 200-ok\r\nContent-Length: 5\r\n\r\nhello"), Refused(417)),
        ("a target over 8 KiB", get(&format!("/a/{}", "x".repeat(8190))), Refused(414)),
        ("a long target", get(&format!("/a/{}", "x".repeat(8180))), Echoed(0)),
        ("101 fields", format!("GET /a/x HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(100)), Refused(431)),
        // Dropped on the way, so that the origin has no limit to refuse by.
        ("100 fields", format!("GET /a/x HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Forwarded-A: b\r\n".repeat(99)), Echoed(0)),
        ("a head over 64 KiB", format!("GET /a/x HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "b".repeat(66_000)), Refused(431)),
        ("a method over 64 KiB", format!("{} /a/x HTTP/1.1\r\nHost: localhost\r\n\r\n", "G".repeat(66_000)), Refused(400)),
        ("a head of 60 KiB", format!("GET /a/x HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "b".repeat(60_000)), Echoed(0)),
        ("a length over the limit", with("Content-Length: 100001\r\n\r\n"), Refused(413)),
        ("chunks over the limit", with(&format!("Transfer-Encoding: chunked\r\n\r\n186a1\r\n{}\r\n0\r\n\r\n", "x".repeat(100_001))), Refused(413)),
        ("content at the limit", post("/a/x", &"x".repeat(100_000)), Echoed(100_000)),
    ]
}

#[tokio::test]
async fn every_case_is_refused_or_sent_on_in_one_meaning_only() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene =
        Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &["--max-body", "100000"]);
    // Whole, and cut between any two bytes where that does not take too long.
    let whole = cases().into_iter().map(|case| (case, usize::MAX));
    let cut = cases().into_iter().filter(|(_, request, _)| request.len() < 500).map(|case| (case, 1));
    for ((case, request, then), length) in whole.chain(cut) {
        let case = format!("{case}, in pieces of {length}");
        origin.take();
        let mut client = scene.client().await;
        for piece in request.as_bytes().chunks(length) {
            client.send(piece).await;
        }
        let answer = client.answer().await;
        if let Ok(answer) = &answer {
            assert_no_token(&answer.all());
        }
        let status = answer.as_ref().ok().map(|answer| answer.status);
        let body = answer.as_ref().map_or(0, |answer| answer.body.len() as u64);
        let closes = match then {
            Refused(expected) => {
                assert_eq!(status, Some(expected), "{case}");
                let connection: Vec<_> =
                    answer.iter().flat_map(|answer| answer.fields("connection")).collect();
                assert_eq!(connection, ["close"], "{case}");
                let word = answer.iter().find_map(|answer| answer.field("x-cred-proxy"));
                assert_eq!(word == Some("head_too_large"), expected == 431, "{case}: {word:?}");
                true
            }
            Echoed(bytes) => {
                assert_eq!((status, body), (Some(200), bytes), "{case}");
                false
            }
            Closed => {
                assert!(matches!(status, None | Some(400 | 505)), "{case}: {status:?}");
                true
            }
        };
        if closes {
            assert!(client.closes(SOON).await, "{case}: still open");
        }
        let recorded = origin.take();
        match then {
            Refused(_) | Closed => assert!(recorded.iter().all(|r| !r.body_complete), "{case}: {recorded:?}"),
            Echoed(bytes) => {
                assert_eq!(recorded.len(), 1, "{case}");
                assert!(recorded[0].body_complete && recorded[0].body_bytes == bytes, "{case}");
                assert_eq!(recorded[0].fields.get_all("authorization").iter().count(), 1, "{case}");
                let both = ["content-length", "transfer-encoding"]
                    .iter()
                    .all(|n| recorded[0].fields.contains_key(*n));
                assert!(!both && !recorded[0].fields.contains_key("trailer"), "{case}");
                if let Some(length) = recorded[0].fields.get("content-length") {
                    assert_eq!(length, bytes.to_string().as_str(), "{case}");
                }
            }
        }
        assert_eq!(scene.get("/a/clean").await.status, 200, "after {case}");
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_never_completed_upstream() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene = Scene::start(
        &bundle(&[route("/a/", origin.addr(), &json!({}))], &ca),
        &["--request-body-timeout", "300ms"],
    );
    let chunked = format!("{H}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let sized = format!("{H}Content-Length: 10\r\n\r\nhello");
    for (how, request) in [
        ("FIN", &chunked),
        ("FIN", &sized),
        ("RST", &chunked),
        ("RST", &sized),
        ("stall", &chunked),
        ("stall", &sized),
    ] {
        origin.take();
        let mut client = scene.client().await;
        client.send(request).await;
        eventually(SOON, || async { origin.requests().last().is_some_and(|r| r.body_bytes == 5) }).await;
        match how {
            "FIN" => client.finish().await,
            "RST" => testbed::tcp::reset(client.into_stream()),
            _ => {
                let answer = client.answer().await.unwrap();
                assert_eq!((answer.status, answer.field("x-cred-proxy")), (408, Some("body_timeout")));
                assert!(client.closes(SOON).await);
            }
        }
        assert_eq!(scene.get("/a/clean").await.status, 200);
        let recorded = origin.take();
        assert!(
            recorded.iter().filter(|r| r.method == "POST").all(|r| !r.body_complete),
            "{how}: {recorded:?}"
        );
    }
}

#[tokio::test]
async fn one_100_continue_is_sent_when_the_content_is_wanted() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    client.send(format!("{H}Expect: 100-Continue\r\nContent-Length: 5\r\n\r\n")).await;
    assert!(client.head().await.unwrap().starts_with("HTTP/1.1 100 "));
    client.send("hello").await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert!(!origin.take()[0].fields.contains_key("expect"));
    // A refusal asks for no content.
    let answer = scene
        .ask(format!("{H}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n").replace("/a/", "/b/"))
        .await
        .unwrap();
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_garbage_behind_them_is_400() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    client
        .send(format!("{}{}{}garbage\r\n\r\n", post("/a/1", "one"), get("/b"), post("/a/2", "three")))
        .await;
    let mut answers = Vec::new();
    for _ in 0..4 {
        let answer = client.answer().await.unwrap();
        answers.push((answer.status, answer.body.len()));
    }
    let lengths: Vec<_> =
        answers.iter().map(|(status, length)| (*status, if *status == 200 { *length } else { 0 })).collect();
    assert_eq!(lengths, [(200, 3), (404, 0), (200, 5), (400, 0)]);
    assert!(client.closes(SOON).await);
    // What is refused at the head of a connection is refused behind others, too.
    origin.take();
    let both = format!("{H}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let chunked = format!("{H}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n");
    for behind in [post("/a/1", "one"), chunked] {
        let mut client = scene.client().await;
        client.send(format!("{behind}{both}")).await;
        assert_eq!(client.answer().await.unwrap().status, 200);
        assert_eq!(client.answer().await.unwrap().status, 400);
        assert!(client.closes(SOON).await);
        assert_eq!(origin.take().len(), 1);
    }
    // A head too large, and what would be another behind it.
    for field in ["A: b\r\n".repeat(100), format!("A: {}\r\n", "b".repeat(66_000))] {
        for rest in ["\r\n", "Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]
        {
            let mut client = scene.client().await;
            client.send(format!("{}{H}{field}{rest}{}", post("/a/1", "one"), get("/a/smuggled"))).await;
            assert_eq!(client.answer().await.unwrap().status, 200);
            let answer = client.answer().await.unwrap();
            assert_eq!((answer.status, answer.field("x-cred-proxy")), (431, Some("head_too_large")));
            assert!(client.closes(SOON).await);
            assert_eq!(origin.take().len(), 1);
        }
    }
}

#[tokio::test]
async fn fields_that_the_library_drops_do_not_make_room_for_more() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let length = "Content-Length: 5\r\n";
    for (lengths, others) in [(1, 98), (2, 97), (99, 0), (1, 99), (2, 98), (60, 60), (99, 1), (100, 0)] {
        // Dropped on the way, so that the origin has no limit to refuse by.
        let fields = format!("{}{}", length.repeat(lengths), "X-Forwarded-A: b\r\n".repeat(others));
        let answer = scene.ask(format!("{H}{fields}\r\nhello")).await.unwrap();
        let fits = lengths + others < 100;
        assert_eq!(answer.status, if fits { 200 } else { 431 }, "{lengths} {others}");
        assert_eq!(origin.take().len(), usize::from(fits), "{lengths} {others}");
    }
}

#[tokio::test]
async fn a_slow_head_is_cut_and_a_silent_connection_waits_longer() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene = Scene::start(
        &bundle(&[route("/a/", origin.addr(), &json!({}))], &ca),
        &["--header-timeout", "200ms", "--keep-alive-timeout", "2s"],
    );
    let mut slow = scene.client().await;
    let mut silent = scene.client().await;
    slow.send("GET /a/x HTTP/1.1\r\n").await;
    assert_eq!(silent.ask(get("/a/x")).await.unwrap().status, 200);
    assert!(slow.closes(Duration::from_millis(1500)).await);
    assert!(!silent.closes(Duration::from_millis(300)).await);
    assert!(silent.closes(SOON).await);
}

#[tokio::test]
async fn whatever_the_bytes_the_origin_hears_whole_requests_with_one_credential() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let seeds = [
        post("/a/x?y=z", "hello"),
        format!("{H}Transfer-Encoding: chunked\r\nX-Api-Key: mine\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
        format!("{}{}", get("/a/1"), get("/a/2")),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..600 {
        let mut bytes = seeds[round % seeds.len()].clone().into_bytes();
        for _ in 0..=random.below(2) {
            let at = random.below(bytes.len());
            match random.below(4) {
                0 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"\r\n\t :;,/\\%.\0"[random.below(12)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let mut client = scene.client().await;
        client.send(&bytes).await;
        // A FIN at once would call most requests back.
        let _ = tokio::time::timeout(Duration::from_millis(30), client.answer()).await;
        client.finish().await;
        let answers = client.rest().await;
        assert_no_token(&String::from_utf8_lossy(&answers));
    }
    assert_eq!(scene.get("/a/clean").await.status, 200);
    let recorded = origin.take();
    assert!(recorded.len() > 50, "{}", recorded.len());
    for recorded in recorded {
        assert_eq!(recorded.fields.get_all("authorization").iter().count(), 1, "{recorded:?}");
        assert_eq!(recorded.fields["host"], origin.addr().to_string().as_str());
        assert!(!recorded.fields.contains_key("x-api-key"), "{recorded:?}");
    }
    assert!(!scene.log().contains("panicked"), "{}", scene.log());
}

#[tokio::test]
async fn an_upgrade_that_is_asked_for_again_and_again_is_an_ordinary_request() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    for _ in 0..3 {
        let upgrade = "Upgrade: h2c\r\nConnection: upgrade\r\n\r\n";
        let answer = client.ask(get("/a/x").replace("\r\n\r\n", &format!("\r\n{upgrade}"))).await.unwrap();
        assert_eq!(answer.status, 200);
    }
    assert_eq!(client.ask(post("/a/x", "hello")).await.unwrap().text(), "hello");
    for recorded in origin.take() {
        assert!(!recorded.fields.contains_key("upgrade") && !recorded.fields.contains_key("connection"));
    }
    // What follows is looked at like anything else.
    assert_eq!(client.ask(get("/a/x#y")).await.unwrap().status, 400);
    assert!(client.closes(SOON).await);
    assert!(origin.take().is_empty());
    // A CONNECT is refused, and nothing behind it is a tunnel or a request.
    let mut client = scene.client().await;
    client.send(format!("CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n{}", get("/a/x"))).await;
    assert_eq!(client.answer().await.unwrap().status, 405);
    assert!(client.closes(SOON).await);
    assert!(origin.take().is_empty());
}

/// Random enough, and the same every time (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}
