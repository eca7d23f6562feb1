//! All listeners or none; no spin without descriptors; no more connections than allowed.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;

use std::time::Duration;

use gate::{Gate, PATIENCE, cpu_ticks, read_all, run};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use testbed::eventually;
use testbed::tcp::Echo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn all_listeners_bind_or_none_does() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap();
    let rows = format!("--forward {}=h:1 --forward {}=h:1", free.port(), taken.port());
    let ran = run(&format!("--admin off {rows}")).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert_eq!(ran.stdout, "");
    assert!(ran.stderr.starts_with(&format!("ssh-gate: could not bind listener {taken}: ")), "{ran:?}");
    TcpStream::connect(free).await.unwrap_err();
}

#[tokio::test]
async fn a_taken_admin_port_is_said_too() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap();
    let ran = run(&format!("--admin {taken} --forward 0=h:1")).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(ran.stderr.contains(&format!("could not bind admin endpoint {taken}")), "{ran:?}");
}

#[tokio::test]
async fn the_readiness_line_names_every_row_in_its_order_and_is_all_of_stdout() {
    let mut gate = Gate::start("--forward 0=h:1,alias=a --forward 127.0.0.2:0=h:2 --bind 127.0.0.3").await;
    assert_eq!(gate.listener(0).ip().to_string(), "127.0.0.3");
    assert_eq!(gate.listener(1).ip().to_string(), "127.0.0.2");
    assert_eq!((&gate.ready["event"], &gate.ready["name"]), (&"ready".into(), &"ssh-gate".into()));
    assert!(gate.ready["admin"].is_null());
    gate.signal(Signal::TERM);
    assert_eq!(gate.ended().await, (Some(0), String::new()));
}

#[tokio::test]
async fn a_restart_takes_the_port_at_once() {
    let echo = Echo::start().await;
    let mut gate = Gate::to(echo.addr(), "").await;
    let (address, mut client) = (gate.listener(0), gate.connect().await);
    client.write_all(b"x").await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    // The gate closes first, so its end of the connection lingers on the port.
    gate.signal(Signal::KILL);
    gate.ended().await;
    Gate::start(&format!("--forward {}={}", address.port(), echo.addr())).await;
}

#[tokio::test]
async fn over_the_limit_a_connection_is_closed_and_logged() {
    let echo = Echo::start().await;
    let gate = Gate::to(echo.addr(), "--max-connections 1").await;
    let mut first = gate.connect().await;
    first.write_all(b"x").await.unwrap();
    first.read_exact(&mut [0]).await.unwrap();
    for _ in 0..20 {
        assert!(read_all(&mut gate.connect().await).await.0.is_empty());
    }
    assert_eq!(gate.end().await, ("limit".into(), "gate".into()));
    assert!(gate.events("closed").len() < 5, "a flood is a line now and then");
    drop(first);
    eventually(PATIENCE, || async {
        let mut next = gate.connect().await;
        next.write_all(b"y").await.is_ok() && next.read_exact(&mut [0]).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn at_the_descriptor_limit_the_gate_waits_instead_of_spinning() {
    let echo = Echo::start().await;
    let gate = Gate::start(&format!("--forward 0={0} --forward 0={0}", echo.addr())).await;
    // The gate has raised its soft limit to the hard one by now.
    let folder = format!("/proc/{}/fd", gate.pid().as_raw_nonzero());
    // The limit is one of numbers, not of how many: the next descriptor is the lowest that is free.
    let next = (0..).find(|fd| std::fs::symlink_metadata(format!("{folder}/{fd}")).is_err()).unwrap();
    let allow = |more: u64| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit { current: Some(next + more), maximum };
        prlimit(Some(gate.pid()), Resource::Nofile, limit).unwrap();
    };
    // Not one is left: every accept fails, as long as somebody waits.
    allow(0);
    let mut clients = Vec::new();
    for _ in 0..40 {
        clients.push(gate.connect().await);
    }
    eventually(PATIENCE, || async { !gate.events("accept_error").is_empty() }).await;
    let hint = gate.events("accept_error")[0]["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains("limit of open files"), "{hint}");
    let before = cpu_ticks(&gate);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let spent = cpu_ticks(&gate) - before;
    assert!(spent <= 10, "{spent} ticks of 10 ms in one second");
    let told = gate.events("accept_error").len();
    assert!(told <= 8, "{told} lines for what the log could say all the time");
    clients.clear();
    allow(8);
    for row in [0, 1] {
        eventually(PATIENCE, || async {
            let mut next = TcpStream::connect(gate.listener(row)).await.unwrap();
            let answered =
                async { next.write_all(b"y").await.is_ok() && next.read_exact(&mut [0]).await.is_ok() };
            tokio::time::timeout(Duration::from_secs(1), answered).await.unwrap_or(false)
        })
        .await;
    }
}

#[tokio::test]
async fn a_connection_that_took_the_last_descriptor_is_closed_and_the_log_says_what_to_do() {
    let echo = Echo::start().await;
    let port = echo.addr().port();
    for upstream in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        let gate = Gate::start(&format!("--forward 0={upstream}")).await;
        let folder = format!("/proc/{}/fd", gate.pid().as_raw_nonzero());
        let next = (0..).find(|fd| std::fs::symlink_metadata(format!("{folder}/{fd}")).is_err()).unwrap();
        let maximum = getrlimit(Resource::Nofile).maximum;
        let allow = |current: u64| {
            let limit = Rlimit { current: Some(current), maximum };
            prlimit(Some(gate.pid()), Resource::Nofile, limit).unwrap();
        };
        allow(next + 1);
        assert!(read_all(&mut gate.connect().await).await.0.is_empty());
        let line = gate.closed().await;
        assert_eq!((&line["end"], &line["side"]), (&"connect_failed".into(), &"gate".into()), "{line}");
        let error = line["error"].as_str().unwrap();
        assert!(
            error.starts_with(&format!("no descriptor is left for upstream {upstream}: raise ")),
            "{error}"
        );
        assert!(error.ends_with("(os error 24)"), "{error}");
        allow(next + 16);
        eventually(PATIENCE, || async {
            let mut next = gate.connect().await;
            next.write_all(b"y").await.is_ok() && next.read_exact(&mut [0]).await.is_ok()
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_waits_for_a_second_segment() {
    let echo = Echo::start().await;
    let gate = Gate::to(echo.addr(), "").await;
    let mut client = gate.connect().await;
    let start = std::time::Instant::now();
    for _ in 0..50 {
        // Two writes in a row are what Nagle's algorithm holds back without TCP_NODELAY.
        client.write_all(b"a").await.unwrap();
        client.write_all(b"b").await.unwrap();
        client.read_exact(&mut [0; 2]).await.unwrap();
    }
    assert!(start.elapsed() < Duration::from_millis(1000), "{:?}", start.elapsed());
}
