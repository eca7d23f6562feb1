//! A signal stops accepting, lets open connections end, and not for ever.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;
#[path = "support/scene.rs"]
mod scene;

use std::sync::Mutex;
use std::time::{Duration, Instant};

use gate::{Gate, PATIENCE, command, read_all};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::write;
use rustix::pipe::pipe;
use rustix::process::{Pid, Signal, kill_process};
use scene::Scene;
use testbed::tcp::Echo;
use testbed::{eventually, eventually_some};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn ping(client: &mut TcpStream) {
    client.write_all(b"ping").await.unwrap();
    client.read_exact(&mut [0; 4]).await.unwrap();
}

async fn refused(gate: &Gate) {
    let address = gate.listener(0);
    eventually(PATIENCE, || async { TcpStream::connect(address).await.is_err() }).await;
}

#[tokio::test]
async fn a_signal_lets_open_connections_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let echo = Echo::start().await;
        let mut gate = Gate::to(echo.addr(), "").await;
        let mut client = gate.connect().await;
        ping(&mut client).await;
        gate.signal(signal);
        refused(&gate).await;
        ping(&mut client).await;
        client.shutdown().await.unwrap();
        assert_eq!(read_all(&mut client).await, (vec![], Ok(())));
        assert_eq!(gate.ended().await, (Some(0), String::new()));
        assert_eq!(gate.end().await.0, "eof");
    }
}

#[tokio::test]
async fn at_the_deadline_what_is_open_is_cut() {
    let echo = Echo::start().await;
    let mut gate = Gate::to(echo.addr(), "--drain-timeout 300ms").await;
    let mut client = gate.connect().await;
    ping(&mut client).await;
    let start = Instant::now();
    gate.signal(Signal::TERM);
    read_all(&mut client).await.1.expect_err("a response that was cut off is not complete");
    assert_eq!(gate.ended().await.0, Some(0));
    let took = start.elapsed();
    assert!(Duration::from_millis(290) < took && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(gate.end().await, ("drain".into(), "gate".into()));
}

#[tokio::test]
async fn peers_that_do_not_read_do_not_hold_the_deadline() {
    let mut scene = Scene::small("--drain-timeout 300ms", 4096).await;
    for side in [&mut scene.client, &mut scene.upstream] {
        // Until the gate takes no more either.
        while timeout(Duration::from_millis(200), side.write_all(&[0; 65536])).await.is_ok() {}
    }
    let start = Instant::now();
    scene.gate.signal(Signal::TERM);
    assert_eq!(scene.gate.ended().await.0, Some(0));
    let took = start.elapsed();
    assert!(Duration::from_millis(290) < took && took < Duration::from_secs(3), "{took:?}");
    assert_eq!(scene.gate.end().await, ("drain".into(), "gate".into()));
}

#[tokio::test]
async fn a_log_that_nobody_reads_does_not_hold_the_end() {
    let echo = Echo::start().await;
    for (rest, is_second, expected) in [("300ms", false, 0), ("1h", true, 143)] {
        let (_unread, full) = pipe().unwrap();
        fcntl_setfl(&full, OFlags::NONBLOCK).unwrap();
        while write(&full, &[b'\n'; 4096]).is_ok() {}
        fcntl_setfl(&full, OFlags::empty()).unwrap();
        let line = format!("--admin off --forward 0={} --drain-timeout {rest}", echo.addr());
        let mut gate = command(&line).stderr(full).spawn().unwrap();
        let pid = Pid::from_raw(gate.id().unwrap().try_into().unwrap()).unwrap();
        let mut ready = String::new();
        BufReader::new(gate.stdout.take().unwrap()).read_line(&mut ready).await.unwrap();
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        let address = ready["listeners"][0].as_str().unwrap();
        let mut open = TcpStream::connect(address).await.unwrap();
        ping(&mut open).await;
        // Its closing line is what a thread hangs in.
        let mut ended = TcpStream::connect(address).await.unwrap();
        ping(&mut ended).await;
        drop(ended);
        kill_process(pid, Signal::TERM).unwrap();
        let gate = Mutex::new(gate);
        let status = eventually_some(PATIENCE, || async {
            let status = gate.lock().unwrap().try_wait().unwrap();
            if status.is_none() && is_second {
                // Again and again: the kernel makes one of two that come together.
                kill_process(pid, Signal::TERM).unwrap();
            }
            status
        })
        .await;
        assert_eq!(status.code(), Some(expected), "{rest}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let echo = Echo::start().await;
    let mut gate = Gate::to(echo.addr(), "--drain-timeout 1h").await;
    let mut client = gate.connect().await;
    ping(&mut client).await;
    gate.signal(Signal::TERM);
    refused(&gate).await;
    gate.signal(Signal::TERM);
    assert_eq!(gate.ended().await.0, Some(143));
}

#[tokio::test]
async fn readiness_is_what_healthcheck_says() {
    let echo = Echo::start().await;
    let line = format!("--admin 127.0.0.1:0 --drain-timeout 1h --forward 0={}", echo.addr());
    let gate = Gate::spawn(command(&line), None).await;
    let admin = gate.ready["admin"].as_str().unwrap().to_owned();
    let ask = async || gate::run(&format!("healthcheck --admin {admin}")).await.code;
    assert_eq!(ask().await, Some(0));
    let mut client = gate.connect().await;
    ping(&mut client).await;
    gate.signal(Signal::TERM);
    refused(&gate).await;
    assert_eq!(ask().await, Some(1), "draining");
    assert_eq!(gate::run("healthcheck --admin off").await.code, Some(1));
    // Only variables reach a healthcheck in an image.
    let mut by_variable = command("healthcheck");
    by_variable.env("SSH_GATE_ADMIN", &admin);
    assert_eq!(gate::ran(by_variable).await.code, Some(1));
}

#[tokio::test]
async fn the_closing_line_tells_the_story() {
    let echo = Echo::start().await;
    let gate = Gate::start(&format!("--forward 0={},alias=github", echo.addr())).await;
    let mut client = gate.connect().await;
    let peer = client.local_addr().unwrap().to_string();
    ping(&mut client).await;
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, (vec![], Ok(())));
    let line = gate.closed().await;
    let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "timestamp",
        "level",
        "event",
        "alias",
        "peer",
        "upstream",
        "up_bytes",
        "down_bytes",
        "duration_ms",
        "end",
        "side",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(
        (&line["level"], &line["alias"], &line["peer"]),
        (&"info".into(), &"github".into(), &peer.into())
    );
    assert_eq!(line["upstream"], echo.addr().to_string());
    assert_eq!((&line["up_bytes"], &line["down_bytes"]), (&4.into(), &4.into()));
    assert!(line["duration_ms"].is_u64());
}
