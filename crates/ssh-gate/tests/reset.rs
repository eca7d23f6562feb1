//! A reset arrives as a reset, after the bytes that were sent before it.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;
#[path = "support/scene.rs"]
mod scene;

use std::io::ErrorKind::ConnectionReset;
use std::time::Duration;

use gate::{Gate, PATIENCE, read_all};
use scene::Scene;
use testbed::eventually;
use testbed::tcp::{HalfClose, Reset, pattern, reset};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Writes until the peer's buffers and all between are full.
async fn fill(stream: &mut TcpStream) -> usize {
    let mut sent = 0;
    while let Ok(n) = timeout(Duration::from_millis(300), stream.write(&[b'x'; 65536])).await {
        sent += n.unwrap();
    }
    sent
}

#[tokio::test]
async fn an_upstreams_reset_reaches_the_client() {
    let upstream = Reset::start(3).await;
    let gate = Gate::to(upstream.addr(), "").await;
    let mut client = gate.connect().await;
    client.write_all(b"abc").await.unwrap();
    assert_eq!(read_all(&mut client).await, (vec![], Err(ConnectionReset)));
    assert_eq!(gate.end().await, ("reset".into(), "upstream".into()));
}

#[tokio::test]
async fn an_upstream_that_resets_as_soon_as_it_has_accepted_resets_the_client() {
    let upstream = Reset::start(0).await;
    let gate = Gate::to(upstream.addr(), "").await;
    for _ in 0..100 {
        let mut client = gate.connect().await;
        assert_eq!(read_all(&mut client).await, (vec![], Err(ConnectionReset)));
    }
    eventually(PATIENCE, || async { gate.events("closed").len() == 100 }).await;
    assert!(gate.events("closed").iter().all(|line| line["end"] == "reset" && line["side"] == "upstream"));
}

#[tokio::test]
async fn a_clients_reset_reaches_the_upstream_after_its_bytes() {
    let Scene { gate, mut client, mut upstream, .. } = Scene::set("").await;
    client.write_all(b"last words").await.unwrap();
    reset(client);
    assert_eq!(read_all(&mut upstream).await, (b"last words".to_vec(), Err(ConnectionReset)));
    assert_eq!(gate.end().await, ("reset".into(), "downstream".into()));
}

#[tokio::test]
async fn bytes_that_the_gate_holds_come_before_the_reset() {
    for client_resets in [true, false] {
        let Scene { gate, client, upstream, .. } = Scene::small("", 4096).await;
        let (mut sender, mut reader) = if client_resets { (client, upstream) } else { (upstream, client) };
        // Less than the gate's own socket takes in, and far more than the reader's: all of it has
        // left the sender, and most of it is in the gate, when the reset comes.
        sender.write_all(&pattern(60_000)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        reset(sender);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(gate.events("closed").is_empty(), "nothing is thrown away while the reader is slow");
        let (all, end) = read_all(&mut reader).await;
        assert!(all == pattern(60_000), "{} bytes, client_resets {client_resets}", all.len());
        assert_eq!(end, Err(ConnectionReset));
    }
}

#[tokio::test]
async fn an_upstream_that_answers_before_it_reads_on_still_gets_the_last_bytes() {
    let Scene { gate: _gate, mut client, upstream, .. } = Scene::set("").await;
    let (mut from, mut to) = upstream.into_split();
    let echo = tokio::spawn(async move {
        let (mut block, mut got) = (vec![0; 65536], 0);
        loop {
            match from.read(&mut block).await {
                Ok(0) | Err(_) => return got,
                Ok(n) => {
                    got += n;
                    let _ = to.write_all(&block[..n]).await;
                }
            }
        }
    });
    // The answers are never read, so everything stands still.
    let sent = fill(&mut client).await;
    // What the client's own kernel still holds dies with it; what the gate has taken does not.
    reset(client);
    let got = timeout(PATIENCE, echo).await.expect("no deadlock").unwrap();
    assert!(0 < got && got <= sent);
}

#[tokio::test]
async fn a_reset_is_noticed_while_the_other_side_does_not_read() {
    for client_resets in [true, false] {
        let Scene { gate, client, upstream, .. } = Scene::set("--half-close-timeout 400ms").await;
        let (mut sender, _stalled) = if client_resets { (client, upstream) } else { (upstream, client) };
        fill(&mut sender).await;
        reset(sender);
        // Nobody takes the bytes: they are kept for the half-close timeout, and not for ever.
        let side = if client_resets { "downstream" } else { "upstream" };
        assert_eq!(gate.end().await, ("reset".into(), side.into()));
    }
}

#[tokio::test]
async fn a_reset_after_a_half_close_still_arrives() {
    for client_resets in [true, false] {
        let Scene { gate, client, upstream, .. } = Scene::set("").await;
        let (mut sender, mut reader) = if client_resets { (client, upstream) } else { (upstream, client) };
        sender.write_all(b"bye").await.unwrap();
        sender.shutdown().await.unwrap();
        let mut word = [0; 8];
        assert_eq!(reader.read(&mut word).await.unwrap(), 3);
        assert_eq!(reader.read(&mut word).await.unwrap(), 0, "the half-close arrives");
        reset(sender);
        // The reader neither reads nor writes more: its socket is told all the same.
        let ready = reader.ready(tokio::io::Interest::ERROR);
        timeout(PATIENCE, ready).await.expect("a reset").unwrap();
        let side = if client_resets { "downstream" } else { "upstream" };
        assert_eq!(gate.end().await, ("reset".into(), side.into()));
    }
}

#[tokio::test]
async fn a_client_that_closes_without_reading_resets_the_upstream() {
    let Scene { gate: _gate, client, mut upstream, .. } = Scene::set("").await;
    upstream.write_all(b"unread").await.unwrap();
    client.readable().await.unwrap();
    drop(client);
    assert_eq!(read_all(&mut upstream).await, (vec![], Err(ConnectionReset)));
}

#[tokio::test]
async fn an_upstream_that_has_gone_resets_a_client_that_goes_on_writing() {
    let Scene { gate, mut client, upstream, .. } = Scene::set("").await;
    drop(upstream);
    let mut word = [0; 1];
    assert_eq!(client.read(&mut word).await.unwrap(), 0);
    eventually(PATIENCE, || async { client.try_write(b"more").is_err() }).await;
    assert_eq!(gate.end().await, ("reset".into(), "upstream".into()));
}

#[tokio::test]
async fn one_rows_reset_does_not_touch_another_connection() {
    let upstream = HalfClose::start("hello").await;
    let gate = Gate::to(upstream.addr(), "").await;
    let (mut kept, gone) = (gate.connect().await, gate.connect().await);
    reset(gone);
    assert_eq!(read_all(&mut kept).await, (b"hello".to_vec(), Ok(())));
}
