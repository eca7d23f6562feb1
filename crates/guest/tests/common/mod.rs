//! The scene of the guest's tests: the built binary, a real ssh-agent, and framed messages.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(unreachable_pub, reason = "a module of each test, not a library")]
#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The binary under test.
pub const GUEST: &str = env!("CARGO_BIN_EXE_bottle-guest");

/// Every wait ends with this.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The answer to what may not pass.
pub const FAILURE: [u8; 1] = [5];

/// SSH_AGENTC_REQUEST_IDENTITIES.
pub const LIST: [u8; 1] = [11];

/// A process of ours, killed with the test.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub fn ended(&mut self) -> ExitStatus {
        eventually("the process to end", || self.0.try_wait().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until there is an answer.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Starts a relay and waits for its ready line, which is returned.
#[track_caller]
pub fn relay(args: &[&str]) -> (Running, String) {
    let mut command = Command::new(GUEST);
    command.arg("relay").args(args);
    ready(&mut command)
}

/// Starts a command and waits for its first line on stdout.
#[track_caller]
pub fn ready(command: &mut Command) -> (Running, String) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let running = Running(child);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = receiver.recv_timeout(DEADLINE).expect("no line on stdout in time");
    assert!(line.ends_with('\n'), "not ready: {line:?}");
    (running, line)
}

/// A folder with a public socket in it, filtered, in front of an ssh-agent's.
#[derive(Debug)]
pub struct Scene {
    pub folder: TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn address(&self, name: &str) -> String {
        format!("unix:{}", self.path(name).display())
    }

    /// A relay from `public` to `agent`.
    #[track_caller]
    pub fn relay(&self, more: &[&str]) -> Running {
        let (listen, connect) = (self.address("public"), self.address("agent"));
        let args = [&["--listen", &listen, "--connect", &connect], more].concat();
        let (running, line) = relay(&args);
        assert_eq!(line, format!("{{\"event\":\"ready\",\"listen\":\"{listen}\"}}\n"));
        running
    }

    /// A connection to `public`, with deadlines.
    #[track_caller]
    pub fn connect(&self) -> UnixStream {
        connect(&self.path("public"))
    }

    /// The real ssh-agent, at `agent`.
    #[track_caller]
    pub fn ssh_agent(&self) -> Running {
        let socket = self.path("agent");
        let child = openssh("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect(OPENSSH_IS_MISSING);
        let running = Running(child);
        eventually("the ssh-agent", || UnixStream::connect(&socket).ok());
        running
    }

    /// A new key pair; returns the private key's file.
    #[track_caller]
    pub fn key(&self, name: &str) -> PathBuf {
        let file = self.path(name);
        let made = openssh("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
            .arg(&file)
            .output();
        assert!(made.expect(OPENSSH_IS_MISSING).status.success());
        file
    }

    /// `ssh-add` against one of the sockets.
    #[track_caller]
    pub fn ssh_add(&self, socket: &str, args: &[&str]) -> Output {
        openssh("ssh-add")
            .args(args)
            .env("SSH_AUTH_SOCK", self.path(socket))
            .output()
            .expect(OPENSSH_IS_MISSING)
    }

    /// What the ssh-agent itself holds, by comment.
    #[track_caller]
    pub fn held(&self) -> Vec<String> {
        let listed = self.ssh_add("agent", &["-L"]);
        if !listed.status.success() {
            return Vec::new();
        }
        let text = String::from_utf8(listed.stdout).unwrap();
        text.lines().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect()
    }

    /// A stand-in for the ssh-agent at `agent`: answers every message by `answer`, and tells
    /// what arrived.
    pub fn recorder(&self, answer: fn(&[u8]) -> Vec<u8>) -> mpsc::Receiver<Vec<u8>> {
        let listener = UnixListener::bind(self.path("agent")).unwrap();
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, sender) = (stream.unwrap(), sender.clone());
                thread::spawn(move || {
                    while let Some(message) = receive(&mut stream) {
                        let answer = answer(&message);
                        let _ = sender.send(message);
                        send(&mut stream, &answer);
                    }
                });
            }
        });
        receiver
    }
}

/// `unshare`, as root or as the root of a user namespace.
pub fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.stdin(Stdio::null());
    command
}

/// What to do about it.
pub const UNSHARE_IS_MISSING: &str = "unshare is needed for this test: install Debian's util-linux";

/// A tool of OpenSSH's that asks nobody anything.
pub fn openssh(tool: &str) -> Command {
    let mut command = Command::new(tool);
    command.stdin(Stdio::null()).env("SSH_ASKPASS_REQUIRE", "never").env_remove("SSH_AUTH_SOCK");
    command
}

/// What to do about it.
pub const OPENSSH_IS_MISSING: &str =
    "OpenSSH's client tools are needed for this test: install Debian's openssh-client";

#[track_caller]
pub fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Puts the length in front.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(message.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(message);
    frame
}

pub fn send(stream: &mut UnixStream, message: &[u8]) {
    let _ = stream.write_all(&framed(message));
}

/// The next message, or nothing at the end.
pub fn receive(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// Asks and takes the answer.
#[track_caller]
pub fn ask(stream: &mut UnixStream, message: &[u8]) -> Vec<u8> {
    send(stream, message);
    receive(stream).expect("closed without an answer")
}

/// Waits until the peer closes, and demands that it says nothing before.
#[track_caller]
pub fn assert_closed(stream: &mut UnixStream) {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(0) => {}
        Ok(_) => panic!("answered with {byte:?} instead of closing"),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("not closed: {error}"),
    }
}

/// An SSH string.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    framed(bytes)
}
