//! Without a filter a relay carries any bytes, and the end of each way on its own.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod common;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::net::UnixListener,
    thread,
};

use common::{DEADLINE, Scene, relay};

#[test]
fn a_half_closed_client_still_gets_the_answer() {
    let scene = Scene::new();
    let upstream = UnixListener::bind(scene.path("agent")).unwrap();
    let _relay = scene.relay(&[]);
    let answering = thread::spawn(move || {
        let (mut stream, _) = upstream.accept().unwrap();
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        // Only now, after the other side's end, comes the answer.
        stream.write_all(&question).unwrap();
    });
    let question: Vec<u8> = (0..1_000_000u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut stream = scene.connect();
    stream.write_all(&question).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer == question);
    answering.join().unwrap();
}

#[test]
fn a_half_closed_upstream_still_hears_the_client() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = format!("tcp:{}", upstream.local_addr().unwrap());
    let (_relay, line) = relay(&["--listen", "tcp:127.0.0.1:0", "--connect", &connect]);
    let bound = line.trim_end().strip_prefix("{\"event\":\"ready\",\"listen\":\"tcp:").unwrap();
    let mut stream = TcpStream::connect(bound.strip_suffix("\"}").unwrap()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();

    let (mut accepted, _) = upstream.accept().unwrap();
    accepted.set_read_timeout(Some(DEADLINE)).unwrap();
    accepted.write_all(b"bye").unwrap();
    accepted.shutdown(Shutdown::Write).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "bye");

    stream.write_all(b"one more thing").unwrap();
    drop(stream);
    heard.clear();
    accepted.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "one more thing");
}

#[test]
fn a_refused_upstream_closes_the_client() {
    let scene = Scene::new();
    let _relay = scene.relay(&[]);
    common::assert_closed(&mut scene.connect());
}
