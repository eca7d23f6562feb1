//! One connection to an upstream, driven by whoever waits for its answer.
//!
//! There is no task of its own behind it: while a request is under way, the request's task polls
//! the connection, and between requests nobody does. That saves a hop between tasks per read.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;

use crate::{upload::Upload, upstream::UpstreamStream};

/// An HTTP/1.1 connection to an upstream.
pub struct Link {
    sender: SendRequest<Upload>,
    // Boxed: a link is handed from the pool to its request to its answer and back.
    connection: Box<Connection<TokioIo<UpstreamStream>, Upload>>,
    ended: bool,
}

/// Why no answer's head came.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection had ended before anything was written; the request is handed back.
    #[error("the connection had ended before the request was written")]
    NotSent(Box<Request<Upload>>),
    /// It broke, or the answer was no HTTP.
    #[error("the connection to the upstream broke")]
    Broken(#[source] hyper::Error),
    /// It ended in silence.
    #[error("the connection to the upstream ended without an answer")]
    Ended,
    /// Only interim answers came.
    #[error("the upstream sent more than {MAX_INTERIM} interim answers")]
    Interim,
}

impl Link {
    /// Speaks HTTP/1.1 on a connected stream.
    ///
    /// # Errors
    ///
    /// The library's.
    pub async fn open(stream: UpstreamStream) -> Result<Self, hyper::Error> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(MAX_BUFFER).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, connection: Box::new(connection), ended: false })
    }

    /// Sends a request and waits for its answer's head. Interim answers are swallowed.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; the connection is then of no more use.
    pub async fn ask(&mut self, mut request: Request<Upload>) -> Result<Response<Incoming>, LinkError> {
        let interim = Arc::new(AtomicUsize::new(0));
        let count = interim.clone();
        hyper::ext::on_informational(&mut request, move |_| {
            count.fetch_add(1, Relaxed);
        });
        let Self { sender, connection, ended } = self;
        let mut answer = pin!(sender.try_send_request(request));
        poll_fn(move |cx| {
            for driven in [false, true] {
                if driven && !*ended {
                    *ended = Pin::new(&mut **connection).poll(cx).is_ready();
                }
                match answer.as_mut().poll(cx) {
                    // Also when all of them came at once.
                    Poll::Ready(Ok(_)) | Poll::Pending if interim.load(Relaxed) > MAX_INTERIM => {
                        return Poll::Ready(Err(LinkError::Interim));
                    }
                    Poll::Ready(Ok(answer)) => return Poll::Ready(Ok(answer)),
                    Poll::Ready(Err(mut error)) => {
                        return Poll::Ready(Err(match error.take_message() {
                            Some(request) => LinkError::NotSent(Box::new(request)),
                            None => LinkError::Broken(error.into_error()),
                        }));
                    }
                    Poll::Pending if *ended => return Poll::Ready(Err(LinkError::Ended)),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Reads and writes what can be read and written now.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            self.ended = Pin::new(&mut *self.connection).poll(cx).is_ready();
        }
    }

    /// Gives up the stream after a 101, with what came behind that. `None`: a request is still under way.
    pub async fn into_stream(mut self) -> Option<(UpstreamStream, Bytes)> {
        // The library is done with a connection once it has seen the 101.
        poll_fn(|cx| {
            self.drive(cx);
            Poll::Ready(())
        })
        .await;
        if !self.ended {
            return None;
        }
        let parts = self.connection.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }

    /// Whether the connection has ended, as far as it was driven.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether it can take another request: still open, and not a byte too many has come.
    pub fn is_idle(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        !self.ended && matches!(self.sender.poll_ready(cx), Poll::Ready(Ok(())))
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// An upstream that says "processing" every second of a long answer stays below.
const MAX_INTERIM: usize = 1000;

/// The most of an answer that is held at a time: more is no cheaper, and a slow caller would keep it.
const MAX_BUFFER: usize = 128 * 1024;
