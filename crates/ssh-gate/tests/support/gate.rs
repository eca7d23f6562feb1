//! The built gate as a process: started, read, signalled, and gone when dropped.

#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testbed::eventually_some;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running gate.
pub struct Gate {
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: Arc<Mutex<Vec<String>>>,
    log_task: tokio::task::JoinHandle<()>,
    /// Its readiness line.
    pub ready: Value,
}

/// The gate's command with none of its variables set.
pub fn command(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssh-gate"));
    let ours = |name: &str| name.starts_with("SSH_GATE_") || name == "RUST_LOG";
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command.args(line.split_whitespace()).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a gate that is to end by itself.
pub async fn run(line: &str) -> Ran {
    ran(command(line)).await
}

/// Runs a command that is to end by itself.
pub async fn ran(mut command: Command) -> Ran {
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
    let Output { status, stdout, stderr } = output;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// What a gate said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Gate {
    /// Starts a gate without an admin endpoint and waits until it is ready.
    pub async fn start(line: &str) -> Self {
        Self::spawn(command(&format!("--admin off {line}")), None).await
    }

    /// A gate with one row, on a free port, to `upstream`.
    pub async fn to(upstream: SocketAddr, line: &str) -> Self {
        Self::start(&format!("--forward 0={upstream} {line}")).await
    }

    /// A gate with a bundle on its stdin.
    pub async fn bundled(bundle: &str, line: &str) -> Self {
        let mut command = command(&format!("--admin off --stdin-bundle {line}"));
        command.stdin(Stdio::piped());
        Self::spawn(command, Some(bundle)).await
    }

    /// Starts that command and waits until it is ready.
    pub async fn spawn(mut command: Command, bundle: Option<&str>) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = log.clone();
        let log_task = tokio::spawn(async move {
            while let Ok(Some(line)) = stderr.next_line().await {
                kept.lock().unwrap().push(line);
            }
        });
        if let Some(bundle) = bundle {
            let stdin = child.stdin.as_mut().unwrap();
            stdin.write_all(bundle.as_bytes()).await.unwrap();
            stdin.write_all(b"\n").await.unwrap();
        }
        let mut line = String::new();
        timeout(PATIENCE, stdout.read_line(&mut line)).await.expect("ready").unwrap();
        let ready = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error}: {line:?}: {:?}", log.lock().unwrap()));
        Self { child, stdout, log, log_task, ready }
    }

    /// Where its nth row listens.
    pub fn listener(&self, n: usize) -> SocketAddr {
        self.ready["listeners"][n].as_str().unwrap().parse().unwrap()
    }

    /// Connects to its first row.
    pub async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.listener(0)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// The log so far, as it stands.
    pub fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Whether all of the log has been read.
    pub fn log_ended(&self) -> bool {
        self.log_task.is_finished()
    }

    /// The log lines with that event so far.
    pub fn events(&self, event: &str) -> Vec<Value> {
        let lines = self.log.lock().unwrap();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["event"] == event).collect()
    }

    /// The first closing line.
    pub async fn closed(&self) -> Value {
        eventually_some(PATIENCE, || async { self.events("closed").into_iter().next() }).await
    }

    /// How the first connection ended: `end` and `side` of its closing line.
    pub async fn end(&self) -> (String, String) {
        let line = self.closed().await;
        (line["end"].as_str().unwrap().to_owned(), line["side"].as_str().unwrap().to_owned())
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Closes its stdin.
    pub fn cut_lifeline(&mut self) {
        drop(self.child.stdin.take());
    }

    pub async fn write_lifeline(&mut self, text: &str) {
        self.child.stdin.as_mut().unwrap().write_all(text.as_bytes()).await.unwrap();
    }

    /// Waits for its end; returns its exit code, and what came on stdout after the readiness line.
    pub async fn ended(&mut self) -> (Option<i32>, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).await.unwrap();
        (status.code(), rest)
    }
}

/// Reads to the end, which must come.
pub async fn read_all(stream: &mut TcpStream) -> (Vec<u8>, Result<(), std::io::ErrorKind>) {
    let mut all = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("it ends");
    (all, read.map(drop).map_err(|error| error.kind()))
}

/// User and system time so far, proc_pid_stat(5).
pub fn cpu_ticks(gate: &Gate) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", gate.pid().as_raw_nonzero())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
