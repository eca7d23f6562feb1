//! The listener's side of the proxy: connections in, each with its requests one after another.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{HeaderValue, Request, StatusCode, header};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sidecar::{listen::Acceptor, log::Coalesced, workers::Worker};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    downstream::{Downstream, ReadTimeouts},
    exchange::{Arrival, Proxy},
    refusal::Reason,
    request_log,
    stall::Stall,
    upgrade,
    watch::{CUT_LENGTH, MAX_HEAD},
};

/// What connections are held to.
#[derive(Clone, Copy, Debug)]
pub struct ServerLimits {
    /// How long they may be silent.
    pub read: ReadTimeouts,
    /// The longest that downstream may take nothing while we write.
    pub write: Option<Duration>,
    /// The local address of all of them, where the listener has but one.
    pub local: Option<IpAddr>,
}

/// Who has room, on all threads together.
#[derive(Debug)]
pub struct Room {
    served: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    refused: Arc<Coalesced>,
}

impl Room {
    /// Room for so many connections at once.
    pub fn new(max_connections: usize) -> Self {
        Self {
            served: Arc::new(Semaphore::new(max_connections)),
            turned_away: Arc::new(Semaphore::new(MAX_TURNED_AWAY)),
            refused: Arc::default(),
        }
    }

    /// Tells a connection too many why it is closed.
    fn refuse(&self, stream: TcpStream, peer: SocketAddr) {
        self.refused.count(move |count| {
            tracing::warn!(event = "refused", peer = %peer, reason = Reason::Limit.word(), count);
        });
        if let Ok(place) = self.turned_away.clone().try_acquire_owned() {
            tokio::spawn(async move {
                turn_away(stream).await;
                drop(place);
            });
        }
    }
}

/// What a thread serves with.
#[derive(Debug)]
pub struct Server {
    /// Who answers.
    pub proxy: Arc<Proxy>,
    /// What connections are held to.
    pub limits: ServerLimits,
    /// The room for them.
    pub room: Arc<Room>,
    /// Those that are open.
    pub open: TaskTracker,
}

impl Server {
    /// Accepts and serves until the proxy drains, and then those connections that are still open.
    pub async fn serve(self, mut acceptor: Acceptor, mut worker: Worker<()>) {
        // Its own, so that asking it waits for no other thread.
        let (drain, cut) = (self.proxy.drain.child_token(), self.proxy.cut.child_token());
        loop {
            let (stream, place) = tokio::select! {
                biased;
                () = drain.cancelled() => break,
                (stream, (), place) = worker.handed() => {
                    let Ok(stream) = TcpStream::from_std(stream) else { continue };
                    (stream, place)
                }
                (stream, peer) = acceptor.accept() => {
                    let Ok(room) = self.room.served.clone().try_acquire_owned() else {
                        self.proxy.unrouted.refuse(Reason::Limit);
                        self.room.refuse(stream, peer);
                        continue;
                    };
                    match worker.team.hand_over(stream, (), worker.team.place(room)) {
                        Some((stream, (), place)) => (stream, place),
                        None => continue,
                    }
                }
            };
            let (proxy, limits, drain, cut) = (self.proxy.clone(), self.limits, drain.clone(), cut.clone());
            self.open.spawn(connection(stream, proxy, limits, drain, cut, place));
        }
        drop(acceptor);
        // With the connections that were handed over and not taken yet: they would stay open as long.
        drop(worker);
        self.open.wait().await;
    }
}

/// What the requests of a connection share.
struct Answering {
    proxy: Arc<Proxy>,
    arrival: Arrival,
    /// The caller has said that no other request comes behind this one.
    is_last: AtomicBool,
}

/// Serves a connection to its end; its place is kept as long.
async fn connection<P>(
    stream: TcpStream,
    proxy: Arc<Proxy>,
    limits: ServerLimits,
    drain: CancellationToken,
    cut: CancellationToken,
    _place: P,
) {
    // The keep-alive is the listener's, and inherited.
    let _ = stream.set_nodelay(true);
    let local = match limits.local {
        Some(local) => local,
        None => match stream.local_addr() {
            Ok(local) => local.ip(),
            Err(_) => return,
        },
    };
    let mut stream = Downstream::new(Stall::new(stream, limits.write), limits.read);
    let (phase, tunnel) = (stream.phase(), Mutex::default());
    let arrival = Arrival { local, phase, drain: drain.clone(), cut, tunnel };
    let answering = Arc::new(Answering { proxy, arrival, is_last: AtomicBool::new(false) });
    loop {
        let arrived = tokio::select! {
            biased;
            () = drain.cancelled() => return,
            arrived = poll_fn(|cx| stream.poll_arrival(cx)) => arrived,
        };
        if !arrived {
            return boxed(|| end(stream, &drain)).await;
        }
        // Boxed: what serves is large, and gone while the connection rests.
        let serving = boxed(|| serve(stream, answering.clone(), &drain));
        let Some(resting) = serving.await else { return };
        stream = resting;
    }
}

/// Serves a connection until it ends, or until it rests: then it is given back.
async fn serve(
    stream: Downstream<Stall<TcpStream>>,
    answering: Arc<Answering>,
    drain: &CancellationToken,
) -> Option<Downstream<Stall<TcpStream>>> {
    let answered = answering.clone();
    let service = service_fn(move |request| {
        let answering = answering.clone();
        // Boxed: the library moves it once more, and it is large.
        Box::pin(async move {
            answering.is_last.store(is_last(&request), Relaxed);
            let closes = upgrade::may_follow(request.headers());
            let mut answer = answering.proxy.answer(request, &answering.arrival).await;
            if closes && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        })
    });
    let mut serving = http1::Builder::new()
        // A caller that has gone away wants no answer: its upstream is let go at once.
        .half_close(false)
        // The two timeouts of `Downstream` stand in for the library's one.
        .header_read_timeout(None)
        // What is not cut before.
        .max_header_size(MAX_HEAD + CUT_LENGTH)
        .serve_connection(TokioIo::new(stream), service);
    let mut rests = false;
    // The end is ours to say: often a close is enough.
    let served = tokio::select! {
        biased;
        served = poll_fn(|cx| {
            let served = serving.poll_without_shutdown(cx);
            if served.is_ready() || !answered.arrival.phase.rests() {
                return served;
            }
            // Ends at once what the library too has for idle. Were it anything else, it would go
            // on to the end of its answer, and be closed behind it.
            Pin::new(&mut serving).graceful_shutdown();
            let served = serving.poll_without_shutdown(cx);
            rests = served.is_ready();
            served
        }) => served,
        () = drain.cancelled() => {
            Pin::new(&mut serving).graceful_shutdown();
            tokio::select! {
                biased;
                served = poll_fn(|cx| serving.poll_without_shutdown(cx)) => served,
                () = answered.arrival.cut.cancelled() => {
                    request_log::cut(serving);
                    return None;
                }
            }
        }
    };
    let tunnel = answered.arrival.tunnel().take();
    match (served, tunnel) {
        (Ok(()), Some(tunnel)) => {
            let parts = serving.into_parts();
            answered.arrival.phase.tunnel();
            // Boxed: it would else weigh on every connection.
            let cut = &answered.arrival.cut;
            boxed(|| tunnel.run(parts.io.into_inner(), parts.read_buf, cut)).await;
        }
        (Ok(()), None) => {
            let parts = serving.into_parts();
            let stream = parts.io.into_inner();
            if rests && parts.read_buf.is_empty() {
                tracing::trace!(event = "connection_rests");
                return Some(stream);
            }
            let is_last = answered.is_last.load(Relaxed) && parts.read_buf.is_empty();
            if !(is_last && nothing_waits(stream.inner().inner())) {
                end(stream, drain).await;
            }
        }
        (Err(error), _) => {
            tracing::debug!(event = "connection_error", error = sidecar::exit::chain(&error));
            end(serving.into_parts().io.into_inner(), drain).await;
        }
    }
    None
}

/// On the heap, and made nowhere else: what a future boxes would have its place in that future too.
fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    Box::pin(make())
}

/// Whether the caller says so, and sends no content that could still be on its way.
fn is_last(request: &Request<Incoming>) -> bool {
    let closes = |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"close");
    request.body().is_end_stream() && request.headers().get(header::CONNECTION).is_some_and(closes)
}

/// Whether a close would be a FIN and not a RST.
fn nothing_waits(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0; 1]);
    read.map_or_else(|error| error.kind() == io::ErrorKind::WouldBlock, |bytes| bytes == 0)
}

async fn end(stream: Downstream<Stall<TcpStream>>, drain: &CancellationToken) {
    tokio::select! {
        biased;
        // An end must not wait for callers that only keep a connection.
        () = drain.cancelled() => {}
        _ = timeout(LINGER, linger(stream)) => {}
    }
}

async fn turn_away(mut stream: TcpStream) {
    let _ = timeout(LINGER, async {
        stream.write_all(&Reason::Limit.to_bytes()).await?;
        linger(stream).await
    })
    .await;
}

/// Half-closes and reads on for a moment: closing with bytes unread would be a RST, which takes
/// the answer away from a peer that has not read it yet.
async fn linger(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> io::Result<()> {
    stream.shutdown().await?;
    let mut left = MAX_LINGER;
    // On the heap: the connection's future would otherwise be larger by it from its beginning.
    let mut scratch = vec![0; 16 * 1024];
    while left > 0 {
        match stream.read(&mut scratch).await? {
            0 => break,
            n => left = left.saturating_sub(n),
        }
    }
    Ok(())
}

/// A moment for the peer to read the answer.
const LINGER: Duration = Duration::from_secs(3);

/// More than the buffers of both ends hold (10 MB with Linux's `tcp_wmem` and `tcp_rmem`): a peer
/// that sends on past this has not looked for an answer. An upload can fill them before it looks.
const MAX_LINGER: usize = 16 << 20;

/// Beyond so many, connections are closed without a word.
const MAX_TURNED_AWAY: usize = 64;
