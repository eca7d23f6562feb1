//! An origin that reads requests strictly, byte by byte, and records each: what reached it, and
//! whether two servers could read it differently.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use testbed::pki::ServerCert;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// A listening origin.
#[derive(Debug)]
pub struct Origin {
    /// Where it listens.
    pub addr: SocketAddr,
    seen: Arc<Seen>,
}

/// A request as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Arrived {
    /// Request line and fields.
    pub head: String,
    /// The content, as far as it came.
    pub body: Vec<u8>,
    /// Whether it came to its end.
    pub complete: bool,
    /// What is wrong with it, if anything.
    pub fault: Option<&'static str>,
}

#[derive(Debug, Default)]
struct Seen {
    arrived: Mutex<Vec<Arrived>>,
    script: Mutex<Option<Vec<u8>>>,
}

impl Origin {
    /// Starts one, over TLS where a certificate is given.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn start(cert: Option<&ServerCert>) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let acceptor = cert.map(testbed::https::acceptor);
        let seen = Arc::new(Seen::default());
        let record = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, acceptor) = (record.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(stream, &seen).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => serve(stream, &seen).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Ok(Self { addr, seen })
    }

    /// What arrived since the last call.
    pub fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut *self.seen.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Responds with these bytes and closes, until this is called again.
    pub fn answer_with(&self, script: Option<Vec<u8>>) {
        *self.seen.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }
}

impl Arrived {
    /// The values of a field.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        fields(&self.head).filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn answer(&self) -> Vec<u8> {
        let method = self.head.split(' ').next().unwrap_or_default();
        let path = self.head.split(' ').nth(1).unwrap_or_default();
        // Whoever asks for an echo sees the fields as they came, but for our own credential.
        let body = if path.contains("/echo") || path.contains("/cookie") {
            let kept = self.head.split_inclusive("\r\n");
            kept.filter(|line| !line.to_ascii_lowercase().starts_with("authorization:"))
                .collect::<String>()
                .into()
        } else if self.body.is_empty() {
            b"ok".to_vec()
        } else {
            self.body.clone()
        };
        let mut answer = format!(
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n\
             Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        if method != "HEAD" {
            answer.extend(body);
        }
        answer
    }
}

fn fields(head: &str) -> impl Iterator<Item = (&str, &str)> {
    head.split("\r\n").skip(1).filter_map(|line| line.split_once(':')).map(|(n, v)| (n, v.trim()))
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Seen) -> Option<()> {
    let mut unread = Vec::new();
    loop {
        let head = until(&mut stream, &mut unread, b"\r\n\r\n").await?;
        let at = {
            let mut arrived = seen.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            let fault = fault(&head);
            arrived.push(Arrived {
                head: String::from_utf8_lossy(&head).into_owned(),
                fault,
                ..Arrived::default()
            });
            arrived.len() - 1
        };
        let change = |change: &dyn Fn(&mut Arrived)| {
            let mut arrived = seen.arrived.lock().unwrap_or_else(PoisonError::into_inner);
            arrived.get_mut(at).map(|arrived| {
                change(arrived);
                arrived.clone()
            })
        };
        let this = change(&|_| {})?;
        let chunked = this.fields("transfer-encoding").next().is_some();
        let length: usize = this.fields("content-length").next().and_then(|l| l.parse().ok()).unwrap_or(0);
        if chunked {
            loop {
                let line = until(&mut stream, &mut unread, b"\r\n").await?;
                let size = std::str::from_utf8(&line)
                    .ok()
                    .and_then(|l| usize::from_str_radix(l.trim_end(), 16).ok());
                let Some(size) = size else {
                    change(&|arrived| {
                        arrived.fault = Some("an invalid chunk size, or one with an extension");
                    });
                    return None;
                };
                let data = exactly(&mut stream, &mut unread, size + 2).await?;
                if !data.ends_with(b"\r\n") {
                    change(&|arrived| arrived.fault = Some("a chunk without its end, or trailers"));
                    return None;
                }
                change(&|arrived| arrived.body.extend_from_slice(&data[..size]));
                if size == 0 {
                    break;
                }
            }
        } else {
            let data = exactly(&mut stream, &mut unread, length).await?;
            change(&|arrived| arrived.body.clone_from(&data));
        }
        let this = change(&|arrived| arrived.complete = true)?;
        let script = seen.script.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let bytes = script.clone().unwrap_or_else(|| this.answer());
        stream.write_all(&bytes).await.ok()?;
        stream.flush().await.ok()?;
        if script.is_some() {
            stream.shutdown().await.ok()?;
            return None;
        }
    }
}

/// What no origin should be sent.
fn fault(head: &[u8]) -> Option<&'static str> {
    // Byte by byte: obs-text is permitted (RFC 9110 section 5.5).
    let text = head.iter().map(|byte| char::from(*byte)).collect::<String>();
    let text = text.as_str();
    let bare = |b: &str| b.contains(['\r', '\n', '\0']);
    if text.trim_end_matches("\r\n").split("\r\n").any(bare) {
        return Some("a bare CR, LF or NUL");
    }
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let line: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    if line.len() != 3 || !matches!(line[2], "HTTP/1.1" | "HTTP/1.0") {
        return Some("an invalid request line");
    }
    if lines.any(|line| {
        line.starts_with([' ', '\t'])
            || !line.contains(':')
            || line.split(':').next().is_none_or(|n| n.is_empty() || n.contains(' '))
    }) {
        return Some("an invalid field");
    }
    let count = |name: &str| fields(text).filter(|(own, _)| own.eq_ignore_ascii_case(name)).count();
    let chunked = fields(text)
        .all(|(n, v)| !n.eq_ignore_ascii_case("transfer-encoding") || v.eq_ignore_ascii_case("chunked"));
    if count("content-length") + count("transfer-encoding") > 1 || !chunked || count("host") != 1 {
        return Some("framing or a host that could be read in two ways");
    }
    None
}

async fn until(stream: &mut (impl AsyncRead + Unpin), unread: &mut Vec<u8>, end: &[u8]) -> Option<Vec<u8>> {
    loop {
        if let Some(at) = unread.windows(end.len()).position(|window| window == end) {
            return Some(unread.drain(..at + end.len()).collect());
        }
        if stream.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    }
}

async fn exactly(
    stream: &mut (impl AsyncRead + Unpin),
    unread: &mut Vec<u8>,
    length: usize,
) -> Option<Vec<u8>> {
    while unread.len() < length {
        if stream.read_buf(unread).await.ok()? == 0 {
            return None;
        }
    }
    Some(unread.drain(..length).collect())
}
