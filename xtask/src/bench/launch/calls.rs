//! What a launch requests of the engine, counted on a socket between the two.
//!
//! The launcher sends each request over a connection of its own. So the first line of a connection is the
//! call, and its bytes are the bytes of the call.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::task::AbortOnDropHandle;

/// The calls of a launch and of everything after it, until the bottle is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Calls {
    /// How many of each kind, e.g. `POST /containers/*/start`.
    pub(super) kinds: BTreeMap<String, u64>,
    /// The bytes sent to the engine, headers included.
    pub(super) sent: u64,
}

impl Calls {
    /// All calls.
    pub(super) fn total(&self) -> u64 {
        self.kinds.values().sum()
    }

    /// Containers that were started.
    pub(super) fn started(&self) -> u64 {
        self.of("POST /containers/*/start")
    }

    /// Commands that were started in a running container.
    pub(super) fn execs(&self) -> u64 {
        self.of("POST /exec/*/start")
    }

    fn of(&self, kind: &str) -> u64 {
        self.kinds.get(kind).copied().unwrap_or(0)
    }

    /// The calls that are not among the others, e.g. `2 GET /networks`.
    pub(super) fn beyond(&self, others: &Calls) -> Vec<String> {
        let more =
            self.kinds.iter().filter_map(|(kind, count)| Some((kind, count.checked_sub(others.of(kind))?)));
        more.filter(|(_, count)| *count > 0).map(|(kind, count)| format!("{count} {kind}")).collect()
    }
}

/// A socket in front of the engine's.
#[derive(Debug)]
pub(super) struct Counted {
    socket: PathBuf,
    calls: Arc<Mutex<Calls>>,
    _accepting: AbortOnDropHandle<()>,
    _folder: TempDir,
}

impl Counted {
    /// Listens in front of the engine at that address; `None` where that is not a Unix socket.
    ///
    /// # Errors
    ///
    /// The socket could not be created.
    pub(super) fn listen(engine: &str) -> io::Result<Option<Self>> {
        let Some(engine) = engine.strip_prefix("unix://").map(PathBuf::from) else { return Ok(None) };
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("engine.sock");
        let listener = UnixListener::bind(&socket)?;
        let calls = Arc::new(Mutex::new(Calls::default()));
        let counted = Arc::clone(&calls);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (engine, calls) = (engine.clone(), Arc::clone(&counted));
                tokio::spawn(async move {
                    // A broken connection is reported by the side that needed it.
                    let _ = forward(client, engine, &calls).await;
                });
            }
        });
        let accepting = AbortOnDropHandle::new(accepting);
        Ok(Some(Self { socket, calls, _accepting: accepting, _folder: folder }))
    }

    /// Its address, as `DOCKER_HOST` takes it.
    pub(super) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The calls since the last time.
    pub(super) fn take(&self) -> Calls {
        std::mem::take(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Copies a connection both ways, and counts it.
async fn forward(client: UnixStream, engine: PathBuf, calls: &Mutex<Calls>) -> io::Result<()> {
    let (mut from_engine, mut to_engine) = UnixStream::connect(engine).await?.into_split();
    let (mut from_client, mut to_client) = client.into_split();
    let requests = async {
        let mut buffer = vec![0; 64 << 10];
        let mut first = true;
        loop {
            let read = from_client.read(&mut buffer).await?;
            if read == 0 {
                return to_engine.shutdown().await;
            }
            {
                let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
                calls.sent += u64::try_from(read).unwrap_or_default();
                // The client writes the line and the headers at once.
                if std::mem::take(&mut first) {
                    *calls.kinds.entry(kind(&buffer[..read])).or_default() += 1;
                }
            }
            to_engine.write_all(&buffer[..read]).await?;
        }
    };
    let responses = async {
        tokio::io::copy(&mut from_engine, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(requests, responses).map(drop)
}

/// The kind of a call by its first line: the method, and the path with `*` for what it names.
fn kind(request: &[u8]) -> String {
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match segments[..] {
        [one] => format!("{method} /{one}"),
        [one, act @ ("create" | "json" | "load")] => format!("{method} /{one}/{act}"),
        [one, _] => format!("{method} /{one}/*"),
        [one, .., act] => format!("{method} /{one}/*/{act}"),
        [] => method.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_known_by_its_path_without_names_and_ids() {
        for (line, expected) in [
            ("GET /version HTTP/1.1", "GET /version"),
            ("GET /containers/json?all=1&filters=x HTTP/1.1", "GET /containers/json"),
            ("POST /containers/create?name=a HTTP/1.1", "POST /containers/create"),
            ("POST /containers/0a1b/start HTTP/1.1", "POST /containers/*/start"),
            ("DELETE /containers/0a1b?force=1 HTTP/1.1", "DELETE /containers/*"),
            ("GET /images/localhost/claude-bottle/a:1/json HTTP/1.1", "GET /images/*/json"),
            ("POST /exec/0a1b/start HTTP/1.1", "POST /exec/*/start"),
            ("DELETE /networks/0a1b HTTP/1.1", "DELETE /networks/*"),
        ] {
            assert_eq!(kind(format!("{line}\r\nhost: localhost\r\n\r\n").as_bytes()), expected);
        }
    }

    #[test]
    fn the_calls_beyond_others_are_those_that_the_others_lack() {
        let calls = |kinds: &[(&str, u64)]| Calls {
            kinds: kinds.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            sent: 0,
        };
        let all = calls(&[("GET /info", 1), ("GET /networks", 4), ("POST /exec/*/start", 3)]);
        let fewer =
            calls(&[("GET /networks", 1), ("POST /exec/*/start", 3), ("PUT /containers/*/archive", 1)]);
        assert_eq!(all.beyond(&fewer), ["1 GET /info", "3 GET /networks"]);
        assert_eq!((all.total(), all.execs(), all.started()), (8, 3, 0));
    }

    #[tokio::test]
    async fn what_passes_the_socket_is_counted_and_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        let engine = UnixListener::bind(&path).unwrap();
        let counted = Counted::listen(&format!("unix://{}", path.display())).unwrap().unwrap();
        let mut client = UnixStream::connect(counted.url().trim_start_matches("unix://")).await.unwrap();
        client.write_all(b"GET /info HTTP/1.1\r\n\r\n").await.unwrap();
        let (mut accepted, _) = engine.accept().await.unwrap();
        let mut request = [0; 22];
        accepted.read_exact(&mut request).await.unwrap();
        accepted.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        drop(accepted);
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert_eq!(
            (&request[..], response.as_str()),
            (&b"GET /info HTTP/1.1\r\n\r\n"[..], "HTTP/1.1 200 OK\r\n\r\n")
        );
        assert_eq!(counted.take(), Calls { kinds: BTreeMap::from([("GET /info".to_owned(), 1)]), sent: 22 });
        assert_eq!(counted.take(), Calls::default());
        assert!(Counted::listen("tcp://127.0.0.1:2375").unwrap().is_none());
    }
}
