//! `connect` is what OpenSSH's ProxyCommand needs: bytes both ways, and the end of each way on its own.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod common;

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::{ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use common::{
    DEADLINE, GUEST, OPENSSH_IS_MISSING, Running, UNSHARE_IS_MISSING, eventually, openssh, unshare,
};
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt::set_socket_linger};

/// A guest that is connected, and everything around it.
struct Scene {
    guest: Running,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    upstream: TcpStream,
    address: SocketAddr,
}

#[track_caller]
fn scene() -> Scene {
    scene_at("127.0.0.1:0")
}

#[track_caller]
fn scene_at(listen: &str) -> Scene {
    let listener = TcpListener::bind(listen).unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = Command::new(GUEST);
    command.args(["connect", &address.to_string()]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let stderr = child.stderr.take().unwrap();
    let guest = Running(child);
    let upstream = accept(&listener);
    Scene { guest, stdin, stdout, stderr, upstream, address }
}

/// Accepts, with deadlines for this and for all that follows.
#[track_caller]
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let (stream, _) = eventually("a connection", || listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Reads so many bytes from a pipe, which has no deadline of its own; none means up to the end.
#[track_caller]
fn read<R: Read + Send + 'static>(mut pipe: R, count: Option<usize>) -> (R, Vec<u8>) {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = vec![0; count.unwrap_or_default()];
        let outcome = match count {
            Some(_) => pipe.read_exact(&mut bytes),
            None => pipe.read_to_end(&mut bytes).map(drop),
        };
        sender.send(outcome.map(|()| (pipe, bytes)))
    });
    receiver.recv_timeout(DEADLINE).expect("waited in vain for bytes").unwrap()
}

#[track_caller]
fn text(pipe: impl Read + Send + 'static) -> String {
    String::from_utf8(read(pipe, None).1).unwrap()
}

fn pattern(length: u32) -> Vec<u8> {
    (0..length).map(|n| (n ^ n >> 8 ^ n >> 16).to_le_bytes()[0]).collect()
}

fn connect(args: &[&str]) -> Output {
    Command::new(GUEST).arg("connect").args(args).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn failed(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    assert_eq!(String::from_utf8(output.stderr.clone()).unwrap(), format!("bottle-guest: {message}\n"));
}

#[test]
fn after_the_end_of_stdin_the_answer_still_comes() {
    let Scene { mut guest, mut stdin, stdout, stderr, mut upstream, .. } = scene();
    let answering = thread::spawn(move || {
        let mut question = Vec::new();
        upstream.read_to_end(&mut question).unwrap();
        // Only now, after the other side's end, comes the answer.
        upstream.write_all(&question).unwrap();
    });
    let question = pattern(3_000_000);
    stdin.write_all(&question).unwrap();
    drop(stdin);
    assert!(read(stdout, None).1 == question);
    answering.join().unwrap();
    assert_eq!(guest.ended().code(), Some(0));
    assert_eq!(text(stderr), "");
}

#[test]
fn after_the_upstream_s_end_stdout_is_closed_and_stdin_still_copied() {
    let Scene { mut guest, mut stdin, stdout, stderr, mut upstream, .. } = scene();
    upstream.write_all(b"bye").unwrap();
    upstream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(text(stdout), "bye");

    let much = pattern(3_000_000);
    let hearing = thread::spawn(move || {
        let mut heard = Vec::new();
        upstream.read_to_end(&mut heard).unwrap();
        heard
    });
    stdin.write_all(&much).unwrap();
    assert_eq!(guest.0.try_wait().unwrap(), None);
    drop(stdin);
    assert!(hearing.join().unwrap() == much);
    assert_eq!(guest.ended().code(), Some(0));
    assert_eq!(text(stderr), "");
}

/// Fails if the guest keeps a pipe locked, or bytes back, while it waits for more.
#[test]
fn each_side_hears_the_other_before_it_speaks_again() {
    let Scene { mut guest, mut stdin, mut stdout, mut upstream, .. } = scene();
    let mut heard = [0; 4];
    for round in 0..200_u32 {
        // Without a newline, twice: the second must not wait for the first to be read.
        upstream.write_all(&round.to_be_bytes()).unwrap();
        upstream.write_all(&round.to_be_bytes()).unwrap();
        for _ in 0..2 {
            let (pipe, bytes) = read(stdout, Some(4));
            stdout = pipe;
            assert_eq!(bytes, round.to_be_bytes());
        }
        stdin.write_all(&round.to_le_bytes()).unwrap();
        upstream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, round.to_le_bytes());
    }
    drop((stdin, upstream));
    assert_eq!(text(stdout), "");
    assert_eq!(guest.ended().code(), Some(0));
}

#[test]
fn both_ways_carry_at_once() {
    let Scene { mut guest, mut stdin, stdout, mut upstream, .. } = scene();
    let mut echo = upstream.try_clone().unwrap();
    let echoing = thread::spawn(move || {
        std::io::copy(&mut upstream, &mut echo).unwrap();
        echo.shutdown(Shutdown::Write).unwrap();
    });
    let much = pattern(20_000_000);
    let sent = much.clone();
    let sending = thread::spawn(move || stdin.write_all(&sent).unwrap());
    assert!(read(stdout, None).1 == much);
    sending.join().unwrap();
    echoing.join().unwrap();
    assert_eq!(guest.ended().code(), Some(0));
}

#[test]
fn a_reset_ends_it_at_once() {
    let Scene { mut guest, stdin: _stdin, stdout, stderr, upstream, address } = scene();
    set_socket_linger(&upstream, Some(Duration::ZERO)).unwrap();
    drop(upstream);
    assert_eq!(guest.ended().code(), Some(1));
    assert_eq!(text(stdout), "");
    assert_eq!(
        text(stderr),
        format!(
            "bottle-guest: connection to upstream {address} failed: \
             could not receive: Connection reset by peer (os error 104)\n"
        )
    );
}

#[test]
fn a_reset_after_the_upstream_s_end_ends_it_at_once() {
    let Scene { mut guest, stdin: _stdin, stdout, stderr, upstream, address } = scene();
    upstream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(text(stdout), "");
    assert_eq!(guest.0.try_wait().unwrap(), None);
    set_socket_linger(&upstream, Some(Duration::ZERO)).unwrap();
    drop(upstream);
    assert_eq!(guest.ended().code(), Some(1));
    let told = text(stderr);
    let expected =
        format!("bottle-guest: connection to upstream {address} failed: the upstream accepts no more data: ");
    assert!(told.starts_with(&expected), "{told}");
}

/// What was received waits for a program that does not read. If that program is writing, it sees the
/// end, and does not wait for ever.
#[test]
fn a_reset_closes_stdin_while_stdout_is_full() {
    let Scene { mut guest, mut stdin, stdout, mut upstream, .. } = scene();
    // Full everywhere: nothing fits for a tenth of a second.
    upstream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    while upstream.write(&[7; 1 << 16]).is_ok() {}
    set_socket_linger(&upstream, Some(Duration::ZERO)).unwrap();
    drop(upstream);

    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let error = loop {
            if let Err(error) = stdin.write_all(&[7; 1 << 16]) {
                break error;
            }
        };
        sender.send(error.kind())
    });
    assert_eq!(receiver.recv_timeout(DEADLINE), Ok(ErrorKind::BrokenPipe));
    let received = read(stdout, None).1;
    assert!(received.len() > 1 << 16 && received.iter().all(|&byte| byte == 7));
    assert_eq!(guest.ended().code(), Some(1));
}

#[test]
fn a_closed_stdout_ends_it() {
    let Scene { mut guest, stdin: _stdin, stdout, stderr, mut upstream, address } = scene();
    drop(stdout);
    upstream.write_all(b"hello?").unwrap();
    assert_eq!(guest.ended().code(), Some(1));
    assert_eq!(
        text(stderr),
        format!(
            "bottle-guest: connection to upstream {address} failed: \
             could not write to stdout: Broken pipe (os error 32)\n"
        )
    );
}

#[test]
fn an_ipv6_literal_is_accepted() {
    let Scene { mut guest, mut stdin, stdout, mut upstream, address, .. } = scene_at("[::1]:0");
    assert!(address.is_ipv6());
    stdin.write_all(b"?").unwrap();
    drop(stdin);
    assert_eq!(read(upstream.try_clone().unwrap(), Some(1)).1, b"?");
    upstream.write_all(b"!").unwrap();
    drop(upstream);
    assert_eq!(text(stdout), "!");
    assert_eq!(guest.ended().code(), Some(0));
}

/// A bound socket that does not listen: connections are refused, and the port stays ours.
fn refusing() -> (impl Sized, SocketAddr) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
    (socket, address)
}

#[test]
fn a_refused_connection_is_told_with_its_address() {
    let (_socket, address) = refusing();
    failed(
        &connect(&[&address.to_string()]),
        &format!("could not connect to upstream {address}: Connection refused (os error 111)"),
    );
}

#[test]
fn a_name_s_addresses_are_told_with_their_errors() {
    let (_socket, address) = refusing();
    let upstream = format!("localhost:{}", address.port());
    let output = connect(&[&upstream]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.starts_with(&format!("bottle-guest: could not connect to upstream {upstream}: ")), "{told}");
    assert!(told.contains(&format!("{address}: Connection refused (os error 111)")), "{told}");
}

#[test]
fn a_name_that_does_not_resolve_is_told() {
    let args = ["--net", GUEST, "connect", "ssh-gate.invalid:2201"];
    let output = unshare().args(args).output().expect(UNSHARE_IS_MISSING);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.starts_with("bottle-guest: could not resolve `ssh-gate.invalid`: "), "{told}");
}

#[test]
fn openssh_speaks_through_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let child = openssh("ssh")
        .args(["-F", "none", "-o", "BatchMode=yes", "-o", &format!("ProxyCommand={GUEST} connect [%h]:%p")])
        .args(["-p", &port, "nobody@127.0.0.1", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect(OPENSSH_IS_MISSING);
    let mut ssh = Running(child);
    let upstream = accept(&listener);
    let mut lines = BufReader::new(upstream.try_clone().unwrap());
    let mut identification = String::new();
    lines.read_line(&mut identification).unwrap();
    assert!(identification.starts_with("SSH-2.0-"), "{identification}");

    // Its key exchange follows only when ours has arrived: SSH_MSG_KEXINIT, after two lengths.
    (&upstream).write_all(b"SSH-2.0-test\r\n").unwrap();
    let mut packet = [0; 6];
    lines.read_exact(&mut packet).unwrap();
    assert_eq!(packet[5], 20);
    // ssh reads the end of stdout, and ends.
    upstream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ssh.ended().code(), Some(255));
    // The guest follows: stdin has ended.
    lines.read_to_end(&mut Vec::new()).unwrap();
}
