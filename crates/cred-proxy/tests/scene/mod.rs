//! The scene of every test: the built binary, its bundle over stdin, origins of the test's own.

#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a helper of tests is a test, and each uses a part of it"
)]

pub mod program;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use http_body_util::BodyExt;
use serde_json::{Value, json};
use testbed::{
    eventually_some,
    https::{Content, Origin, full},
    pki::Ca,
    raw::{Answer, RawClient},
};

/// The token of every route, if a test does not say otherwise.
pub const TOKEN: &str = "tok-s3cret/01+23";

/// How long what must happen may take.
pub const SOON: Duration = Duration::from_secs(10);

/// A running proxy.
pub struct Scene {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

/// A route at a private upstream, with `changes`.
pub fn route(path: &str, upstream: SocketAddr, changes: &Value) -> Value {
    let mut route = json!({
        "path": path, "upstream": format!("https://{upstream}"), "auth": {"scheme": "bearer"},
        "token_env": "T", "allow_private_upstream": true,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        route[key] = value.clone();
    }
    route
}

/// An origin that answers with what was uploaded.
pub async fn echo(ca: &Ca) -> Origin {
    Origin::answering(&ca.server(&["127.0.0.1"]), |request: http::Request<Content>| async {
        match request.into_body().collect().await {
            Ok(content) => http::Response::new(full(content.to_bytes())),
            Err(_) => testbed::https::text(http::StatusCode::BAD_REQUEST, "cut"),
        }
    })
    .await
}

/// A bundle of these routes that trusts `ca`.
pub fn bundle(routes: &[Value], ca: &Ca) -> Value {
    json!({"version": 1, "table": {"routes": routes}, "tokens": {"T": TOKEN}, "ca": [ca.pem()]})
}

pub fn command(args: &[&str]) -> Command {
    command_of(Path::new(env!("CARGO_BIN_EXE_cred-proxy")), args)
}

/// As [`command`], of another build.
pub fn command_of(binary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary);
    command.args(args).env("RUST_LOG", "trace");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to its end with this on stdin.
pub fn run(mut command: Command, stdin: &str) -> Output {
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

impl Scene {
    pub fn start(bundle: &Value, args: &[&str]) -> Self {
        let all = ["--stdin-bundle", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Self::spawn(command(&[&all, args].concat()), &format!("{bundle}\n"))
    }

    /// Spawns, writes `stdin` and keeps it open, and waits for the readiness line.
    pub fn spawn(mut command: Command, stdin: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(stdin.as_bytes()).unwrap();
        Self::ready(child, Some(pipe))
    }

    /// Spawns with the stdin that the command has.
    pub fn spawn_with_stdin_set(mut command: Command) -> Self {
        Self::ready(command.spawn().unwrap(), None)
    }

    fn ready(mut child: Child, stdin: Option<ChildStdin>) -> Self {
        let log = Arc::new(Mutex::new(String::new()));
        let (mut stderr, keep) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut buffer) {
                keep.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let Ok(ready) = serde_json::from_str::<Value>(&line) else {
            let _ = child.wait();
            panic!("not ready: {line:?} {}", log.lock().unwrap());
        };
        assert_eq!((&ready["event"], &ready["name"]), (&json!("ready"), &json!("cred-proxy")));
        let addr = ready["listeners"][0].as_str().unwrap().parse().unwrap();
        let admin = ready["admin"].as_str().map_or(addr, |admin| admin.parse().unwrap());
        Self { child, stdin, stdout, addr, admin, log }
    }

    pub async fn client(&self) -> RawClient {
        RawClient::connect(self.addr).await
    }

    /// A request on a connection of its own; nothing in the answer may be a token.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> std::io::Result<Answer> {
        let answer = self.client().await.ask(request).await?;
        assert_no_token(&answer.all());
        Ok(answer)
    }

    /// A plain GET.
    pub async fn get(&self, target: &str) -> Answer {
        self.ask(get(target)).await.unwrap()
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The request lines of the log, once there are `n`.
    pub async fn requests_logged(&self, n: usize) -> Vec<Value> {
        eventually_some(SOON, || async {
            let log = self.log();
            let lines = log.lines().filter(|line| line.contains("\"event\":\"request\""));
            let lines: Vec<Value> = lines.filter_map(|line| serde_json::from_str(line).ok()).collect();
            (lines.len() >= n).then_some(lines)
        })
        .await
    }

    pub fn say(&mut self, line: &str) {
        self.stdin.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
    }

    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub async fn exit(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        eventually_some(SOON, || async { child.lock().unwrap().try_wait().unwrap() }).await
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let mut rest = String::new();
            let _ = self.stdout.read_to_string(&mut rest);
            assert_eq!(rest, "", "stdout is for the readiness line and nothing else");
            assert_no_token(&self.log());
        }
    }
}

pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

pub fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// In none of the forms that could give a token away.
pub fn assert_no_token(text: &str) {
    for form in [
        TOKEN,
        "tok-s3cret",
        "dG9rLXMzY3JldC8wMSsyM",
        "Z2l0OnRvay1zM2NyZXQvMDErMjM",
        "s3cret%2F01",
        "s3cret\\/01",
    ] {
        assert!(!text.contains(form), "found {form:?} in {text}");
    }
}
