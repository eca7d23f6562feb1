//! An upstream that cannot be reached closes the client, and soon.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;

use std::time::{Duration, Instant};

use gate::{Gate, read_all};
use testbed::tcp::{Echo, Refuse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn a_refused_upstream_closes_the_client_at_once() {
    let refuse = Refuse::start().await;
    let gate = Gate::to(refuse.addr(), "").await;
    let start = Instant::now();
    let mut client = gate.connect().await;
    assert!(read_all(&mut client).await.0.is_empty());
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(gate.end().await, ("connect_failed".into(), "upstream".into()));
    let error = gate.closed().await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("could not connect to upstream") && error.contains("refused"), "{error}");
}

#[tokio::test]
async fn a_name_without_an_address_is_the_connections_trouble_not_the_gates() {
    let echo = Echo::start().await;
    let rows = format!("--forward 0=no-such-host.invalid:22 --forward 0={}", echo.addr());
    let gate = Gate::start(&format!("--connect-timeout 3s {rows}")).await;
    let mut lost = gate.connect().await;
    let mut served = TcpStream::connect(gate.listener(1)).await.unwrap();
    served.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    served.read_exact(&mut word).await.unwrap();
    assert!(read_all(&mut lost).await.0.is_empty());
    assert_eq!(gate.end().await.0, "connect_failed");
}

#[tokio::test]
async fn a_name_leads_to_whichever_of_its_addresses_answers() {
    let echo = Echo::start().await; // on 127.0.0.1 only; localhost may be ::1 first
    let gate = Gate::start(&format!("--forward 0=localhost:{}", echo.addr().port())).await;
    let mut client = gate.connect().await;
    client.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    tokio::time::timeout(gate::PATIENCE, client.read_exact(&mut word)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_upstream_uses_up_the_budget_and_no_more() {
    // A listener whose queue is full takes no further connection.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queued.push(stream);
    }
    let gate = Gate::to(address, "--connect-timeout 400ms").await;
    let start = Instant::now();
    let mut client = gate.connect().await;
    assert!(read_all(&mut client).await.0.is_empty());
    let took = start.elapsed();
    assert!(Duration::from_millis(390) < took && took < Duration::from_secs(3), "{took:?}");
    let error = gate.closed().await["error"].as_str().unwrap().to_owned();
    assert!(error.contains("did not answer within 400 ms"), "{error}");
}

#[tokio::test]
async fn a_client_that_gives_up_while_the_upstream_is_dialled_is_not_kept() {
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
    {
        queued.push(stream);
    }
    let gate = Gate::to(address, "--connect-timeout 1h").await;
    testbed::tcp::reset(gate.connect().await);
    assert_eq!(gate.end().await, ("reset".into(), "downstream".into()));
}

#[tokio::test]
async fn a_row_that_leads_back_to_the_gate_is_refused() {
    let port = Refuse::start().await.addr().port();
    let gate = Gate::start(&format!("--forward {port}=localhost:{port}")).await;
    let mut client = gate.connect().await;
    assert!(read_all(&mut client).await.0.is_empty());
    assert_eq!(gate.end().await, ("connect_failed".into(), "gate".into()));
    assert_eq!(gate.events("closed").len(), 1, "it never connected to itself");
}
