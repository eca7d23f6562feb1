//! Each event of a stream arrives whole before the next one is sent, whatever its size.
//!
//! The origin waits for the caller to have an event before it sends the next: a proxy that held
//! one back would wait for ever.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

mod scene;

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use scene::{
    SOON, Scene, TOKEN, bundle, get,
    program::{Running, curl},
    route,
};
use serde_json::json;
use testbed::{
    https::{Origin, channel},
    pki::Ca,
};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

#[tokio::test]
async fn curl_has_each_event_before_the_next_is_sent() {
    for redact in [true, false] {
        let mut stream = Stream::start(redact).await;
        let url = format!("http://{}/a/events?stream=1", stream.scene.addr);
        let mut curl = Running::start(curl(&["--no-buffer", &url]));
        let events = stream.asked().await;
        for event in events_of_all_sizes() {
            events.send(Ok(Bytes::from(event.clone()))).await.unwrap();
            assert!(curl.bytes(event.len()).await == event.as_bytes());
            sleep(PACE).await;
        }
        drop(events);
        let ran = curl.ended().await.well();
        assert!(ran.text() == events_of_all_sizes().concat());
    }
}

#[tokio::test]
async fn each_event_is_a_chunk_of_its_own() {
    for redact in [true, false] {
        let mut stream = Stream::start(redact).await;
        let mut client = stream.scene.client().await;
        client.send(get("/a/events")).await;
        let events = stream.asked().await;
        client.head().await.unwrap();
        for n in 0..50 {
            let event = format!("id: {n}\ndata: {{\"n\":{n}}}\n\n");
            events.send(Ok(Bytes::from(event.clone()))).await.unwrap();
            let arrived = client.until(b"\n\n\r\n").await.unwrap();
            let chunk = format!("{:X}\r\n{event}\r\n", event.len());
            assert_eq!(String::from_utf8_lossy(&arrived), chunk);
            sleep(PACE).await;
        }
        drop(events);
        client.until(b"0\r\n\r\n").await.unwrap();
    }
}

/// A proxy before an origin that streams what a test tells it.
struct Stream {
    scene: Scene,
    _origin: Origin,
    bodies: mpsc::UnboundedReceiver<Events>,
}

type Events = mpsc::Sender<std::io::Result<Bytes>>;

impl Stream {
    async fn start(redact: bool) -> Self {
        let ca = Ca::new();
        let (asked, bodies) = mpsc::unbounded_channel();
        let origin = Origin::answering(&ca.server(&["127.0.0.1"]), move |_| {
            let (send, content) = channel();
            asked.send(send).unwrap();
            async { Response::builder().header("content-type", "text/event-stream").body(content).unwrap() }
        })
        .await;
        let scene =
            Scene::start(&bundle(&[route("/a/", origin.addr(), &json!({"redact": redact}))], &ca), &[]);
        Self { scene, _origin: origin, bodies }
    }

    async fn asked(&mut self) -> Events {
        timeout(SOON, self.bodies.recv()).await.unwrap().unwrap()
    }
}

/// A hundred of them: most small, some larger than a TLS record, some with the beginning of a token.
fn events_of_all_sizes() -> Vec<String> {
    let event = |n: usize| match n % 10 {
        3 => format!("data: {}\n\n", "x".repeat(n * 500)),
        7 => format!("data: t o k and {} again\n\n", &TOKEN[..3]),
        _ => format!("event: delta\ndata: {n}\n\n"),
    };
    (0..100).map(event).collect()
}

/// As fast as a model speaks.
const PACE: Duration = Duration::from_millis(10);
