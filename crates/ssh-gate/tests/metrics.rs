//! What the admin endpoint counts: named as documented, true while a connection is open and after it.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;

use std::collections::{BTreeMap, BTreeSet};

use gate::{Gate, PATIENCE, command, read_all};
use rustix::process::{Resource, Rlimit, Signal, prlimit};
use testbed::eventually;
use testbed::raw::ask;
use testbed::tcp::{Echo, Refuse, Sink};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn counting(line: &str) -> Gate {
    Gate::spawn(command(&format!("--admin 127.0.0.1:0 {line}")), None).await
}

async fn get(gate: &Gate, path: &str) -> testbed::raw::Answer {
    let admin = gate.ready["admin"].as_str().unwrap().parse().unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    ask(admin, request).await.unwrap()
}

/// The samples, by name and labels as they stand.
async fn samples(gate: &Gate) -> BTreeMap<String, f64> {
    let answer = get(gate, "/metrics").await;
    assert_eq!(answer.status, 200);
    let text = String::from_utf8(answer.body).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    lines.map(sample).collect()
}

async fn sample(gate: &Gate, name: &str) -> f64 {
    let samples = samples(gate).await;
    *samples.get(name).unwrap_or_else(|| panic!("{name}: {samples:?}"))
}

#[tokio::test]
async fn every_documented_family_is_there_from_the_start_with_no_label_but_its_own() {
    let gate = counting("--forward 0=h:1,alias=git --forward 0=h:2").await;
    let answer = get(&gate, "/metrics").await;
    assert_eq!(answer.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = String::from_utf8(answer.body).unwrap();
    let types: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    assert_eq!(
        types,
        [
            "ssh_gate_connections_open gauge",
            "ssh_gate_connections_total counter",
            "ssh_gate_bytes_total counter",
            "ssh_gate_connect_seconds histogram",
            "ssh_gate_accept_errors_total counter",
            "ssh_gate_draining gauge",
        ]
    );
    let samples = samples(&gate).await;
    assert!(samples.values().all(|value| *value == 0.0), "{samples:?}");
    let ends = samples.keys().filter(|name| name.starts_with("ssh_gate_connections_total{alias=\"row-1\""));
    let ends: BTreeSet<_> = ends.map(|name| name.split('"').nth(3).unwrap()).collect();
    let words =
        ["eof", "reset", "idle", "half_close", "drain", "connect_failed", "not_ssh", "limit", "error"];
    assert_eq!(ends, words.into_iter().collect());
    let labels: BTreeSet<_> = samples
        .keys()
        .filter_map(|name| name.split_once('{'))
        .flat_map(|(_, labels)| labels.trim_end_matches('}').split(','))
        .map(|label| label.split('=').next().unwrap())
        .collect();
    assert_eq!(labels, ["alias", "direction", "end", "le"].into_iter().collect());
    assert!(samples.contains_key("ssh_gate_connections_open{alias=\"git\"}"));
}

#[tokio::test]
async fn bytes_move_while_a_connection_is_open_and_stay_when_it_has_ended() {
    let sink = Sink::start().await;
    let gate = counting(&format!("--forward 0={},alias=git", sink.addr())).await;
    let up = "ssh_gate_bytes_total{alias=\"git\",direction=\"up\"}";
    let open = "ssh_gate_connections_open{alias=\"git\"}";
    let mut clients = [gate.connect().await, gate.connect().await];
    for n in 0..3 {
        clients[n % 2].write_all(&[0; 100_000]).await.unwrap();
        let sent = (n + 1) as f64 * 100_000.0;
        eventually(PATIENCE, || async { sample(&gate, up).await == sent }).await;
    }
    assert_eq!(sample(&gate, open).await, 2.0);
    for (n, mut client) in clients.into_iter().enumerate() {
        client.shutdown().await.unwrap();
        read_all(&mut client).await.1.unwrap();
        eventually(PATIENCE, || async { sample(&gate, open).await == 1.0 - n as f64 }).await;
        assert_eq!(sample(&gate, up).await, 300_000.0, "never less than before");
    }
    let samples = samples(&gate).await;
    assert_eq!(samples["ssh_gate_connections_total{alias=\"git\",end=\"eof\"}"], 2.0);
    assert_eq!(samples["ssh_gate_connect_seconds_count{alias=\"git\"}"], 2.0);
    assert_eq!(samples["ssh_gate_connect_seconds_bucket{alias=\"git\",le=\"+Inf\"}"], 2.0);
    assert!(samples["ssh_gate_connect_seconds_sum{alias=\"git\"}"] > 0.0);
}

#[tokio::test]
async fn each_end_is_counted_under_its_word_and_its_row() {
    let (echo, refuse) = (Echo::start().await, Refuse::start().await);
    let rows = format!(
        "--forward 0={},alias=dead --forward 0={},alias=ssh,protocol=ssh --forward 0={0},alias=not",
        refuse.addr(),
        echo.addr()
    );
    let gate = counting(&rows).await;
    for row in [0, 0, 1] {
        let mut client = TcpStream::connect(gate.listener(row)).await.unwrap();
        let _ = client.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
        let _ = read_all(&mut client).await;
    }
    for (row, end, count) in
        [("dead", "connect_failed", 2.0), ("ssh", "not_ssh", 1.0), ("not", "connect_failed", 0.0)]
    {
        let name = format!("ssh_gate_connections_total{{alias=\"{row}\",end=\"{end}\"}}");
        eventually(PATIENCE, || async { sample(&gate, &name).await == count }).await;
    }
    assert_eq!(sample(&gate, "ssh_gate_connect_seconds_count{alias=\"dead\"}").await, 0.0);
}

#[tokio::test]
async fn what_is_over_the_limit_is_counted_though_the_log_coalesces_it() {
    let echo = Echo::start().await;
    let gate = counting(&format!("--max-connections 1 --forward 0={},alias=git", echo.addr())).await;
    let mut first = gate.connect().await;
    first.write_all(b"x").await.unwrap();
    first.read_exact(&mut [0]).await.unwrap();
    for _ in 0..20 {
        let _ = read_all(&mut gate.connect().await).await;
    }
    assert_eq!(sample(&gate, "ssh_gate_connections_total{alias=\"git\",end=\"limit\"}").await, 20.0);
    assert_eq!(sample(&gate, "ssh_gate_connections_open{alias=\"git\"}").await, 1.0);
}

#[tokio::test]
async fn failed_accepts_and_the_drain_are_told() {
    let echo = Echo::start().await;
    let gate = counting(&format!("--drain-timeout 1h --forward 0={}", echo.addr())).await;
    let mut client = gate.connect().await;
    client.write_all(b"x").await.unwrap();
    client.read_exact(&mut [0]).await.unwrap();
    let limit = |n| Rlimit { current: Some(n), maximum: Some(4096) };
    prlimit(Some(gate.pid()), Resource::Nofile, limit(8)).unwrap();
    let _waits = gate.connect().await;
    eventually(PATIENCE, || async { !gate.events("accept_error").is_empty() }).await;
    prlimit(Some(gate.pid()), Resource::Nofile, limit(4096)).unwrap();
    assert!(sample(&gate, "ssh_gate_accept_errors_total").await >= 1.0);
    assert_eq!(sample(&gate, "ssh_gate_draining").await, 0.0);
    gate.signal(Signal::TERM);
    eventually(PATIENCE, || async { sample(&gate, "ssh_gate_draining").await == 1.0 }).await;
    for (path, status) in [("/healthz", 200), ("/readyz", 503), ("/metrics", 200)] {
        assert_eq!(get(&gate, path).await.status, status, "{path} while draining");
    }
}

#[tokio::test]
async fn the_admin_endpoint_answers_its_three_questions_and_no_other() {
    let gate = counting("--forward 0=h:1").await;
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/x", 404)] {
        assert_eq!(get(&gate, path).await.status, status, "{path}");
    }
    let admin = gate.ready["admin"].as_str().unwrap().parse().unwrap();
    let post = "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(admin, post).await.unwrap().status, 405);
}
