//! The HTTP server behind the forwarders that are measured: TLS, HTTP/1.1, and nothing slow.
//!
//! | request | answer |
//! |---|---|
//! | `GET /json` | [`JSON`], 125 bytes |
//! | `GET /bytes/N` | N bytes of [`Pattern`] |
//! | `POST /upload` | the count and [`Checksum`] of what arrived, see [`receipt`] |
//! | `GET /sse` | an event every 10 ms with its number and the clock when it was sent |
//! | `GET /stats` | how many connections and requests there were |
//!
//! With `?close` the connection ends with the answer, so that the forwarder must open another.
//! A request without exactly the expected credential is answered 401 and the connection closed.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

use super::{
    clock,
    message::{Body, Framing, request_head},
    pattern::{Checksum, Pattern},
};

/// What every connection of one origin shares.
pub struct Origin {
    tls: Option<TlsAcceptor>,
    authorization: Option<String>,
    connections: AtomicU64,
    requests: AtomicU64,
}

/// The small answer.
pub const JSON: &str = concat!(
    r#"{"id":"msg_01HZX3V9Q2","object":"message","role":"assistant","#,
    r#""text":"A small answer, as most are.","usage":{"in":12,"out":7}}"#
);

/// The field of an answer that says that this origin gave it.
pub const MARK: &str = "x-forward-load: origin";

/// The answer to an upload.
pub fn receipt(content: &Checksum) -> String {
    format!("{{\"bytes\":{},\"checksum\":\"{:016x}\"}}", content.count(), content.sum())
}

/// What is left of a request once its head is read.
struct Request {
    route: Route,
    framing: Framing,
    close: bool,
}

enum Route {
    Json,
    Bytes(u64),
    Upload,
    Events,
    Stats,
    NotFound,
    NoCredential,
}

impl Origin {
    /// An origin that expects this value of `Authorization`, or no credential at all, and uses
    /// TLS, or plain text for tests.
    pub fn new(tls: Option<Arc<ServerConfig>>, authorization: Option<String>) -> Arc<Self> {
        Arc::new(Self {
            tls: tls.map(TlsAcceptor::from),
            authorization,
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        })
    }

    /// Serves one connection until it ends.
    pub async fn serve(&self, stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        // An answer is whole when it is sent; waiting for more of it would only delay it.
        let _ = stream.set_nodelay(true);
        // How a connection ends is the forwarder's affair; the load side sees what matters of it.
        let _ = match &self.tls {
            None => self.converse(stream).await,
            Some(tls) => match tls.accept(stream).await {
                Ok(stream) => self.converse(stream).await,
                Err(error) => Err(error),
            },
        };
    }

    async fn converse(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let mut input = Vec::with_capacity(READ_SIZE);
        loop {
            let (request, len) = loop {
                if let Some(head) = request_head(&input).map_err(io::Error::other)? {
                    break (self.understand(&head), head.len);
                }
                if stream.read_buf(&mut input).await? == 0 {
                    return Ok(());
                }
            };
            input.drain(..len);
            self.requests.fetch_add(1, Ordering::Relaxed);
            let refused = matches!(request.route, Route::NoCredential);
            let content = if refused {
                Checksum::default()
            } else {
                receive(&mut stream, &mut input, request.framing).await?
            };
            self.answer(&mut stream, &request, &content).await?;
            if request.close || refused {
                return stream.shutdown().await;
            }
        }
    }

    fn understand(&self, head: &super::message::RequestHead<'_>) -> Request {
        let (path, query) = head.target.split_once('?').unwrap_or((head.target, ""));
        let admitted = match &self.authorization {
            Some(expected) => !head.authorized_twice && head.authorization == Some(expected),
            None => true,
        };
        let route = match path {
            _ if !admitted => Route::NoCredential,
            "/json" => Route::Json,
            "/upload" => Route::Upload,
            "/sse" => Route::Events,
            "/stats" => Route::Stats,
            _ => match path.strip_prefix("/bytes/").and_then(|size| size.parse().ok()) {
                Some(size) => Route::Bytes(size),
                None => Route::NotFound,
            },
        };
        let close = head.close || query.split('&').any(|part| part == "close");
        Request { route, framing: head.framing, close }
    }

    async fn answer(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        request: &Request,
        content: &Checksum,
    ) -> io::Result<()> {
        let json = "application/json";
        let (status, kind, text) = match request.route {
            Route::Bytes(size) => return send_bytes(stream, size, request.close).await,
            Route::Events => return send_events(stream, request.close).await,
            Route::Json => ("200 OK", json, JSON.into()),
            Route::Upload => ("200 OK", json, receipt(content)),
            Route::Stats => ("200 OK", json, self.stats()),
            Route::NotFound => ("404 Not Found", json, r#"{"error":"no such path"}"#.into()),
            Route::NoCredential => ("401 Unauthorized", json, r#"{"error":"no credential"}"#.into()),
        };
        let mut answer = head(status, kind, &format!("Content-Length: {}", text.len()), request.close);
        answer.push_str(&text);
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await
    }

    fn stats(&self) -> String {
        let (connections, requests) = (&self.connections, &self.requests);
        serde_json::json!({
            "connections": connections.load(Ordering::Relaxed), "requests": requests.load(Ordering::Relaxed)
        })
        .to_string()
    }
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

fn head(status: &str, kind: &str, framing: &str, close: bool) -> String {
    let close = if close { "Connection: close\r\n" } else { "" };
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{MARK}\r\n{framing}\r\n{close}\r\n")
}

/// Reads a body to its end and sums it up. What follows it stays in `input`.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    input: &mut Vec<u8>,
    framing: Framing,
) -> io::Result<Checksum> {
    let (mut body, mut content) = (Body::new(framing), Checksum::default());
    if body.is_done() {
        return Ok(content);
    }
    input.reserve(BODY_READ_SIZE);
    loop {
        let taken = body.read(input, |piece| content.add(piece)).map_err(io::Error::other)?;
        input.drain(..taken);
        if body.is_done() {
            return Ok(content);
        }
        if stream.read_buf(input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn send_bytes(stream: &mut (impl AsyncWrite + Unpin), size: u64, close: bool) -> io::Result<()> {
    let head = head("200 OK", "application/octet-stream", &format!("Content-Length: {size}"), close);
    let mut pattern = Pattern::default();
    // The head goes with the first piece, as one write.
    let mut first = head.into_bytes();
    let mut left = size;
    let piece = pattern.next(left);
    first.extend_from_slice(piece);
    left -= piece.len() as u64;
    stream.write_all(&first).await?;
    while left > 0 {
        let piece = pattern.next(left);
        left -= piece.len() as u64;
        stream.write_all(piece).await?;
    }
    stream.flush().await
}

async fn send_events(stream: &mut (impl AsyncWrite + Unpin), close: bool) -> io::Result<()> {
    let head =
        head("200 OK", "text/event-stream", "Cache-Control: no-cache\r\nTransfer-Encoding: chunked", close);
    stream.write_all(head.as_bytes()).await?;
    let mut ticks = tokio::time::interval(EVENT_INTERVAL);
    for number in 0..EVENTS_MAX {
        ticks.tick().await;
        let event = format!("id: {number}\ndata: {}\n\n", clock::now_nanos());
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        stream.write_all(chunk.as_bytes()).await?;
        stream.flush().await?;
    }
    stream.write_all(b"0\r\n\r\n").await?;
    stream.flush().await
}

/// How often `/sse` sends.
pub const EVENT_INTERVAL: Duration = Duration::from_millis(10);

/// An hour of events: a stream that is not read to its end does not live for ever.
const EVENTS_MAX: u64 = 360_000;

/// A head and a small body.
const READ_SIZE: usize = 4 * 1024;

/// What a body is read in.
const BODY_READ_SIZE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn ask(authorization: Option<&str>, request: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let origin = Origin::new(None, authorization.map(String::from));
        tokio::spawn(async move { origin.serve(stream).await });
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn only_exactly_the_expected_credential_is_taken() {
        for (what, fields, status) in [
            ("none", "", 401),
            ("another", "Authorization: Bearer other\r\n", 401),
            ("another scheme", "Authorization: token secret\r\n", 401),
            ("two", "Authorization: Bearer secret\r\nAuthorization: Bearer secret\r\n", 401),
            ("the right one", "authorization: Bearer secret\r\n", 200),
        ] {
            let request = format!("GET /json HTTP/1.1\r\nHost: x\r\n{fields}Connection: close\r\n\r\n");
            let answer = ask(Some("Bearer secret"), &request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
            assert_eq!(answer.ends_with(JSON), status == 200, "{what}");
        }
    }

    #[tokio::test]
    async fn what_was_uploaded_is_counted_and_summed_up() {
        let mut sum = Checksum::default();
        sum.add(b"hello");
        let plain = "POST /upload?close HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
        let chunked = "POST /upload?close HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
        for request in [plain, chunked] {
            let answer = ask(None, request).await;
            assert!(answer.ends_with(&receipt(&sum)), "{answer}");
        }
    }

    #[tokio::test]
    async fn requests_on_one_connection_are_answered_in_turn_and_close_ends_it() {
        let answer = ask(None, "GET /json HTTP/1.1\r\n\r\nGET /bytes/0?close HTTP/1.1\r\n\r\n").await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert!(
            answer.contains(JSON) && answer.contains("Content-Length: 0\r\nConnection: close"),
            "{answer}"
        );
    }
}
