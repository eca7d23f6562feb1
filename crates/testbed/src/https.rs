//! TLS origins: one that records requests and answers as configured, one that sends scripted bytes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::{Body, Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

use crate::{pki::ServerCert, tcp::Upstream};

/// The content of an answer.
pub type AnswerBody = BoxBody<Bytes, std::io::Error>;

/// A TLS origin that records every request and answers as configured.
#[derive(Debug)]
pub struct Origin {
    upstream: Upstream,
    seen: Arc<Seen>,
}

/// What an [`Origin`] received in one request.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The target as it stood in the request line.
    pub target: String,
    /// All fields, in order within each name.
    pub fields: HeaderMap,
    /// How many bytes of content arrived (so far, while it still comes).
    pub body_bytes: u64,
    /// Whether the content came to its proper end. `false`: still coming, or cut off.
    pub body_complete: bool,
}

/// A TLS origin that reads one head and then sends scripted bytes, whatever was asked.
#[derive(Debug)]
pub struct RawOrigin {
    upstream: Upstream,
    requests: Arc<Mutex<Vec<String>>>,
    handshakes: Arc<AtomicU64>,
}

/// What a [`RawOrigin`] does once a head has arrived.
#[derive(Clone, Debug)]
pub struct Script {
    /// The bytes that it sends.
    pub bytes: Vec<u8>,
    /// And then.
    pub then: Then,
}

/// How a [`RawOrigin`] goes on after its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Says close_notify and closes.
    Close,
    /// Closes the TCP connection without close_notify.
    Cut,
    /// Sends a RST.
    Reset,
    /// Keeps the connection open, silent.
    Stall,
    /// Answers the next head on this connection in the same way.
    Again,
    /// A moment later sends unrequested bytes, then goes on as with `Again`.
    TrailAgain(&'static [u8]),
}

impl Origin {
    /// Starts with an answer for every request: 200, `text/plain`, `ok`.
    pub async fn start(cert: &ServerCert) -> Self {
        Self::answering(cert, |_| async { text(StatusCode::OK, "ok") }).await
    }

    /// Starts with `answer` to answer each request. Its content is counted as `answer` reads it;
    /// content that it does not read is read before the answer goes out.
    pub async fn answering<F, Fut>(cert: &ServerCert, answer: F) -> Self
    where
        F: Fn(Request<Content>) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Response<AnswerBody>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seen = Arc::new(Seen::default());
        let (acceptor, record) = (acceptor(cert), seen.clone());
        let upstream = Upstream::serve(listener, move |tcp| {
            let (acceptor, record, answer) = (acceptor.clone(), record.clone(), answer.clone());
            async move {
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                record.handshakes.fetch_add(1, Relaxed);
                let service = service_fn(move |request: Request<Incoming>| {
                    let response = answer(record.note(request));
                    async move { Ok::<_, Infallible>(response.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .serve_connection(TokioIo::new(tls), service)
                    .await;
            }
        });
        Self { upstream, seen }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.upstream.addr
    }

    /// How many TCP connections it has accepted.
    pub fn connections(&self) -> usize {
        self.upstream.connections.load(Relaxed)
    }

    /// How many TLS handshakes have succeeded.
    pub fn handshakes(&self) -> u64 {
        self.seen.handshakes.load(Relaxed)
    }

    /// The requests so far, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// The requests since the last call, oldest first.
    pub fn take(&self) -> Vec<Recorded> {
        let requests = self.seen.requests.lock().unwrap();
        let from = self.seen.taken.swap(requests.len(), Relaxed);
        requests[from..].to_vec()
    }
}

impl RawOrigin {
    /// Starts with one script for every connection.
    pub async fn start(cert: &ServerCert, script: Script) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), cert, script).await
    }

    /// As [`RawOrigin::start`], at an address that its script already names.
    pub async fn start_at(addr: SocketAddr, cert: &ServerCert, script: Script) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let handshakes = Arc::new(AtomicU64::new(0));
        let (acceptor, record, count) = (acceptor(cert), requests.clone(), handshakes.clone());
        let upstream = Upstream::serve(listener, move |tcp| {
            let (acceptor, record) = (acceptor.clone(), record.clone());
            let (count, script) = (count.clone(), script.clone());
            async move {
                if let Ok(tls) = acceptor.accept(tcp).await {
                    count.fetch_add(1, Relaxed);
                    play(tls, &script, &record).await;
                }
            }
        });
        Self { upstream, requests, handshakes }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.upstream.addr
    }

    /// How many TCP connections it has accepted.
    pub fn connections(&self) -> usize {
        self.upstream.connections.load(Relaxed)
    }

    /// How many TLS handshakes have succeeded.
    pub fn handshakes(&self) -> u64 {
        self.handshakes.load(Relaxed)
    }

    /// The heads that arrived, with whatever came in the same read.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Script {
    /// These bytes, then close_notify.
    pub fn close(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), then: Then::Close }
    }
}

/// A short answer.
pub fn text(status: StatusCode, content: &str) -> Response<AnswerBody> {
    Response::builder()
        .status(status)
        .header("content-type", "text/plain")
        .body(full(content.as_bytes().to_vec()))
        .expect("a status and a field make an answer")
}

/// Content that is known beforehand.
pub fn full(bytes: impl Into<Bytes>) -> AnswerBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// Content that is sent piece by piece, as a test puts the pieces in. An `Err` cuts it off.
pub fn channel() -> (mpsc::Sender<std::io::Result<Bytes>>, AnswerBody) {
    let (send, pieces) = mpsc::channel(1);
    (send, Pieces(pieces).boxed())
}

/// The content of a recorded request: it counts as it is read.
#[derive(Debug)]
pub struct Content {
    incoming: Incoming,
    seen: Arc<Seen>,
    at: usize,
}

impl Body for Content {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Some(recorded) = self.seen.requests.lock().unwrap().get_mut(self.at) {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    recorded.body_bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                Poll::Ready(None) => recorded.body_complete = true,
                Poll::Ready(Some(Err(_))) | Poll::Pending => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }
}

#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<Recorded>>,
    taken: AtomicUsize,
    handshakes: AtomicU64,
}

impl Seen {
    fn note(self: &Arc<Self>, request: Request<Incoming>) -> Request<Content> {
        let mut requests = self.requests.lock().unwrap();
        requests.push(Recorded {
            method: request.method().clone(),
            target: request.uri().to_string(),
            fields: request.headers().clone(),
            body_bytes: 0,
            body_complete: request.body().is_end_stream(),
        });
        let at = requests.len() - 1;
        drop(requests);
        request.map(|incoming| Content { incoming, seen: self.clone(), at })
    }
}

struct Pieces(mpsc::Receiver<std::io::Result<Bytes>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

async fn play(
    mut tls: tokio_rustls::server::TlsStream<TcpStream>,
    script: &Script,
    record: &Mutex<Vec<String>>,
) {
    loop {
        let mut head = Vec::new();
        while !head.windows(4).any(|window| window == b"\r\n\r\n") {
            let Ok(1..) = tls.read_buf(&mut head).await else { return };
        }
        record.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
        if tls.write_all(&script.bytes).await.is_err() || tls.flush().await.is_err() {
            return;
        }
        match script.then {
            Then::Close => {
                let _ = tls.shutdown().await;
                let _ = tokio::io::copy(&mut tls, &mut tokio::io::sink()).await;
                return;
            }
            Then::Cut => return,
            Then::Reset => return crate::tcp::reset(tls.into_inner().0),
            Then::Stall => {
                let _ = tokio::io::copy(&mut tls, &mut tokio::io::sink()).await;
                return;
            }
            Then::Again => {}
            Then::TrailAgain(bytes) => {
                tokio::time::sleep(A_MOMENT).await;
                if tls.write_all(bytes).await.is_err() || tls.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// An acceptor that presents this certificate.
///
/// # Panics
///
/// When the certificate or its key cannot be read.
pub fn acceptor(cert: &ServerCert) -> TlsAcceptor {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(cert.cert_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(cert.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Long enough for a request that is sent at once to be on its way.
const A_MOMENT: std::time::Duration = std::time::Duration::from_millis(50);
