//! Upstreams that speak bytes, each named by its behaviour or fault.
//!
//! Each is bound on `127.0.0.1:0` when started, serves any number of connections, and is gone,
//! its connections with it, when dropped.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;

/// Sends back what it receives, and ends when the other side has ended.
#[derive(Debug)]
pub struct Echo(Upstream);

/// Receives and counts, sends nothing, and ends when the other side has ended.
#[derive(Debug)]
pub struct Sink {
    upstream: Upstream,
    bytes: Arc<AtomicU64>,
    ended: Arc<AtomicUsize>,
}

/// Sends a number of bytes (see [`pattern`]), then closes.
#[derive(Debug)]
pub struct Source(Upstream);

/// Accepts, and then neither reads nor answers.
#[derive(Debug)]
pub struct Stall(Upstream);

/// Accepts, reads a number of bytes, then sends a RST.
#[derive(Debug)]
pub struct Reset(Upstream);

/// Sends all it has to say, half-closes, then reads to the end and reports what it got.
#[derive(Debug)]
pub struct HalfClose {
    upstream: Upstream,
    received: Mutex<mpsc::UnboundedReceiver<Received>>,
}

/// An address without a listener: a port that was bound and released.
#[derive(Debug)]
pub struct Refuse(SocketAddr);

/// What a [`HalfClose`] read on one connection, and how its reading ended.
#[derive(Debug)]
pub struct Received {
    /// The bytes that arrived.
    pub bytes: Vec<u8>,
    /// `Ok` for an end of file, else the error (a RST is `ConnectionReset`).
    pub end: Result<(), io::ErrorKind>,
}

impl Echo {
    /// Binds and starts to serve.
    pub async fn start() -> Self {
        Self(
            Upstream::start(|mut peer| async move {
                let (mut from, mut to) = peer.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            })
            .await,
        )
    }
}

impl Sink {
    /// Binds and starts to serve.
    pub async fn start() -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicUsize::new(0));
        let (count, ends) = (bytes.clone(), ended.clone());
        let upstream = Upstream::start(move |mut peer| {
            let (count, ends) = (count.clone(), ends.clone());
            async move {
                let mut buffer = vec![0; BUFFER];
                while let Ok(n @ 1..) = peer.read(&mut buffer).await {
                    count.fetch_add(n as u64, Relaxed);
                }
                ends.fetch_add(1, Relaxed);
            }
        })
        .await;
        Self { upstream, bytes, ended }
    }

    /// How many bytes have arrived, over all connections.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// How many connections the other side has ended.
    pub fn ended(&self) -> usize {
        self.ended.load(Relaxed)
    }
}

impl Source {
    /// Binds and starts to send `bytes` bytes to everyone who connects.
    pub async fn start(bytes: u64) -> Self {
        Self(
            Upstream::start(move |mut peer| async move {
                let block = pattern(BUFFER);
                let mut left = bytes;
                while left > 0 {
                    let n = left.min(BUFFER as u64);
                    if peer.write_all(&block[..n as usize]).await.is_err() {
                        return;
                    }
                    left -= n;
                }
                // Reading to the end keeps unread input from turning the close into a RST.
                let _ = peer.shutdown().await;
                let _ = tokio::io::copy(&mut peer, &mut tokio::io::sink()).await;
            })
            .await,
        )
    }
}

impl Stall {
    /// Binds and starts to accept.
    pub async fn start() -> Self {
        Self(
            Upstream::start(|peer| async move {
                std::future::pending::<()>().await;
                drop(peer);
            })
            .await,
        )
    }
}

impl Reset {
    /// Binds; resets each connection as soon as `bytes` bytes have arrived on it.
    pub async fn start(bytes: usize) -> Self {
        Self(
            Upstream::start(move |mut peer| async move {
                let mut wanted = vec![0; bytes];
                let _ = peer.read_exact(&mut wanted).await;
                reset(peer);
            })
            .await,
        )
    }
}

impl HalfClose {
    /// Binds; says `all` to everyone who connects.
    pub async fn start(all: impl Into<Vec<u8>>) -> Self {
        let all = Arc::new(all.into());
        let (report, received) = mpsc::unbounded_channel();
        let upstream = Upstream::start(move |mut peer| {
            let (all, report) = (all.clone(), report.clone());
            async move {
                let _ = peer.write_all(&all).await;
                let _ = peer.shutdown().await;
                let mut bytes = Vec::new();
                let end = peer.read_to_end(&mut bytes).await.map(drop).map_err(|e| e.kind());
                let _ = report.send(Received { bytes, end });
            }
        })
        .await;
        Self { upstream, received: Mutex::new(received) }
    }

    /// What the next connection to end had received.
    ///
    /// # Panics
    ///
    /// When none ends within ten seconds.
    pub async fn received(&self) -> Received {
        timeout(PATIENCE, async { self.received.lock().await.recv().await })
            .await
            .expect("a connection ends within ten seconds")
            .expect("the upstream runs")
    }
}

impl Refuse {
    /// Binds a port and releases it.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self(listener.local_addr().unwrap())
    }

    /// The address.
    pub fn addr(&self) -> SocketAddr {
        self.0
    }
}

macro_rules! addressed {
    ($($name:ident: $field:tt),*) => {$(
        impl $name {
            /// Where it listens.
            pub fn addr(&self) -> SocketAddr {
                self.$field.addr
            }

            /// How many connections it has accepted.
            pub fn connections(&self) -> usize {
                self.$field.connections.load(Relaxed)
            }
        }
    )*};
}

addressed!(Echo: 0, Sink: upstream, Source: 0, Stall: 0, Reset: 0, HalfClose: upstream);

/// The bytes that a [`Source`] sends: they repeat every 251, so that a lost or doubled block shows.
pub fn pattern(len: usize) -> Vec<u8> {
    // A block of BUFFER bytes is repeated, so the period holds within each block.
    (0..len).map(|i| ((i % BUFFER) % 251) as u8).collect()
}

/// Closes with a RST instead of a FIN.
pub fn reset(stream: TcpStream) {
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

/// A listener and the connections it has accepted.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Upstream {
    /// Binds on loopback and runs `serve` for each connection, until dropped.
    pub(crate) async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self::serve(socket.listen(BACKLOG).unwrap(), serve)
    }

    /// Runs `serve` for each connection of `listener`, until dropped.
    pub(crate) fn serve<F, Fut>(listener: TcpListener, serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let task = tokio::spawn(async move {
            // Dropped with the task, and its tasks with it.
            let mut open = JoinSet::new();
            while let Ok((peer, _)) = listener.accept().await {
                let _ = peer.set_nodelay(true);
                count.fetch_add(1, Relaxed);
                open.spawn(serve(peer));
                while open.try_join_next().is_some() {}
            }
        });
        Self { addr, connections, _task: AbortOnDropHandle::new(task) }
    }
}

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A forwarder connects faster than a test accepts: what the queue drops, TCP sends again after seconds.
const BACKLOG: u32 = 4096;

const BUFFER: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_echo_answers_after_a_half_close() {
        let echo = Echo::start().await;
        let mut stream = TcpStream::connect(echo.addr()).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"hello");
        assert_eq!(echo.connections(), 1);
    }

    #[tokio::test]
    async fn a_reset_is_a_reset() {
        let upstream = Reset::start(3).await;
        let mut stream = TcpStream::connect(upstream.addr()).await.unwrap();
        stream.write_all(b"abc").await.unwrap();
        let error = stream.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_half_close_still_reads() {
        let upstream = HalfClose::start("done").await;
        let mut stream = TcpStream::connect(upstream.addr()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(b"late").await.unwrap();
        drop(stream);
        assert_eq!(all, b"done");
        let received = upstream.received().await;
        assert_eq!(received.bytes, b"late");
        assert_eq!(received.end, Ok(()));
    }

    #[tokio::test]
    async fn a_source_sends_its_pattern_and_a_sink_counts() {
        let source = Source::start(200_000).await;
        let mut stream = TcpStream::connect(source.addr()).await.unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, pattern(200_000));

        let sink = Sink::start().await;
        let mut stream = TcpStream::connect(sink.addr()).await.unwrap();
        stream.write_all(&all).await.unwrap();
        drop(stream);
        crate::eventually(PATIENCE, || async { sink.ended() == 1 }).await;
        assert_eq!(sink.bytes(), 200_000);
    }

    #[tokio::test]
    async fn nobody_listens_where_connections_are_refused() {
        let refuse = Refuse::start().await;
        let error = TcpStream::connect(refuse.addr()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
