//! The log: two forms, levels by RUST_LOG, and floods told at a bounded rate with counts that add up.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;

use std::time::Instant;

use gate::{Gate, PATIENCE, command, read_all};
use testbed::tcp::{Echo, Refuse};
use testbed::{eventually, eventually_some};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn one_connection(gate: &Gate) {
    let mut client = gate.connect().await;
    client.write_all(b"ping").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, (b"ping".to_vec(), Ok(())));
}

#[tokio::test]
async fn a_line_is_json_where_nobody_watches_and_text_where_that_is_asked_for() {
    let echo = Echo::start().await;
    let gate = Gate::to(echo.addr(), "--log-format text").await;
    one_connection(&gate).await;
    let line = eventually_some(PATIENCE, || async { gate.lines().into_iter().next() }).await;
    assert!(line.contains(" INFO closed alias=row-0 peer=127.0.0.1:"), "{line}");
    assert!(
        line.contains(" up_bytes=4 down_bytes=4 ") && line.ends_with(" end=eof side=downstream"),
        "{line}"
    );
    let gate = Gate::to(echo.addr(), "").await;
    one_connection(&gate).await;
    let line = gate.closed().await;
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
    assert!(line.as_object().unwrap().values().all(|value| !value.is_object() && !value.is_null()), "{line}");
}

#[tokio::test]
async fn rust_log_names_levels_and_what_does_not_parse_is_said() {
    let echo = Echo::start().await;
    for (filter, closed) in
        [("warn", false), ("ssh_gate=warn", false), ("ssh_gate=info", true), ("=;=", true)]
    {
        let mut command = command(&format!("--admin off --forward 0={}", echo.addr()));
        command.env("RUST_LOG", filter);
        let mut gate = Gate::spawn(command, None).await;
        one_connection(&gate).await;
        gate.signal(rustix::process::Signal::TERM);
        gate.ended().await;
        eventually(PATIENCE, || async { gate.log_ended() }).await;
        assert_eq!(!gate.events("closed").is_empty(), closed, "{filter}");
        assert_eq!(!gate.events("log_filter").is_empty(), filter == "=;=", "{filter}");
    }
}

/// The closing lines with that end, how many connections they tell of, and how many there are.
fn told(gate: &Gate, end: &str) -> (u64, usize) {
    let lines: Vec<_> = gate.events("closed").into_iter().filter(|line| line["end"] == end).collect();
    (lines.iter().map(|line| line["count"].as_u64().unwrap_or(1)).sum(), lines.len())
}

#[tokio::test]
async fn connections_over_the_limit_are_a_line_now_and_then_and_none_is_forgotten() {
    let echo = Echo::start().await;
    let gate = Gate::to(echo.addr(), "--max-connections 1").await;
    let mut first = gate.connect().await;
    first.write_all(b"x").await.unwrap();
    first.read_exact(&mut [0]).await.unwrap();
    for _ in 0..300 {
        let _ = read_all(&mut gate.connect().await).await;
    }
    eventually(PATIENCE, || async { told(&gate, "limit").0 == 300 }).await;
    assert!(told(&gate, "limit").1 < 10, "{:?}", told(&gate, "limit"));
}

#[tokio::test]
async fn a_flood_that_comes_to_nothing_is_told_at_a_bounded_rate_and_none_is_forgotten() {
    let (echo, refuse) = (Echo::start().await, Refuse::start().await);
    let rows = format!("--forward 0={},protocol=ssh --forward 0={}", echo.addr(), refuse.addr());
    let gate = Gate::start(&rows).await;
    for (row, end) in [(0, "not_ssh"), (1, "connect_failed")] {
        let begin = Instant::now();
        for _ in 0..600 {
            let mut client = TcpStream::connect(gate.listener(row)).await.unwrap();
            let _ = client.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
            let _ = read_all(&mut client).await;
        }
        let most = (begin.elapsed().as_secs() as usize + 2) * 101;
        eventually(PATIENCE, || async { told(&gate, end).0 == 600 }).await;
        let (_, lines) = told(&gate, end);
        assert!((100..=most).contains(&lines), "{end}: {lines} lines, at most {most}");
    }
}

#[tokio::test]
async fn peers_from_elsewhere_are_told_with_their_number() {
    let bundle =
        r#"{"version":1,"table":{"forwards":[{"listen":0,"upstream":"h:1"}]},"from":["10.201.7.0/28"]}"#;
    let gate = Gate::bundled(bundle, "").await;
    for _ in 0..50 {
        let _ = read_all(&mut gate.connect().await).await;
    }
    let count = |line: &serde_json::Value| line["count"].as_u64().unwrap();
    eventually(PATIENCE, || async { gate.events("refused").iter().map(count).sum::<u64>() == 50 }).await;
    let lines = gate.events("refused");
    assert!(lines.len() < 5 && lines.iter().all(|line| line["reason"] == "peer"), "{lines:?}");
    assert!(gate.events("closed").is_empty());
}
