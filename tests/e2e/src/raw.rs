//! What the engine shows to anyone who asks it: answers and events as they come, unread by us.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
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

/// An engine that gets stuck: what [`stuck_at`] listens for. Dropping it ends every connection.
#[derive(Debug)]
pub struct Stuck {
    reached: watch::Receiver<bool>,
    _connections: JoinSet<()>,
}

impl Stuck {
    /// Waits until it is stuck.
    ///
    /// # Panics
    ///
    /// That took too long.
    pub async fn reached(&self) {
        let mut reached = self.reached.clone();
        let stuck = timeout(DEADLINE, reached.wait_for(|reached| *reached)).await;
        assert!(matches!(stuck, Ok(Ok(_))), "the request did not come");
    }
}

/// Passes requests on to the engine until one mentions `path`: from then on nothing is answered.
///
/// # Panics
///
/// The socket cannot be made.
pub fn stuck_at(socket: &Path, path: &'static str) -> Stuck {
    let listener = UnixListener::bind(socket).unwrap_or_else(|error| panic!("no socket: {error}"));
    let (stuck, reached) = watch::channel(false);
    let mut accepting = JoinSet::new();
    accepting.spawn(async move {
        let stuck = Arc::new(stuck);
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            connections.spawn(pass(client, path, Arc::clone(&stuck)));
        }
    });
    Stuck { reached, _connections: accepting }
}

async fn pass(client: UnixStream, path: &str, stuck: Arc<watch::Sender<bool>>) {
    let engine = UnixStream::connect(socket()).await;
    let mut engine = engine.unwrap_or_else(|error| panic!("no engine: {error}"));
    let (mut from, mut to) = client.into_split();
    let (mut answers, mut requests) = engine.split();
    let forward = async {
        let mut piece = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut piece).await {
            let mentions = piece[..read].windows(path.len()).any(|window| window == path.as_bytes());
            if mentions || *stuck.borrow() {
                stuck.send_replace(true);
                std::future::pending::<()>().await;
            }
            if requests.write_all(&piece[..read]).await.is_err() {
                break;
            }
        }
        let _ = requests.shutdown().await;
    };
    tokio::join!(forward, tokio::io::copy(&mut answers, &mut to)).1.ok();
}

/// The engine's socket.
fn socket() -> String {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    host.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned()
}

/// Asks, and reads the head of the answer.
async fn ask(method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, BufReader<UnixStream>) {
    let socket = socket();
    let mut engine =
        UnixStream::connect(&socket).await.unwrap_or_else(|error| panic!("no engine at {socket}: {error}"));
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
