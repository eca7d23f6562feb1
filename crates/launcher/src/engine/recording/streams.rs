//! The streams of a container or an exec of the recording.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::stream;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use super::Recording;
use crate::engine::{ContainerId, ExecId, Output, Streams};

/// What a container or exec will have written; the stream ends when the sender is dropped.
pub(super) type OutputReceiver = mpsc::UnboundedReceiver<Output>;
pub(super) type OutputSender = mpsc::UnboundedSender<Output>;

pub(super) fn joined(output: OutputReceiver, input: Stdin) -> Streams {
    let output =
        stream::unfold(
            output,
            |mut output| async move { output.recv().await.map(|piece| (Ok(piece), output)) },
        );
    Streams { output: Box::pin(output), input: Box::pin(input) }
}

/// A stdin that keeps what is written.
pub(super) struct Stdin {
    recording: Recording,
    reader: Reader,
    open: bool,
}

enum Reader {
    Container(ContainerId),
    Exec(ExecId),
}

impl Stdin {
    pub(super) fn of_container(recording: Recording, id: ContainerId) -> Stdin {
        Stdin { recording, reader: Reader::Container(id), open: true }
    }

    pub(super) fn of_exec(recording: Recording, id: ExecId) -> Stdin {
        Stdin { recording, reader: Reader::Exec(id), open: true }
    }
}

impl AsyncWrite for Stdin {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut state = self.recording.state();
        match &self.reader {
            Reader::Container(id) => state.write_to_container(id, bytes),
            Reader::Exec(id) => state.write_to_exec(id, bytes),
        }
        drop(state);
        self.recording.0.changed.notify_waiters();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.open) {
            let mut state = self.recording.state();
            match &self.reader {
                Reader::Container(id) => state.end_stdin(id),
                Reader::Exec(id) => state.run_exec(id),
            }
            drop(state);
            self.recording.0.changed.notify_waiters();
        }
        Poll::Ready(Ok(()))
    }
}
