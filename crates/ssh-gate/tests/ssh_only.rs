//! A row of protocol `ssh` carries SSH and nothing else: each side begins with its identification line.

#![allow(clippy::unwrap_used, reason = "a helper of a test is a test")]

#[path = "support/gate.rs"]
mod gate;
#[path = "support/scene.rs"]
mod scene;

use std::io::ErrorKind::ConnectionReset;
use std::time::{Duration, Instant};

use gate::{PATIENCE, cpu_ticks, read_all};
use scene::Scene;
use testbed::eventually_some;
use testbed::tcp::{pattern, reset};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const LINE: &[u8] = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n";
const OLD_LINE: &[u8] = b"SSH-1.99-old\n";

async fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut read = vec![0; bytes.len()];
    timeout(PATIENCE, stream.read_exact(&mut read)).await.expect("it arrives").unwrap();
    assert!(read == bytes, "{:?}", String::from_utf8_lossy(&read));
}

/// The two sides of a connection, the bad one first.
fn sides(scene: Scene, client_is_bad: bool) -> (gate::Gate, TcpStream, TcpStream, &'static str) {
    let Scene { gate, client, upstream, .. } = scene;
    if client_is_bad { (gate, client, upstream, "downstream") } else { (gate, upstream, client, "upstream") }
}

#[tokio::test]
async fn either_side_may_speak_first_and_its_line_does_not_wait_for_the_others() {
    for client_first in [true, false] {
        let (gate, mut first, mut second, _) = sides(Scene::ssh("").await, client_first);
        first.write_all(LINE).await.unwrap();
        expect(&mut second, LINE).await;
        second.write_all(OLD_LINE).await.unwrap();
        expect(&mut first, OLD_LINE).await;
        let bytes = pattern(300_000);
        for _ in 0..2 {
            let (sent, ()) = tokio::join!(first.write_all(&bytes), expect(&mut second, &bytes));
            sent.unwrap();
            std::mem::swap(&mut first, &mut second);
        }
        first.shutdown().await.unwrap();
        assert_eq!(read_all(&mut second).await, (vec![], Ok(())));
        second.shutdown().await.unwrap();
        assert_eq!(read_all(&mut first).await, (vec![], Ok(())));
        assert_eq!(gate.end().await.0, "eof");
    }
}

#[tokio::test]
async fn a_line_may_come_byte_by_byte_and_with_all_that_follows() {
    let Scene { gate, mut client, mut upstream, .. } = Scene::ssh("").await;
    for byte in LINE {
        client.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut more = LINE.to_vec();
    more.extend(pattern(100_000));
    upstream.write_all(&more).await.unwrap();
    expect(&mut upstream, LINE).await;
    expect(&mut client, &more).await;
    drop((client, upstream));
    let line = gate.closed().await;
    assert_eq!((&line["up_bytes"], &line["down_bytes"]), (&LINE.len().into(), &more.len().into()));
}

#[tokio::test]
async fn what_is_no_ssh_closes_both_sides_and_nothing_of_it_is_forwarded() {
    let long = format!("SSH-2.0-{}\r\n", "x".repeat(246));
    for (what, bad, ends, why) in [
        ("another protocol", "GET / HTTP/1.1\r\n", false, "does not begin with SSH-2.0- or SSH-1.99-"),
        ("its first byte is wrong", "\n", false, "does not begin"),
        ("an old version", "SSH-1.5-x\r\n", false, "does not begin"),
        ("a version to come", "SSH-2.1-x\r\n", false, "does not begin"),
        ("lower case", "ssh-2.0-x\r\n", false, "does not begin"),
        ("a line before the line", "Welcome\r\nSSH-2.0-x\r\n", false, "does not begin"),
        ("a line of 256 bytes", &long, false, "longer than 255 bytes"),
        ("a line without an end", &"SSH-2.0-".repeat(40), false, "longer than 255 bytes"),
        ("an end before a byte", "", true, "ended before"),
        ("an end in the line", "SSH-2.0-x\r", true, "ended before"),
    ] {
        for client_is_bad in [true, false] {
            let (gate, mut bad_side, mut good_side, side) = sides(Scene::ssh("").await, client_is_bad);
            good_side.write_all(LINE).await.unwrap();
            expect(&mut bad_side, LINE).await;
            bad_side.write_all(bad.as_bytes()).await.unwrap();
            if ends {
                bad_side.shutdown().await.unwrap();
            }
            let begin = Instant::now();
            assert_eq!(read_all(&mut good_side).await.0, b"", "{what}, {side}: nothing of it arrives");
            assert_eq!(read_all(&mut bad_side).await.0, b"", "{what}, {side}");
            assert!(begin.elapsed() < Duration::from_secs(5), "{what}, {side}: at once");
            assert_eq!(gate.end().await, ("not_ssh".into(), side.into()), "{what}");
            let line = gate.closed().await;
            assert!(line["error"].as_str().unwrap().contains(why), "{what}: {line}");
            let bytes = if client_is_bad { &line["up_bytes"] } else { &line["down_bytes"] };
            assert_eq!(*bytes, 0, "{what}, {side}");
        }
    }
}

#[tokio::test]
async fn a_line_of_255_bytes_passes() {
    let Scene { gate: _gate, mut client, mut upstream, .. } = Scene::ssh("").await;
    let line = format!("SSH-2.0-{}\r\n", "x".repeat(245));
    assert_eq!(line.len(), 255);
    client.write_all(line.as_bytes()).await.unwrap();
    expect(&mut upstream, line.as_bytes()).await;
}

#[tokio::test]
async fn a_reset_before_the_line_stays_a_reset_and_after_it_brings_its_bytes() {
    for client_resets in [true, false] {
        for begun in ["", "SSH-2.0-beg"] {
            let (gate, mut gone, mut left, side) = sides(Scene::ssh("").await, client_resets);
            left.write_all(LINE).await.unwrap();
            expect(&mut gone, LINE).await;
            gone.write_all(begun.as_bytes()).await.unwrap();
            reset(gone);
            assert_eq!(read_all(&mut left).await, (vec![], Err(ConnectionReset)), "{side}, {begun:?}");
            assert_eq!(gate.end().await, ("reset".into(), side.into()));
        }
        let (gate, mut gone, mut left, side) = sides(Scene::ssh("").await, client_resets);
        left.write_all(LINE).await.unwrap();
        expect(&mut gone, LINE).await;
        gone.write_all(LINE).await.unwrap();
        gone.write_all(b"last words").await.unwrap();
        reset(gone);
        let all = [LINE, b"last words"].concat();
        assert_eq!(read_all(&mut left).await, (all, Err(ConnectionReset)), "{side}");
        assert_eq!(gate.end().await, ("reset".into(), side.into()));
    }
}

#[tokio::test]
async fn without_both_lines_a_connection_ends_10_s_after_its_accept_and_costs_nothing_till_then() {
    let begin = Instant::now();
    let scene = Scene::ssh("").await;
    let (mut lone_client, mut silent_upstream) = scene.another().await;
    let (mut dribbling, mut lone_upstream) = scene.another().await;
    lone_client.write_all(LINE).await.unwrap();
    expect(&mut silent_upstream, LINE).await;
    lone_upstream.write_all(LINE).await.unwrap();
    dribbling.write_all(b"SSH-2.0-").await.unwrap();
    let before = cpu_ticks(&scene.gate);
    let dribble = async {
        while dribbling.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    timeout(Duration::from_secs(15), dribble).await.expect("a byte now and then does not help");
    let closed = eventually_some(PATIENCE, || async {
        Some(scene.gate.events("closed")).filter(|closed| closed.len() == 3)
    })
    .await;
    assert!(begin.elapsed() >= Duration::from_secs(9), "{:?}", begin.elapsed());
    let spent = cpu_ticks(&scene.gate) - before;
    assert!(spent <= 10, "{spent} ticks of 10 ms for half a line");
    let mut sides: Vec<_> = closed
        .iter()
        .map(|line| {
            assert_eq!(line["end"], "not_ssh");
            assert!(line["error"].as_str().unwrap().contains("within 10 s"), "{line}");
            let ms = line["duration_ms"].as_u64().unwrap();
            assert!((9_900..12_000).contains(&ms), "{line}");
            line["side"].as_str().unwrap()
        })
        .collect();
    sides.sort_unstable();
    assert_eq!(sides, ["downstream", "downstream", "upstream"]);
    assert_eq!(read_all(&mut silent_upstream).await.0, b"");
    assert_eq!(read_all(&mut lone_upstream).await.0, b"");
}

#[tokio::test]
async fn once_both_lines_are_there_silence_is_not_cut() {
    let Scene { gate: _gate, mut client, mut upstream, .. } = Scene::ssh("").await;
    client.write_all(LINE).await.unwrap();
    upstream.write_all(LINE).await.unwrap();
    expect(&mut client, LINE).await;
    expect(&mut upstream, LINE).await;
    let silence = timeout(Duration::from_millis(10_500), client.read(&mut [0; 1])).await;
    assert!(silence.is_err(), "{silence:?}");
    client.write_all(b"still here").await.unwrap();
    expect(&mut upstream, b"still here").await;
}
