//! A request's content on its way to the upstream: bounded, watched, without trailers.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::{refusal::Reason, stall::Timer};

/// The content of a request. An error aborts the upstream's request, which is then never complete.
#[derive(Debug)]
pub struct Upload {
    incoming: Incoming,
    limits: UploadLimits,
    progress: Arc<Progress>,
    timer: Timer,
}

/// What content is held to.
#[derive(Clone, Copy, Debug)]
pub struct UploadLimits {
    /// The most bytes.
    pub max_body: u64,
    /// The longest wait between bytes.
    pub timeout: Duration,
}

/// How far an upload has come, for those who wait for its answer.
#[derive(Debug)]
pub struct Progress {
    /// The bytes so far.
    pub bytes: AtomicU64,
    state: AtomicU8,
    stopped: AtomicBool,
    started: Instant,
    last_millis: AtomicU64,
}

/// Why an upload was aborted.
#[derive(Debug, thiserror::Error)]
#[error("the request's content was cut")]
pub struct UploadError(#[source] Option<hyper::Error>);

impl Upload {
    /// Begins; the other half tells how far it has come.
    pub fn new(incoming: Incoming, limits: UploadLimits) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress {
            bytes: AtomicU64::new(0),
            state: AtomicU8::new(if incoming.is_end_stream() { DONE } else { GOING }),
            stopped: AtomicBool::new(false),
            started: Instant::now(),
            last_millis: AtomicU64::new(0),
        });
        (Self { incoming, limits, progress: progress.clone(), timer: Timer::default() }, progress)
    }

    fn abort(
        &self,
        state: u8,
        source: Option<hyper::Error>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        self.progress.state.store(state, Relaxed);
        Poll::Ready(Some(Err(UploadError(source))))
    }
}

impl Progress {
    /// Whether all of it has come.
    pub fn is_done(&self) -> bool {
        self.state.load(Relaxed) == DONE
    }

    /// No more of it is wanted: the answer is here.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// How long nothing has come.
    pub fn quiet_for(&self) -> Duration {
        let last = Duration::from_millis(self.last_millis.load(Relaxed));
        self.started.elapsed().saturating_sub(last)
    }

    /// Why it was aborted, if it was.
    pub fn fault(&self) -> Option<Reason> {
        match self.state.load(Relaxed) {
            TOO_LARGE => Some(Reason::TooLarge),
            SILENT => Some(Reason::BodyTimeout),
            BROKEN => Some(Reason::BadRequest),
            _ => None,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let this = &mut *self;
        loop {
            if this.progress.stopped.load(Relaxed) {
                // Whoever stopped it drops it when the answer has been relayed.
                return Poll::Pending;
            }
            let Poll::Ready(polled) = Pin::new(&mut this.incoming).poll_frame(cx) else {
                ready!(this.timer.poll(cx, this.limits.timeout));
                return this.abort(SILENT, None);
            };
            this.timer.stop();
            match polled {
                None => {
                    this.progress.state.store(DONE, Relaxed);
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return this.abort(BROKEN, Some(error)),
                Some(Ok(frame)) => {
                    // Trailers are dropped: they could carry what fields may not.
                    let Ok(data) = frame.into_data() else { continue };
                    let now = this.progress.started.elapsed().as_millis();
                    this.progress.last_millis.store(u64::try_from(now).unwrap_or(u64::MAX), Relaxed);
                    let length = data.len() as u64;
                    let bytes = this.progress.bytes.fetch_add(length, Relaxed) + length;
                    if bytes > this.limits.max_body {
                        return this.abort(TOO_LARGE, None);
                    }
                    if this.incoming.is_end_stream() {
                        this.progress.state.store(DONE, Relaxed);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

const GOING: u8 = 0;
const DONE: u8 = 1;
const TOO_LARGE: u8 = 2;
const SILENT: u8 = 3;
const BROKEN: u8 = 4;
