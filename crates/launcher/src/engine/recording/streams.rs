//! The streams of a container or an exec of the recording.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{StreamExt as _, stream};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use crate::engine::{Output, OutputStream, Streams};

/// What a container or exec will have written; the stream ends when the sender is dropped.
pub(super) type OutputReceiver = mpsc::UnboundedReceiver<Output>;
pub(super) type OutputSender = mpsc::UnboundedSender<Output>;

/// Sends a piece to what is attached, if anything is.
pub(super) fn send(output: Option<&OutputSender>, piece: Output) {
    let (Output::Stdout(bytes) | Output::Stderr(bytes)) = &piece;
    if let (Some(output), false) = (output, bytes.is_empty()) {
        drop(output.send(piece));
    }
}

/// What happens on a stdin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Written<'a> {
    /// These bytes were written.
    Bytes(&'a [u8]),
    /// It was shut down.
    End,
}

/// The streams of a process that reads its stdin with `read`.
pub(super) fn joined(output: OutputReceiver, read: impl Fn(Written<'_>) + Send + 'static) -> Streams {
    Streams { output: pieces(output), input: Box::pin(Stdin { read: Box::new(read), open: true }) }
}

/// The streams of a process that never reads its stdin.
pub(super) fn deaf(output: OutputReceiver) -> Streams {
    // Nobody reads the other end, and nothing fits in between.
    let (full, unread) = tokio::io::duplex(1);
    let output = stream::unfold((pieces(output), unread), |(mut output, unread)| async move {
        output.next().await.map(|piece| (piece, (output, unread)))
    });
    Streams { output: Box::pin(output), input: Box::pin(full) }
}

fn pieces(output: OutputReceiver) -> OutputStream {
    let output =
        stream::unfold(
            output,
            |mut output| async move { output.recv().await.map(|piece| (Ok(piece), output)) },
        );
    Box::pin(output)
}

struct Stdin {
    read: Box<dyn Fn(Written<'_>) + Send>,
    open: bool,
}

impl AsyncWrite for Stdin {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        (self.read)(Written::Bytes(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.open) {
            (self.read)(Written::End);
        }
        Poll::Ready(Ok(()))
    }
}
