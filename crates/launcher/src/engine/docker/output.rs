//! What containers and commands write.

use std::io;

use bytes::BytesMut;
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::frames::{FrameError, Frames};
use super::refusal::Refusal;
use super::transport::Fault;
use crate::engine::{EngineError, Output, OutputStream, Streams};

/// The streams of an upgraded connection. Shutting the input down half-closes the connection.
pub(super) fn streams(act: &'static str, upgraded: Upgraded) -> Streams {
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    Streams { output: pieces(act, reader), input: Box::pin(writer) }
}

/// The output that arrives on `reader`, until the end or the first error. Reads only when the next
/// piece is wanted, so a reader that stops slows the container.
fn pieces(act: &'static str, reader: impl AsyncRead + Unpin + Send + 'static) -> OutputStream {
    let source = Source { reader, buffer: BytesMut::new(), frames: Frames::default() };
    Box::pin(stream::try_unfold(source, move |mut source| async move {
        let piece = source.piece().await.map_err(|error| error.meaning(act))?;
        Ok(piece.map(|piece| (piece, source)))
    }))
}

struct Source<R> {
    reader: R,
    buffer: BytesMut,
    frames: Frames,
}

impl<R: AsyncRead + Unpin> Source<R> {
    async fn piece(&mut self) -> Result<Option<Output>, OutputError> {
        loop {
            if let Some(piece) = self.frames.next(&mut self.buffer)? {
                return Ok(Some(piece));
            }
            self.buffer.reserve(READ);
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                self.frames.end(&self.buffer)?;
                return Ok(None);
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum OutputError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Read(#[from] io::Error),
}

impl OutputError {
    fn meaning(self, act: &str) -> EngineError {
        let act = act.to_owned();
        match self {
            OutputError::Frame(FrameError::Reported(message)) => {
                EngineError::Refused { act, status: STARTED, message }
            }
            OutputError::Frame(error) => EngineError::Broken { act, source: Box::new(error) },
            OutputError::Read(error) => EngineError::Broken { act, source: Box::new(error) },
        }
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Fault {
        match error {
            FrameError::Reported(message) => Fault::Refused(Refusal { status: STARTED, message }),
            error => Fault::Unreadable(Box::new(error)),
        }
    }
}

/// The last lines of a container's log, and of those the last [`LOGS_LIMIT`] bytes or more.
pub(super) async fn tail(mut body: Incoming) -> Result<String, Fault> {
    let (mut frames, mut buffer, mut text) = (Frames::default(), BytesMut::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while let Some(Output::Stdout(piece) | Output::Stderr(piece)) = frames.next(&mut buffer)? {
            text.extend_from_slice(&piece);
            // Lines may be of any length: what was written last counts.
            if text.len() > 2 * LOGS_LIMIT {
                text.drain(..text.len() - LOGS_LIMIT);
            }
        }
    }
    frames.end(&buffer)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// How much is read at once.
const READ: usize = 32 << 10;
/// An agent may write without end; this much explains a failure.
const LOGS_LIMIT: usize = 1 << 20;
/// An error on a stream comes after a status of success.
const STARTED: u16 = 200;

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn output_arrives_piece_by_piece_and_then_ends() {
        let (mut engine, ours) = tokio::io::duplex(8);
        let mut output = pieces("attach to the container", ours);
        tokio::spawn(async move {
            engine.write_all(b"\x01\0\0\0\0\0\0\x0chello world!\x02\0\0\0\0\0\0\x01!").await.unwrap();
        });
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(piece) = output.next().await {
            match piece.unwrap() {
                Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            }
        }
        assert_eq!((stdout.as_slice(), stderr.as_slice()), (b"hello world!".as_slice(), b"!".as_slice()));
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_or_invalid_is_an_error_and_ends() {
        for (wire, expected) in [
            (b"\x01\0\0\0\0\0\0\x09four".as_slice(), "the stream ended in the middle of a frame"),
            (b"HTTP/1.1".as_slice(), "invalid frame header [48, 54, 54, 50]"),
        ] {
            let mut output = pieces("attach to the container", wire);
            let error = loop {
                if let Err(error) = output.next().await.expect("an error before the end") {
                    break error;
                }
            };
            let source = std::error::Error::source(&error).map(ToString::to_string);
            assert!(matches!(error, EngineError::Broken { .. }), "{error:?}");
            assert_eq!(source.as_deref(), Some(expected));
            assert!(output.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn what_the_engine_reports_on_the_stream_is_its_refusal() {
        let mut output = pieces("attach to the container", b"\x03\0\0\0\0\0\0\x04gone".as_slice());
        let error = output.next().await.unwrap().unwrap_err();
        assert!(matches!(&error, EngineError::Refused { message, .. } if message == "gone"), "{error:?}");
    }
}
