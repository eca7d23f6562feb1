//! An answer's content on its way downstream: as it comes, and never ended cleanly when it was cut.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::{
    link::Link, phase::Busy, redact::Redactor, refusal::Side, request_log::RequestLog, route::Route,
    stall::Timer, upload::Progress,
};

/// The content of an answer, the proxy's own or an upstream's. Its end is the request's end.
#[derive(Debug)]
pub struct Content {
    source: Source,
    /// Of an answer whose request ends with its content.
    log: Option<RequestLog>,
    _busy: Option<Busy>,
}

/// An upstream's content, and the connection that it comes on.
#[derive(Debug)]
pub struct Download {
    incoming: Incoming,
    link: Option<Link>,
    route: Arc<Route>,
    upload: Arc<Progress>,
    reusable: bool,
    timeout: Option<Duration>,
    timer: Timer,
    redactor: Option<Redactor>,
    /// Nothing more will come, also where the length was not known.
    ended: bool,
    cut: Option<CutError>,
}

#[derive(Debug)]
enum Source {
    Own(Option<Bytes>),
    Upstream(Box<Download>),
}

/// The answer was cut by the upstream.
#[derive(Debug, thiserror::Error)]
#[error("the upstream's answer was cut")]
pub struct CutError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Content {
    /// The proxy's own content.
    pub fn own(bytes: Bytes, mut log: RequestLog, busy: Busy) -> Self {
        log.down_bytes = bytes.len() as u64;
        log.ended();
        Self { source: Source::Own((!bytes.is_empty()).then_some(bytes)), log: Some(log), _busy: Some(busy) }
    }

    /// None, of an answer after which the request goes on.
    pub fn none() -> Self {
        Self { source: Source::Own(None), log: None, _busy: None }
    }

    /// An upstream's content.
    pub fn upstream(download: Download, mut log: RequestLog, busy: Busy) -> Self {
        if download.is_end() {
            log.ended();
        }
        Self { source: Source::Upstream(Box::new(download)), log: Some(log), _busy: Some(busy) }
    }
}

impl Download {
    /// Begins with what came with the answer's head. `reusable`: the connection may take another
    /// request once this content was read to its end.
    pub async fn begin(
        incoming: Incoming,
        link: Link,
        route: Arc<Route>,
        upload: Arc<Progress>,
        reusable: bool,
        timeout: Option<Duration>,
    ) -> Self {
        let timer = Timer::default();
        let redactor = route.redaction.as_ref().map(Redactor::of);
        let (link, ended, cut) = (Some(link), false, None);
        let mut download =
            Self { incoming, link, route, upload, reusable, timeout, timer, redactor, ended, cut };
        if download.incoming.is_end_stream() {
            // Nobody will ask for its content.
            std::future::poll_fn(|cx| {
                download.settle(cx);
                Poll::Ready(())
            })
            .await;
        }
        download
    }

    /// The next data, the end, or what cut it.
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CutError>>> {
        if let Some(cut) = self.cut.take() {
            return Poll::Ready(Some(Err(cut)));
        }
        let mut driven = false;
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.timer.stop();
                    // Trailers are dropped: they could carry what fields may not.
                    let Ok(data) = frame.into_data() else { continue };
                    let last = self.incoming.is_end_stream();
                    if last {
                        self.settle(cx);
                    }
                    let data = self.redacted(data, last);
                    // All of it may have to wait for what comes next.
                    if !data.is_empty() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Poll::Ready(Some(Err(error))) => return self.cut(cx, error),
                Poll::Ready(None) => {
                    self.settle(cx);
                    let data = self.redacted(Bytes::new(), true);
                    return Poll::Ready((!data.is_empty()).then_some(Ok(data)));
                }
                Poll::Pending if !driven => {
                    driven = true;
                    if let Some(link) = &mut self.link {
                        link.drive(cx);
                    }
                }
                Poll::Pending if self.link.as_ref().is_none_or(Link::has_ended) => {
                    return self.cut(cx, io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                Poll::Pending => {
                    let Some(timeout) = self.timeout else { return Poll::Pending };
                    if self.timer.poll(cx, timeout).is_pending() {
                        return Poll::Pending;
                    }
                    return self.cut(cx, io::Error::from(io::ErrorKind::TimedOut));
                }
            }
        }
    }

    fn redacted(&mut self, data: Bytes, last: bool) -> Bytes {
        self.ended |= last;
        match &mut self.redactor {
            None => data,
            Some(redactor) if last => redactor.feed_last(data),
            Some(redactor) => redactor.feed(data),
        }
    }

    fn is_end(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.incoming.size_hint();
        let waiting = self.redactor.as_ref().map_or(0, Redactor::waiting) as u64;
        hint.exact().map_or(hint, |left| SizeHint::with_exact(left + waiting))
    }

    /// What waits to be redacted is not delivered: it may be a part of a token.
    ///
    /// First lets go out what came before, which the library would throw away with the error.
    fn cut(
        &mut self,
        cx: &Context<'_>,
        error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Poll<Option<Result<Bytes, CutError>>> {
        self.link = None;
        self.cut = Some(CutError(error.into()));
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The content was read to its end: the connection waits for another request, or is closed.
    fn settle(&mut self, cx: &mut Context<'_>) {
        self.upload.stop();
        let Some(mut link) = self.link.take() else { return };
        if self.reusable && self.upload.is_done() && link.is_idle(cx) {
            self.route.pool.put(link);
        }
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = CutError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutError>>> {
        let this = &mut *self;
        let download = match &mut this.source {
            Source::Own(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::Upstream(download) => download,
        };
        let Poll::Ready(polled) = download.poll_data(cx) else { return Poll::Pending };
        let Some(log) = &mut this.log else { return Poll::Ready(None) };
        match &polled {
            Some(Ok(data)) => {
                log.down_bytes += data.len() as u64;
                log.redacted_bytes = download.redactor.as_ref().map_or(0, Redactor::redacted);
                if download.is_end() {
                    log.ended();
                }
            }
            None => log.ended(),
            Some(Err(error)) => {
                // A client that went away while uploading cuts the upstream's answer too.
                let side = download.upload.fault().map_or(Side::Upstream, |_| Side::Downstream);
                log.side_is(side);
                tracing::debug!(event = "answer_cut", route = %download.route.path, error = sidecar::exit::chain(error));
            }
        }
        Poll::Ready(polled.map(|polled| polled.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(bytes) => bytes.is_none(),
            Source::Upstream(download) => download.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Source::Upstream(download) => download.size_hint(),
        }
    }
}
