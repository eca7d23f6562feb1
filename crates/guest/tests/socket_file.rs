//! The socket's file: its mode, its predecessor, and its end.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod common;

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    process::{Command, Output, Stdio},
};

use common::{GUEST, LIST, Scene, ask, assert_closed, eventually};
use rustix::process::Signal;

fn echo(message: &[u8]) -> Vec<u8> {
    message.to_vec()
}

fn mode(scene: &Scene) -> u32 {
    fs::metadata(scene.path("public")).unwrap().permissions().mode() & 0o7777
}

/// A relay that is not expected to become ready.
fn refused(scene: &Scene) -> Output {
    let (listen, connect) = (scene.address("public"), scene.address("agent"));
    let args = ["relay", "--listen", &listen, "--connect", &connect];
    Command::new(GUEST).args(args).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_socket_has_the_mode_that_was_asked_for() {
    for (asked, given) in [(&["--mode", "0666"][..], 0o666), (&["--mode", "640"], 0o640), (&[], 0o600)] {
        let scene = Scene::new();
        let _relay = scene.relay(asked);
        assert_eq!(mode(&scene), given);
    }
}

#[test]
fn a_stale_socket_is_replaced() {
    let scene = Scene::new();
    drop(UnixListener::bind(scene.path("public")).unwrap());
    let _arrived = scene.recorder(echo);
    let mut killed = scene.relay(&["--ssh-agent"]);
    killed.0.kill().unwrap();
    killed.ended();
    assert!(scene.path("public").exists());
    let _relay = scene.relay(&["--ssh-agent", "--mode", "0666"]);
    assert_eq!(mode(&scene), 0o666);
    assert_eq!(ask(&mut scene.connect(), &LIST), LIST);
}

#[test]
fn a_living_socket_is_left_alone() {
    let scene = Scene::new();
    let _arrived = scene.recorder(echo);
    let _relay = scene.relay(&["--ssh-agent"]);
    let second = refused(&scene);
    assert_eq!(second.status.code(), Some(1));
    assert_eq!(second.stdout, b"");
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(told.starts_with("bottle-guest: could not bind listener unix:"), "{told}");
    assert!(told.ends_with(": somebody listens there already\n"), "{told}");
    assert_eq!(ask(&mut scene.connect(), &LIST), LIST);
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let scene = Scene::new();
    fs::write(scene.path("public"), "precious").unwrap();
    let refused = refused(&scene);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(fs::read(scene.path("public")).unwrap(), b"precious");
}

#[test]
fn sigterm_and_sigint_drain_and_remove_the_file() {
    for signal in [Signal::TERM, Signal::INT] {
        let scene = Scene::new();
        let _arrived = scene.recorder(echo);
        let mut relay = scene.relay(&["--ssh-agent"]);
        let mut idle = scene.connect();
        assert_eq!(ask(&mut idle, &LIST), LIST);
        relay.signal(signal);
        assert_closed(&mut idle);
        assert_eq!(relay.ended().code(), Some(0));
        assert!(!scene.path("public").exists());
    }
}

#[test]
fn an_open_connection_is_cut_after_two_seconds() {
    let scene = Scene::new();
    let _upstream = UnixListener::bind(scene.path("agent")).unwrap();
    let mut relay = scene.relay(&[]);
    let mut open = scene.connect();
    let begun = std::time::Instant::now();
    relay.signal(Signal::TERM);
    assert_closed(&mut open);
    assert_eq!(relay.ended().code(), Some(0));
    assert!(begun.elapsed().as_secs() < 5);
}

#[test]
fn a_second_signal_ends_at_once() {
    let scene = Scene::new();
    let upstream = UnixListener::bind(scene.path("agent")).unwrap();
    let mut relay = scene.relay(&[]);
    let _open = scene.connect();
    let _carried = upstream.accept().unwrap();
    relay.signal(Signal::TERM);
    eventually("the socket to be removed", || (!scene.path("public").exists()).then_some(()));
    relay.signal(Signal::TERM);
    assert_eq!(relay.ended().code(), Some(1));
}

#[test]
fn another_s_file_at_the_same_path_is_not_removed() {
    let scene = Scene::new();
    let mut relay = scene.relay(&[]);
    fs::remove_file(scene.path("public")).unwrap();
    fs::write(scene.path("public"), "another's").unwrap();
    relay.signal(Signal::TERM);
    relay.ended();
    assert_eq!(fs::read(scene.path("public")).unwrap(), b"another's");
}

/// As after an exec whose connection was dropped: the reader of both pipes has gone.
#[test]
fn nobody_reading_stdout_and_stderr_does_not_end_it() {
    let scene = Scene::new();
    let mut command = Command::new(GUEST);
    command.args(["relay", "--ssh-agent", "--listen", &scene.address("public")]);
    command.args(["--connect", &scene.address("agent")]).stderr(Stdio::piped());
    let (mut relay, _) = common::ready(&mut command);
    drop(relay.0.stderr.take());
    relay.signal(Signal::HUP);
    // Nobody listens upstream: worth a note, which nobody can read.
    for _ in 0..3 {
        let mut stream = scene.connect();
        common::send(&mut stream, &LIST);
        assert_closed(&mut stream);
    }
    let _arrived = scene.recorder(echo);
    assert_eq!(ask(&mut scene.connect(), &LIST), LIST);
    assert!(relay.0.try_wait().unwrap().is_none());
}

/// A reader that exists and does not read: a blocking note would stall every connection.
#[test]
fn a_stalled_stderr_does_not_stall_it() {
    let scene = Scene::new();
    let (_unread, stderr) = std::io::pipe().unwrap();
    // Full to the last byte: not even a short note fits.
    rustix::io::ioctl_fionbio(&stderr, true).unwrap();
    while rustix::io::write(&stderr, &[b'x'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&stderr, false).unwrap();
    let mut command = Command::new(GUEST);
    command.args(["relay", "--ssh-agent", "--listen", &scene.address("public")]);
    command.args(["--connect", &scene.address("agent")]).stderr(stderr);
    let (_relay, _) = common::ready(&mut command);
    let mut stream = scene.connect();
    common::send(&mut stream, &LIST);
    assert_closed(&mut stream);
    let _arrived = scene.recorder(echo);
    assert_eq!(ask(&mut scene.connect(), &LIST), LIST);
}
