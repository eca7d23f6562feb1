//! What the engine shows to anyone who asks it: answers and events as they come, unread by us.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// How long an answer may take; that of a container's whole file system takes longest.
const DEADLINE: Duration = Duration::from_secs(60);

/// The body of the engine's answer to `GET PATH`, whatever its status.
///
/// # Panics
///
/// The engine does not answer.
pub async fn shown(path: &str) -> Vec<u8> {
    told("GET", path, "", b"").await.1
}

/// The status and the body of the engine's answer to a request; `kind` is the media type of `body`.
///
/// # Panics
///
/// The engine does not answer.
pub async fn told(method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let whole = async {
        let (status, mut from) = ask(method, path, kind, body).await;
        let mut answer = Vec::new();
        from.read_to_end(&mut answer).await.map(|_| (status, answer))
    };
    let answer = timeout(DEADLINE, whole).await.unwrap_or_else(|_| panic!("no whole answer to {path}"));
    answer.unwrap_or_else(|error| panic!("no answer to {path}: {error}"))
}

/// The engine's events, from the moment of [`Events::listen`] on.
#[derive(Debug)]
pub struct Events(BufReader<UnixStream>);

impl Events {
    /// Begins to listen.
    ///
    /// # Panics
    ///
    /// The engine does not answer.
    pub async fn listen() -> Self {
        Self(ask("GET", "/events", "", b"").await.1)
    }

    /// Waits for the next event that mentions `what`; `None` when none came within `time`.
    pub async fn next(&mut self, what: &str, time: Duration) -> Option<String> {
        let next = async {
            loop {
                let mut line = String::new();
                match self.0.read_line(&mut line).await {
                    Ok(1..) if line.contains(what) => return Some(line),
                    Ok(1..) => {}
                    _ => return None,
                }
            }
        };
        timeout(time, next).await.ok().flatten()
    }
}

/// Asks, and reads the head of the answer.
async fn ask(method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, BufReader<UnixStream>) {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock");
    let mut engine =
        UnixStream::connect(socket).await.unwrap_or_else(|error| panic!("no engine at {socket}: {error}"));
    // HTTP/1.0 is answered without chunks, and ends with the connection.
    let content = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n"),
    };
    let head = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\n{content}\r\n");
    let asked = engine.write_all(&[head.as_bytes(), body].concat()).await;
    asked.unwrap_or_else(|error| panic!("the engine cannot be asked: {error}"));
    let mut answer = BufReader::new(engine);
    let (mut line, mut status) = (String::from("head"), None);
    while !line.trim().is_empty() {
        line.clear();
        let read = timeout(DEADLINE, answer.read_line(&mut line)).await;
        assert!(matches!(read, Ok(Ok(1..))), "no answer to {path}");
        status = status.or_else(|| line.split(' ').nth(1)?.parse().ok());
    }
    (status.unwrap_or_else(|| panic!("no status in the answer to {path}")), answer)
}
