//! A bundle over stdin brings the table and who is served, and stdin's end ends the gate.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;

use std::process::Stdio;
use std::time::Instant;

use gate::{Gate, command, read_all, run};
use testbed::tcp::Echo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn bundle(echo: &Echo, rest: &str) -> String {
    let row = format!(r#"{{"listen":0,"upstream":"{}"}}"#, echo.addr());
    format!(r#"{{"version":1,"table":{{"forwards":[{row}]}}{rest}}}"#)
}

#[tokio::test]
async fn a_bundle_serves_without_waiting_for_the_end_of_stdin() {
    let echo = Echo::start().await;
    let mut gate = Gate::bundled(&bundle(&echo, ""), "").await;
    // Without a lifeline stdin is not read again, and its end means nothing.
    gate.cut_lifeline();
    let mut client = gate.connect().await;
    client.write_all(b"ping").await.unwrap();
    client.read_exact(&mut [0; 4]).await.unwrap();
}

#[tokio::test]
async fn peers_from_elsewhere_are_closed_before_a_byte_is_read() {
    let echo = Echo::start().await;
    let gate = Gate::bundled(&bundle(&echo, r#","from":["10.201.7.0/28"]"#), "").await;
    let mut client = gate.connect().await;
    let _ = client.write_all(b"ping").await;
    assert!(read_all(&mut client).await.0.is_empty());
    assert_eq!(echo.connections(), 0);
    testbed::eventually(gate::PATIENCE, || async { !gate.events("refused").is_empty() }).await;
}

#[tokio::test]
async fn a_lost_lifeline_drains() {
    let echo = Echo::start().await;
    let mut gate = Gate::bundled(&bundle(&echo, r#","lifeline":true"#), "").await;
    gate.write_lifeline("{\"tokens\":{\"A\":\"new-value\"}}\nnonsense\n").await;
    // Longer than any line of tokens: ignored as well.
    gate.write_lifeline(&format!("{}\n", "x".repeat(3 * 1024 * 1024))).await;
    testbed::eventually(gate::PATIENCE, || async { gate.events("lifeline_ignored").len() == 2 }).await;
    let mut client = gate.connect().await;
    client.write_all(b"ping").await.unwrap();
    client.read_exact(&mut [0; 4]).await.unwrap();
    gate.cut_lifeline();
    client.shutdown().await.unwrap();
    assert_eq!(read_all(&mut client).await, (vec![], Ok(())));
    assert_eq!(gate.ended().await, (Some(0), String::new()));
}

#[tokio::test]
async fn a_typed_bundle_excludes_a_typed_table_and_ignores_variables() {
    for other in ["--ports p.json", "--forward 1=a:1"] {
        let ran = run(&format!("--stdin-bundle {other}")).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
    }
    let echo = Echo::start().await;
    let mut typed = command("--admin off --stdin-bundle");
    typed.env("SSH_GATE_PORTS", "/nonexistent").env("SSH_GATE_FORWARD", "nonsense");
    typed.stdin(Stdio::piped());
    Gate::spawn(typed, Some(&bundle(&echo, ""))).await;
}

/// A good bundle with a key that a gate has no use for.
fn useless(key: &str) -> String {
    format!("{{\"version\":1,\"table\":{{\"forwards\":[{{\"listen\":0,\"upstream\":\"a:1\"}}]}},{key}}}\n")
}

#[tokio::test]
async fn a_bad_bundle_is_78() {
    for (line, expected) in [
        ("", "ended before its newline"),
        ("{\"version\":1", "ended before its newline"),
        ("{\"version\":2}\n", "`version` to be 1"),
        ("{\"version\":1,\"more\":1}\n", "unknown key `more`"),
        (
            "{\"version\":1,\"table\":{\"forwards\":[{\"listen\":0,\"upstream\":\"a:1\"}]},\"from\":null}\n",
            "expected `from` to be a list of subnets",
        ),
        (
            "{\"version\":1,\"table\":{\"forwards\":[{\"listen\":1,\"upstream\":\"a\"}]}}\n",
            "stdin:1:58: bundle: table: expected HOST:PORT, found \"a\"",
        ),
        (
            &useless("\"upstream_proxy\":{\"url\":\"http://me:hunter2@p:1\"}"),
            "unexpected key `upstream_proxy`",
        ),
        (&useless("\"tokens\":{\"A\":\"hunter2-hunter2\"}"), "unexpected key `tokens`"),
        (&useless("\"ca\":[]"), "unexpected key `ca`"),
        (&" ".repeat(1024 * 1024 + 10), "longer than 1 MiB"),
    ] {
        let mut command = command("--admin off --stdin-bundle");
        command.stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(line.as_bytes()).await.unwrap();
        let output = tokio::time::timeout(gate::PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{said}");
        assert!(said.starts_with("ssh-gate: ") && said.contains(expected), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn a_bundle_whose_line_has_not_ended_after_10_s_is_78() {
    let mut command = command("--admin off --stdin-bundle");
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    let mut open = child.stdin.take().unwrap();
    open.write_all(b"{\"version\":1,").await.unwrap();
    let longest = std::time::Duration::from_secs(20);
    let output = tokio::time::timeout(longest, child.wait_with_output()).await.unwrap().unwrap();
    let took = start.elapsed().as_secs_f32();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "ssh-gate: no bundle came on stdin within 10 s\n");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(78), &b""[..]));
    assert!((9.5..15.0).contains(&took), "{took}");
    drop(open);
}

#[tokio::test]
async fn a_signal_ends_a_gate_that_still_waits_for_its_bundle() {
    let mut command = command("--admin off --stdin-bundle");
    command.stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    // Caught once its handler stands: SigCgt of proc_pid_status(5).
    testbed::eventually(gate::PATIENCE, || async {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() & (1 << 14) != 0
    })
    .await;
    let _open = child.stdin.take(); // `wait` would close it
    let start = Instant::now();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let status = tokio::time::timeout(gate::PATIENCE, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(start.elapsed().as_secs() < 5);
}
