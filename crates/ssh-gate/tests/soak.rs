//! What goes well once goes well for long: no growth, no leak, no byte lost.
//!
//! Sized for every run; `SOAK=full` makes it 100,000 connections and 10 GiB each way.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;
#[path = "support/resources.rs"]
mod resources;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use gate::{Gate, PATIENCE};
use resources::{descriptors, held, resident};
use testbed::eventually;
use testbed::tcp::{Echo, pattern};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const MIB: u64 = 1024 * 1024;
const BLOCK: usize = 64 * 1024;

fn full() -> bool {
    std::env::var_os("SOAK").is_some_and(|size| size == "full")
}

/// Opens, asks, is answered and closes, so many times, 32 at once.
async fn short_connections(gate: &Gate, count: usize) {
    let left = Arc::new(AtomicUsize::new(count));
    let address = gate.listener(0);
    let workers: Vec<_> = (0..32)
        .map(|_| {
            let left = left.clone();
            tokio::spawn(async move {
                while left.try_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let mut client = TcpStream::connect(address).await.unwrap();
                    client.write_all(b"a word").await.unwrap();
                    client.shutdown().await.unwrap();
                    let mut answer = Vec::with_capacity(8);
                    client.read_to_end(&mut answer).await.unwrap();
                    assert_eq!(answer, b"a word");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_many_short_connections_the_gate_is_as_it_was() {
    let count = if full() { 100_000 } else { 10_000 };
    let echo = Echo::start().await;
    let gate = Gate::start(&format!("--forward 0={} --log-format json", echo.addr())).await;
    short_connections(&gate, 2_000).await;
    eventually(PATIENCE, || async { gate.events("closed").len() == 2_000 }).await;
    let (memory, files) = (resident(&gate), descriptors(&gate));
    short_connections(&gate, count).await;
    eventually(PATIENCE, || async { gate.events("closed").len() == 2_000 + count }).await;
    assert!(gate.events("closed").iter().all(|line| line["end"] == "eof"), "each ended as it should");
    eventually(PATIENCE, || async { descriptors(&gate) <= files }).await;
    let grown = resident(&gate).saturating_sub(memory);
    println!("{count} connections: {grown} bytes grown, {} descriptors", descriptors(&gate));
    assert!(grown <= MIB, "{grown} bytes more after {count} connections");
}

/// Sends so many blocks, each with its number.
async fn send(mut to: impl AsyncWrite + Unpin, blocks: u64) {
    let mut block = pattern(BLOCK);
    for number in 0..blocks {
        block[..8].copy_from_slice(&number.to_be_bytes());
        to.write_all(&block).await.unwrap();
    }
    to.shutdown().await.unwrap();
}

/// Receives them, each in its place and whole, and then the end.
async fn receive(mut from: impl AsyncRead + Unpin, blocks: u64) {
    let (mut block, mut expected) = (vec![0; BLOCK], pattern(BLOCK));
    for number in 0..blocks {
        from.read_exact(&mut block).await.unwrap();
        expected[..8].copy_from_slice(&number.to_be_bytes());
        assert!(block == expected, "block {number}");
    }
    assert_eq!(from.read(&mut block).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_directions_at_once_carry_every_byte_in_flat_memory() {
    let blocks = (if full() { 10 * 1024 } else { 512 }) * MIB / BLOCK as u64;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gate = Gate::to(listener.local_addr().unwrap(), "").await;
    let (memory, files) = (resident(&gate), descriptors(&gate));
    let client = gate.connect().await;
    let (upstream, _) = listener.accept().await.unwrap();
    let (client_from, client_to) = client.into_split();
    let (upstream_from, upstream_to) = upstream.into_split();
    let carrying: Vec<_> = [
        tokio::spawn(send(client_to, blocks)),
        tokio::spawn(send(upstream_to, blocks)),
        tokio::spawn(receive(client_from, blocks)),
        tokio::spawn(receive(upstream_from, blocks)),
    ]
    .into();
    let mut most = 0;
    while !carrying.iter().all(tokio::task::JoinHandle::is_finished) {
        most = most.max((resident(&gate) + held(&gate)).saturating_sub(memory));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for task in carrying {
        task.await.unwrap();
    }
    let line = gate.closed().await;
    let bytes = blocks * BLOCK as u64;
    assert_eq!((&line["up_bytes"], &line["down_bytes"]), (&bytes.into(), &bytes.into()));
    assert_eq!(line["end"], "eof");
    println!("{bytes} bytes each way: at most {most} bytes over idle");
    assert!(most <= 8 * MIB, "{most} bytes over idle");
    // Two spare pipes or buffers a thread may stay.
    eventually(PATIENCE, || async { descriptors(&gate) <= files + 16 }).await;
}
