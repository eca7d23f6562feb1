//! Answers are built anew, and one that was cut never looks whole.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::time::Duration;

use scene::{SOON, Scene, bundle, get, route};
use serde_json::json;
use testbed::{
    https::{RawOrigin, Script, Then},
    pki::Ca,
    raw::Answer,
};

const OK: &str = "HTTP/1.1 200 OK\r\n";

async fn answered(
    bytes: &str,
    then: Then,
    changes: serde_json::Value,
    request: &str,
) -> (std::io::Result<Answer>, RawOrigin) {
    let ca = Ca::new();
    let script = Script { bytes: bytes.into(), then };
    let origin = RawOrigin::start(&ca.server(&["127.0.0.1"]), script).await;
    let scene =
        Scene::start(&bundle(&[route("/a/", origin.addr(), &changes)], &ca), &["--response-timeout", "2s"]);
    let answer = scene.ask(request).await;
    (answer, origin)
}

#[tokio::test]
async fn what_two_parsers_could_read_differently_is_502() {
    for (case, head) in [
        ("two lengths", format!("{OK}Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc")),
        ("a list of lengths", format!("{OK}Content-Length: 2, 2\r\n\r\nab")),
        ("a length with a sign", format!("{OK}Content-Length: +2\r\n\r\nab")),
        ("a length that is no number", format!("{OK}Content-Length: x\r\n\r\nab")),
        ("a length of 20 digits", format!("{OK}Content-Length: 99999999999999999999\r\n\r\nab")),
        ("both", format!("{OK}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")),
        ("gzip, chunked", format!("{OK}Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n")),
        (
            "chunked twice",
            format!(
                "{OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
            ),
        ),
        ("an unknown coding", format!("{OK}Transfer-Encoding: zork\r\n\r\nab")),
        (
            "an unsolicited 101",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nx".into(),
        ),
        ("407", "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n".into()),
        ("no HTTP", "SSH-2.0-x\r\n\r\n".into()),
        ("nothing", String::new()),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-".into()),
        ("a content coding", format!("{OK}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab")),
        (
            "a part",
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nab"
                .into(),
        ),
        (
            "too many interim answers before the final one",
            format!("{}{OK}Content-Length: 2\r\n\r\nab", "HTTP/1.1 102 Processing\r\n\r\n".repeat(1001)),
        ),
        ("interim answers for ever", "HTTP/1.1 102 Processing\r\n\r\n".repeat(5000)),
    ] {
        // Without an end to wait for, interim answers are given up when they are too many.
        let then = if case == "interim answers for ever" { Then::Stall } else { Then::Close };
        let (answer, origin) = answered(&head, then, json!({}), &get("/a/x")).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.field("x-cred-proxy")), (502, Some("upstream_protocol")), "{case}");
        assert_eq!(origin.requests().len(), 1, "{case}: never asked twice");
        if case == "a content coding" {
            assert!(answer.text().contains("\\\"redact\\\": false"), "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_cut_answer_is_cut_for_the_caller_too() {
    for (case, bytes, then) in [
        ("a short length", format!("{OK}Content-Length: 10\r\n\r\nhello"), Then::Close),
        ("a short length without close_notify", format!("{OK}Content-Length: 10\r\n\r\nhello"), Then::Cut),
        ("a short length and a RST", format!("{OK}Content-Length: 10\r\n\r\nhello"), Then::Reset),
        ("the end within a chunk", format!("{OK}Transfer-Encoding: chunked\r\n\r\na\r\nhello"), Then::Close),
        (
            "the end between chunks",
            format!("{OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
            Then::Close,
        ),
        (
            "a chunk size that is none",
            format!("{OK}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
            Then::Stall,
        ),
        ("no length and no close_notify", format!("{OK}\r\nhello"), Then::Cut),
        ("no length and a RST", format!("{OK}\r\nhello"), Then::Reset),
    ] {
        let (answer, _origin) = answered(&bytes, then, json!({}), &get("/a/x")).await;
        // What came is relayed, and then nothing: no end, clean or not.
        let answer = answer.unwrap();
        assert!(answer.field("content-length").is_some() || answer.field("transfer-encoding").is_some());
        assert_eq!((answer.status, answer.complete), (200, false), "{case}: {answer:?}");
        assert_eq!(answer.text(), "hello", "{case}");
    }
}

#[tokio::test]
async fn answers_are_built_anew() {
    let redact_off = json!({"redact": false});
    for (case, bytes, changes, method, expected, body) in [
        (
            "a reason phrase",
            "HTTP/1.1 200 tok-s3cret/01+23\r\nContent-Length: 2\r\n\r\nab",
            json!({}),
            "GET",
            "200 OK",
            "ab",
        ),
        (
            "an unknown status",
            "HTTP/1.1 299 tok-s3cret/01+23\r\nContent-Length: 2\r\n\r\nab",
            json!({}),
            "GET",
            "299 ",
            "ab",
        ),
        (
            "interim answers",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            json!({}),
            "GET",
            "200 OK",
            "ab",
        ),
        (
            "trailers",
            "HTTP/1.1 200 OK\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX: tok-s3cret/01+23\r\n\r\n",
            json!({}),
            "GET",
            "200 OK",
            "ab",
        ),
        ("no length", "HTTP/1.1 200 OK\r\n\r\nab", json!({}), "GET", "200 OK", "ab"),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nab", json!({}), "GET", "200 OK", "ab"),
        (
            "bytes behind the content",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabHTTP/1.1 200 OK\r\n\r\nevil",
            json!({}),
            "GET",
            "200 OK",
            "ab",
        ),
        (
            "content on 204",
            "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nab",
            json!({}),
            "GET",
            "204 No Content",
            "",
        ),
        (
            "content on 304",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nab",
            json!({}),
            "GET",
            "304 Not Modified",
            "",
        ),
        (
            "content on HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab",
            json!({}),
            "HEAD",
            "200 OK",
            "",
        ),
        (
            "a part where nothing is redacted",
            "HTTP/1.1 206 Partial Content\r\nAccept-Ranges: bytes\r\nContent-Length: 2\r\n\r\nab",
            redact_off.clone(),
            "GET",
            "206 Partial Content",
            "ab",
        ),
        (
            "a coding where nothing is redacted",
            "HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nab",
            redact_off.clone(),
            "GET",
            "200 OK",
            "ab",
        ),
    ] {
        let request = get("/a/x").replace("GET", method);
        let (answer, _origin) = answered(bytes, Then::Close, changes, &request).await;
        let answer = answer.unwrap();
        assert!(answer.head.starts_with(&format!("HTTP/1.1 {expected}\r\n")), "{case}: {}", answer.head);
        assert_eq!((answer.text().as_str(), answer.complete), (body, true), "{case}");
        if method == "HEAD" {
            assert_eq!(answer.field("content-length"), Some("2"));
        }
    }
}

#[tokio::test]
async fn fields_that_are_the_connections_or_ours_do_not_pass() {
    let head = format!(
        "{OK}Content-Length: 0\r\nSet-Cookie: a=b\r\nX-Cred-Proxy: no_route\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
         Keep-Alive: timeout=5\r\nAccept-Ranges: bytes\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Kept: 1\r\nX-Kept: 2\r\n\r\n"
    );
    let (answer, _origin) = answered(&head, Then::Close, json!({}), &get("/a/x")).await;
    let answer = answer.unwrap();
    for gone in [
        "set-cookie",
        "x-cred-proxy",
        "x-hop",
        "keep-alive",
        "accept-ranges",
        "proxy-authenticate",
        "upgrade",
    ] {
        assert_eq!(answer.field(gone), None, "{gone}");
    }
    assert_eq!(answer.fields("x-kept").collect::<Vec<_>>(), ["1", "2"]);
    let changes = json!({"cookies": true, "redact": false});
    let (answer, _origin) = answered(&head, Then::Close, changes, &get("/a/x")).await;
    let answer = answer.unwrap();
    assert_eq!((answer.field("set-cookie"), answer.field("accept-ranges")), (Some("a=b"), Some("bytes")));
}

#[tokio::test]
async fn redirections_are_rewritten_under_the_route_and_never_followed() {
    let ca = Ca::new();
    let elsewhere = testbed::tcp::Sink::start().await;
    for (location, expected) in [
        ("https://ORIGIN/v1/x?y", "/a/x?y"),
        ("/v1/x", "/a/x"),
        ("//ORIGIN/v1/x", "/a/x"),
        ("/other", "/other"),
        ("https://ELSE/v1/x", "https://ELSE/v1/x"),
        ("next", "next"),
    ] {
        // The origin must know its own address before it starts to answer with it.
        let probe = testbed::tcp::Refuse::start().await;
        let authority = probe.addr().to_string();
        let location = location.replace("ORIGIN", &authority).replace("ELSE", &elsewhere.addr().to_string());
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Location: {location}\r\nContent-Length: 0\r\n\r\n"
        );
        let cert = ca.server(&["127.0.0.1"]);
        let origin = RawOrigin::start_at(probe.addr(), &cert, Script::close(head)).await;
        let upstream = json!({"upstream": format!("https://{}/v1", origin.addr())});
        let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &upstream)], &ca), &[]);
        let answer = scene.get("/a/x").await;
        let expected = expected.replace("ELSE", &elsewhere.addr().to_string());
        assert_eq!((answer.status, answer.field("location")), (302, Some(expected.as_str())));
        assert_eq!(answer.field("content-location"), Some(expected.as_str()));
        assert_eq!(origin.requests().len(), 1);
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn bytes_behind_an_answer_are_not_the_next_requests_answer() {
    let ca = Ca::new();
    for bytes in [
        format!("{OK}Content-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"),
        format!("{OK}Content-Length: 2\r\n\r\nok\r\n\r\nx"),
    ] {
        let script = Script { bytes: bytes.into(), then: Then::Again };
        let origin = RawOrigin::start(&ca.server(&["127.0.0.1"]), script).await;
        let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
        for n in 1..=5 {
            assert_eq!(scene.get("/a/x").await.text(), "ok");
            assert_eq!(origin.connections(), n);
        }
    }
    // To HEAD they may come late: such a connection is not trusted with another request.
    let script =
        Script { bytes: format!("{OK}Content-Length: 4\r\n\r\n").into(), then: Then::TrailAgain(b"evil") };
    let origin = RawOrigin::start(&ca.server(&["127.0.0.1"]), script).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    for n in 1..=3 {
        let answer = scene.ask(get("/a/x").replace("GET", "HEAD")).await.unwrap();
        assert_eq!((answer.status, origin.connections()), (200, n));
    }
}

#[tokio::test]
async fn a_silent_upstream_is_504_and_a_broken_one_is_not_asked_again() {
    let started = std::time::Instant::now();
    let (answer, _origin) = answered("", Then::Stall, json!({}), &get("/a/x")).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.field("x-cred-proxy")), (504, Some("upstream_timeout")));
    assert!(started.elapsed() >= Duration::from_secs(2) && started.elapsed() < SOON);
    let (answer, origin) = answered("", Then::Reset, json!({}), &get("/a/x")).await;
    assert_eq!(answer.unwrap().status, 502);
    assert_eq!((origin.connections(), origin.requests().len()), (1, 1));
}
