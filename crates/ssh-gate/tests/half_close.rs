//! A side that is done sending is heard to the end, and still answered.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;
#[path = "support/scene.rs"]
mod scene;

use std::time::{Duration, Instant};

use gate::{Gate, PATIENCE, read_all};
use scene::Scene;
use testbed::eventually;
use testbed::tcp::{Echo, HalfClose, Source, Stall, pattern};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_half_closed_client_still_gets_the_whole_answer() {
    let echo = Echo::start().await;
    let gate = Gate::to(echo.addr(), "").await;
    let (mut from, mut to) = gate.connect().await.into_split();
    let question = pattern(3_000_000);
    let sent = question.clone();
    tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
        // Kept, so that nothing but the half-close is seen.
        std::future::pending::<()>().await;
    });
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, from.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer == question);
    assert_eq!(gate.end().await, ("eof".into(), "downstream".into()));
}

#[tokio::test]
async fn an_upstream_that_is_done_still_hears_the_client() {
    let upstream = HalfClose::start("all I have to say").await;
    let gate = Gate::to(upstream.addr(), "").await;
    let mut client = gate.connect().await;
    assert_eq!(read_all(&mut client).await, (b"all I have to say".to_vec(), Ok(())));
    let late = pattern(1_000_000);
    client.write_all(&late).await.unwrap();
    client.shutdown().await.unwrap();
    let received = upstream.received().await;
    assert!(received.bytes == late);
    assert_eq!(received.end, Ok(()));
    let line = gate.closed().await;
    assert_eq!((&line["end"], &line["side"]), (&"eof".into(), &"upstream".into()));
    assert_eq!((&line["up_bytes"], &line["down_bytes"]), (&1_000_000.into(), &17.into()));
}

#[tokio::test]
async fn a_slow_reader_gets_every_byte() {
    let source = Source::start(20_000_000).await;
    let gate = Gate::to(source.addr(), "").await;
    let mut client = gate.connect().await;
    client.shutdown().await.unwrap();
    let (mut all, mut block) = (Vec::new(), vec![0; 300_000]);
    loop {
        match client.read(&mut block).await.unwrap() {
            0 => break,
            n => all.extend_from_slice(&block[..n]),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(all == pattern(20_000_000));
}

#[tokio::test]
async fn a_half_open_connection_that_is_silent_is_reaped() {
    let stall = Stall::start().await;
    let gate = Gate::to(stall.addr(), "--half-close-timeout 300ms").await;
    let mut client = gate.connect().await;
    let start = Instant::now();
    client.shutdown().await.unwrap();
    read_all(&mut client).await.1.unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    assert_eq!(gate.end().await, ("half_close".into(), "gate".into()));
}

#[tokio::test]
async fn whichever_side_is_done_the_other_is_reaped_when_it_falls_silent_and_not_before() {
    for upstream_is_done in [false, true] {
        let mut scene = Scene::set("--half-close-timeout 500ms").await;
        let (done, other) = if upstream_is_done {
            (&mut scene.upstream, &mut scene.client)
        } else {
            (&mut scene.client, &mut scene.upstream)
        };
        done.shutdown().await.unwrap();
        assert_eq!(other.read(&mut [0]).await.unwrap(), 0);
        // Together longer than the timeout, each pause shorter.
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1200) {
            other.write_all(b"x").await.unwrap();
            done.read_exact(&mut [0]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let silent = Instant::now();
        read_all(done).await.1.unwrap_err();
        let took = silent.elapsed();
        assert!(Duration::from_millis(350) < took && took < Duration::from_secs(5), "{took:?}");
        // It has read the end already: that it is cut is seen by writing.
        eventually(PATIENCE, || async { other.try_write(b"x").is_err() }).await;
        assert_eq!(scene.gate.end().await, ("half_close".into(), "gate".into()));
    }
}

#[tokio::test]
async fn silence_ends_an_open_connection_only_when_asked_to() {
    let echo = Echo::start().await;
    let patient = Gate::to(echo.addr(), "--half-close-timeout 100ms").await;
    let strict = Gate::to(echo.addr(), "--idle-timeout 300ms").await;
    let (mut kept, mut cut) = (patient.connect().await, strict.connect().await);
    let start = Instant::now();
    assert!(read_all(&mut cut).await.0.is_empty());
    assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    assert_eq!(strict.end().await, ("idle".into(), "gate".into()));
    kept.write_all(b"still here").await.unwrap();
    let mut answer = [0; 10];
    kept.read_exact(&mut answer).await.unwrap();
}
