//! A connection between two requests holds next to nothing, and loses nothing by it.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::time::Duration;

use scene::{SOON, Scene, bundle, command, echo, get, post, route};
use serde_json::json;
use testbed::{eventually, https::Origin, pki::Ca, raw::RawClient};

fn rests(scene: &Scene) -> usize {
    scene.log().matches("connection_rests").count()
}

/// A connection that has had an answer and rests since.
async fn resting(scene: &Scene) -> RawClient {
    let before = rests(scene);
    let mut client = scene.client().await;
    assert_eq!(client.ask(post("/a/x", "first")).await.unwrap().text(), "first");
    eventually(SOON, || async { rests(scene) > before }).await;
    client
}

#[tokio::test]
async fn whatever_comes_to_a_resting_connection_is_answered_whole() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let chunked =
        "POST /a/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n0\r\n\r\n";
    let long = "x".repeat(100_000);
    for (pieces, expected) in [
        (vec![post("/a/x", "one")], vec!["one"]),
        (vec![format!("{}{}", post("/a/x", "one"), post("/a/x", "two"))], vec!["one", "two"]),
        (vec!["P".into(), post("/a/x", "one")[1..].into()], vec!["one"]),
        (vec!["\r\n".into(), post("/a/x", "one")], vec!["one"]),
        (vec![format!("{chunked}{}", post("/a/x", "two"))], vec!["one", "two"]),
        (vec![post("/a/x", &long)], vec![&long]),
        // Empty lines behind a request are read with it, and none of the next one's bytes.
        (vec![format!("{}\r\n\r\n", post("/a/x", "one")), post("/a/x", "two")], vec!["one", "two"]),
    ] {
        let mut client = resting(&scene).await;
        for piece in &pieces {
            client.send(piece).await;
            tokio::time::sleep(Duration::from_millis(120)).await;
        }
        for expected in expected {
            assert_eq!(client.answer().await.unwrap().text(), expected, "{pieces:?}");
        }
        // Again and again.
        for n in 0..3 {
            let before = rests(&scene);
            assert_eq!(client.ask(post("/a/x", "more")).await.unwrap().text(), "more", "{n}");
            eventually(SOON, || async { rests(&scene) > before }).await;
        }
    }
}

#[tokio::test]
async fn a_request_that_comes_as_the_rest_begins_is_answered() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let clients = (0..8_u64).map(|n| {
        let addr = scene.addr;
        tokio::spawn(async move {
            let mut client = RawClient::connect(addr).await;
            for round in 0..25 {
                let answer = client.ask(post("/a/x", "hello")).await.unwrap();
                assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
                assert_eq!(answer.field("connection"), None, "it is not to be closed");
                // The rest begins after 50 ms.
                let micros = 47_000 + (n * 25 + round) * 40;
                tokio::time::sleep(Duration::from_micros(micros)).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    assert!(rests(&scene) > 0);
}

#[tokio::test]
async fn a_resting_connection_has_the_timeouts_of_any_other() {
    let ca = Ca::new();
    let origin = echo(&ca).await;
    let mut scene = Scene::start(
        &bundle(&[route("/a/", origin.addr(), &json!({}))], &ca),
        &["--header-timeout", "200ms", "--keep-alive-timeout", "2s"],
    );
    let mut slow = resting(&scene).await;
    let mut silent = resting(&scene).await;
    slow.send("GET /a/x HTTP/1.1\r\n").await;
    assert!(slow.closes(Duration::from_millis(1200)).await);
    assert!(!silent.closes(Duration::from_millis(100)).await);
    assert!(silent.closes(SOON).await);
    // And a drain waits for none.
    let mut kept = resting(&scene).await;
    scene.signal("TERM");
    assert!(kept.closes(Duration::from_millis(1500)).await);
    assert!(scene.exit().await.success());
}

#[tokio::test]
async fn an_answer_that_pauses_is_no_rest() {
    let ca = Ca::new();
    let origin = Origin::answering(&ca.server(&["127.0.0.1"]), |_| async {
        let (send, content) = testbed::https::channel();
        tokio::spawn(async move {
            for part in ["a", "b", "c"] {
                tokio::time::sleep(Duration::from_millis(150)).await;
                send.send(Ok(part.into())).await.unwrap();
            }
        });
        http::Response::new(content)
    })
    .await;
    let scene = Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({}))], &ca), &[]);
    let mut client = scene.client().await;
    // The second waits, read already or not, while the first is answered.
    client.send(format!("{}{}", get("/a/1"), get("/a/2"))).await;
    for _ in 0..2 {
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.text().as_str(), answer.complete), ("abc", true));
    }
    assert_eq!(client.ask(get("/a/3")).await.unwrap().text(), "abc");
}

#[tokio::test]
async fn many_idle_connections_are_cheap_also_after_a_request() {
    let ca = Ca::new();
    let mut command = command(&["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "off"]);
    command.env("RUST_LOG", "warn");
    let upstream = ([198, 51, 100, 1], 443).into();
    let scene = Scene::spawn(command, &format!("{}\n", bundle(&[route("/a/", upstream, &json!({}))], &ca)));
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", scene.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
    };
    let mut clients = Vec::new();
    let more = async |clients: &mut Vec<_>| {
        for _ in 0..300 {
            let mut client = scene.client().await;
            assert_eq!(client.ask(get("/-/routes")).await.unwrap().status, 200);
            clients.push(client);
        }
    };
    // What the process needs anyway.
    more(&mut clients).await;
    let before = resident();
    more(&mut clients).await;
    let each = || resident().saturating_sub(before) / 300;
    eventually(SOON, || async { each() < 8 }).await;
    for client in &mut clients {
        assert_eq!(client.ask(get("/-/routes")).await.unwrap().status, 200);
    }
}
