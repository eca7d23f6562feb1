//! Names are resolved for each connection, and each of their addresses gets its chance.
//!
//! The gate runs in a mount namespace of its own, with a hosts(5) file that the test writes and a
//! resolver that does not respond: util-linux' `unshare` and user namespaces are needed.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use gate::{Gate, PATIENCE, command, read_all};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use testbed::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

/// A machine whose names are what the test says they are.
struct Names(TempDir);

impl Names {
    fn new() -> Self {
        let names = Self(tempfile::tempdir().unwrap());
        names.are("");
        // Nobody listens there, so that the kernel refuses at once: DNS is down.
        fs::write(names.0.path().join("resolv.conf"), "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
            .unwrap();
        names
    }

    fn are(&self, hosts: &str) {
        // The file stays the same one: it is mounted.
        fs::write(self.0.path().join("hosts"), hosts).unwrap();
    }

    async fn gate(&self, line: &str) -> Gate {
        let gate = command(&format!("--admin off {line}"));
        let mut inside = Command::new("unshare");
        inside.args(["--user", "--map-root-user", "--mount", "sh", "-e", "-c"]);
        let script =
            "mount --bind hosts /etc/hosts; mount --bind resolv.conf /etc/resolv.conf; exec \"$0\" \"$@\"";
        inside.arg(script).arg(gate.as_std().get_program()).args(gate.as_std().get_args());
        inside.current_dir(self.0.path()).env_remove("RUST_LOG").kill_on_drop(true);
        inside.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Gate::spawn(inside, None).await
    }
}

/// Listens on that loopback address, on the port if one is given, and says `name` to who connects.
async fn says(address: &str, port: u16, name: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((address, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            let _ = peer.write_all(name).await;
        }
    });
    port
}

/// A listener whose queue is full, so that a connection to it hangs.
async fn silent(address: &str, port: u16) -> Vec<TcpStream> {
    let address: std::net::SocketAddr = format!("{address}:{port}").parse().unwrap();
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&SockAddr::from(address)).unwrap();
    full.listen(0).unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream);
    }
    std::mem::forget(full);
    queued
}

async fn heard(gate: &Gate) -> String {
    String::from_utf8(read_all(&mut gate.connect().await).await.0).unwrap()
}

#[tokio::test]
async fn the_gate_starts_without_dns_and_follows_a_name_wherever_it_goes() {
    let names = Names::new();
    let port = says("127.0.0.1", 0, b"one").await;
    says("127.0.0.2", port, b"two").await;
    let gate = names.gate(&format!("--forward 0=git.moving.test:{port} --connect-timeout 5s")).await;
    assert_eq!(heard(&gate).await, "");
    let line = gate.closed().await;
    assert_eq!((&line["end"], &line["side"]), (&"connect_failed".into(), &"upstream".into()));
    let error = line["error"].as_str().unwrap();
    assert!(error.starts_with(&format!("could not resolve upstream git.moving.test:{port}: ")), "{error}");
    for (address, name) in [("127.0.0.1", "one"), ("127.0.0.2", "two"), ("127.0.0.1", "one")] {
        names.are(&format!("{address} git.moving.test\n"));
        assert_eq!(heard(&gate).await, name);
    }
    names.are("");
    assert_eq!(heard(&gate).await, "");
}

#[tokio::test]
async fn every_address_of_a_name_is_tried_within_one_budget() {
    let names = Names::new();
    // The resolver sorts addresses as it likes: where the first one is good in one row, it hangs in
    // the other. Nobody is on 127.0.0.4 and ::1.
    let first = says("127.0.0.1", 0, b"good").await;
    let last = says("127.0.0.3", 0, b"good").await;
    let mut hanging = Vec::new();
    for (address, port) in
        [("127.0.0.2", first), ("127.0.0.3", first), ("127.0.0.1", last), ("127.0.0.2", last)]
    {
        hanging.push(silent(address, port).await);
    }
    let rows = format!("--forward 0=git.many.test:{first} --forward 0=git.many.test:{last}");
    let gate = names.gate(&format!("{rows} --connect-timeout 2s")).await;
    let mut order = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "::1"];
    for _ in 0..2 {
        names.are(&order.map(|address| format!("{address} git.many.test\n")).concat());
        for row in [0, 1] {
            let begin = Instant::now();
            let mut client = TcpStream::connect(gate.listener(row)).await.unwrap();
            assert_eq!(read_all(&mut client).await.0, b"good", "row {row} of {order:?}");
            assert!(begin.elapsed() < Duration::from_secs(2), "{order:?}: {:?}", begin.elapsed());
        }
        order.reverse();
    }
    names.are("127.0.0.2 git.many.test\n127.0.0.3 git.many.test\n");
    let begin = Instant::now();
    assert_eq!(heard(&gate).await, "");
    let took = begin.elapsed();
    assert!(
        Duration::from_millis(1900) < took && took < Duration::from_secs(4),
        "one budget for all: {took:?}"
    );
    let late =
        |line: &serde_json::Value| line["error"].as_str().is_some_and(|e| e.contains("within 2000 ms"));
    eventually(PATIENCE, || async { gate.events("closed").iter().any(late) }).await;
}

#[tokio::test]
async fn a_name_that_comes_to_mean_the_gate_itself_is_refused() {
    let names = Names::new();
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let gate = names.gate(&format!("--forward {port}=git.loop.test:{port}")).await;
    for own in ["127.0.0.1", "::ffff:127.0.0.1"] {
        names.are(&format!("{own} git.loop.test\n"));
        let mut client = gate.connect().await;
        assert_eq!(client.read(&mut [0]).await.unwrap_or(0), 0);
        let own = |line: &serde_json::Value| line["end"] == "connect_failed" && line["side"] == "gate";
        eventually(PATIENCE, || async { gate.events("closed").iter().all(own) }).await;
    }
    eventually(PATIENCE, || async { gate.events("closed").len() == 2 }).await;
}
