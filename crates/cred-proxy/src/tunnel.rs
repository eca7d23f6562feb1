//! A connection after a 101: bytes both ways until both sides have ended. No frame is looked into.

use std::{
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    phase::Busy, redact::Redactor, refusal::Side, request_log::RequestLog, upload::Progress,
    upstream::UpstreamStream,
};

/// The upstream's side of a tunnel that waits for the connection from downstream.
#[derive(Debug)]
pub struct Tunnel {
    /// The upstream.
    pub upstream: UpstreamStream,
    /// What came behind the 101.
    pub early: Bytes,
    /// Hides the route's tokens in what the upstream sends.
    pub redactor: Option<Redactor>,
    /// The bytes that went up are counted here, as those of a request's content.
    pub up: Arc<Progress>,
    /// The request's line, written at the tunnel's end.
    pub log: RequestLog,
    /// The connection is not idle.
    pub busy: Busy,
}

/// Whose doing the end of one direction was, when it was not the end of what it carried.
type Broken = Side;

impl Tunnel {
    /// Carries bytes until both sides have ended, one has broken, or the proxy's end waited long
    /// enough: `cut`. Dropping the streams closes what is still open.
    ///
    /// A side that has ended says nothing more, but may still be sent to; once nothing is, for
    /// 10 s, that is the end too. Between two open sides any silence is fine.
    pub async fn run(self, downstream: impl AsyncRead + AsyncWrite, sent: Bytes, cut: &CancellationToken) {
        let Self { upstream, early, mut redactor, up, mut log, busy } = self;
        let (from_caller, to_caller) = split(downstream);
        let (from_upstream, to_upstream) = split(upstream);
        let down = AtomicU64::new(0);
        let end = {
            let mut upward = pin!(upward(from_caller, to_upstream, sent, &up.bytes));
            let mut downward = pin!(downward(from_upstream, to_caller, early, &mut redactor, &down));
            let both = async {
                tokio::select! {
                    ended = &mut upward => {
                        ended?;
                        // Whoever ends first began it, also when the other breaks then.
                        let rest = while_it_moves(downward, &down).await;
                        rest.map(|()| Side::Downstream).map_err(|_| Side::Downstream)
                    }
                    ended = &mut downward => {
                        ended?;
                        let rest = while_it_moves(upward, &up.bytes).await;
                        rest.map(|()| Side::Upstream).map_err(|_| Side::Upstream)
                    }
                }
            };
            tokio::select! {
                end = both => end,
                () = cut.cancelled() => Err(Side::Proxy),
            }
        };
        if end.is_ok() {
            log.ended();
        }
        log.side_is(end.unwrap_or_else(|broken| broken));
        log.down_bytes = down.load(Relaxed);
        log.redacted_bytes = redactor.as_ref().map_or(0, Redactor::redacted);
        drop(busy);
    }
}

/// Waits for the direction that is left, as long as its count goes up.
async fn while_it_moves(
    direction: impl Future<Output = Result<(), Broken>>,
    count: &AtomicU64,
) -> Result<(), Broken> {
    let mut direction = pin!(direction);
    loop {
        let before = count.load(Relaxed);
        match timeout(HALF_OPEN, &mut direction).await {
            Ok(ended) => return ended,
            Err(_) if count.load(Relaxed) == before => return Ok(()),
            Err(_) => {}
        }
    }
}

async fn upward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    sent: Bytes,
    count: &AtomicU64,
) -> Result<(), Broken> {
    let mut piece = sent;
    let mut buffer = BytesMut::new();
    loop {
        write(&mut to, &piece, count).await.map_err(|_| Side::Upstream)?;
        drop(piece);
        buffer.reserve(BUFFER);
        if from.read_buf(&mut buffer).await.map_err(|_| Side::Downstream)? == 0 {
            break;
        }
        piece = buffer.split().freeze();
    }
    to.shutdown().await.map_err(|_| Side::Upstream)
}

async fn downward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    early: Bytes,
    redactor: &mut Option<Redactor>,
    count: &AtomicU64,
) -> Result<(), Broken> {
    let mut piece = early;
    let mut buffer = BytesMut::new();
    loop {
        let redacted = match redactor {
            Some(redactor) => redactor.feed(piece),
            None => piece,
        };
        write(&mut to, &redacted, count).await.map_err(|_| Side::Downstream)?;
        drop(redacted);
        buffer.reserve(BUFFER);
        let mut read = pin!(from.read_buf(&mut buffer));
        let read = match redactor.as_mut().filter(|redactor| redactor.waiting() > 0) {
            None => read.await,
            Some(redactor) => {
                let patience = if redactor.waits_by_chance() { A_MOMENT } else { A_WHILE };
                match timeout(patience, &mut read).await {
                    Ok(read) => read,
                    Err(_) => {
                        let released = redactor.release();
                        write(&mut to, &released, count).await.map_err(|_| Side::Downstream)?;
                        read.await
                    }
                }
            }
        };
        if read.map_err(|_| Side::Upstream)? == 0 {
            break;
        }
        piece = buffer.split().freeze();
    }
    if let Some(redactor) = redactor {
        write(&mut to, &redactor.finish(), count).await.map_err(|_| Side::Downstream)?;
    }
    to.shutdown().await.map_err(|_| Side::Downstream)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8], count: &AtomicU64) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    to.write_all(bytes).await?;
    // TLS keeps a record until it is told.
    to.flush().await?;
    count.fetch_add(bytes.len() as u64, Relaxed);
    Ok(())
}

/// What a TLS record holds.
const BUFFER: usize = 16 * 1024;

/// How long a message's last few bytes wait because a token begins like them. Its answer may be
/// waited for, so it must go out; too short a time to be noticed, longer than a sender takes
/// between two writes of one message.
const A_MOMENT: Duration = Duration::from_millis(20);

/// The same for more bytes, which are hardly like a token by chance.
const A_WHILE: Duration = Duration::from_secs(2);

/// How long a tunnel with one side ended may be silent.
const HALF_OPEN: Duration = Duration::from_secs(10);
