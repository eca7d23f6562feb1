//! The multiplexed stream of a container or an exec without a terminal.
//!
//! Each frame is a header of 8 bytes (the stream, three zeros, the length, big endian), then the
//! bytes (Engine API, "Attach to a container", "Stream format"). No I/O happens here, and no frame
//! is collected: its bytes are passed on as they arrive, so memory does not depend on the length
//! that a header claims.

use std::io;

use bytes::{Buf, BytesMut};

use crate::engine::Output;

/// Decodes frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    current: Option<Frame>,
    /// The message of the engine's own frame, cut at [`MESSAGE_LIMIT`].
    message: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    stream: Stream,
    remaining: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Stdout,
    Stderr,
    /// The engine itself reports that the stream failed.
    Engine,
}

/// Why a stream cannot be decoded any further.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    /// A header is not valid.
    #[error("invalid frame header {0:02x?}")]
    Header([u8; 4]),
    /// The stream ended inside a frame.
    #[error("the stream ended in the middle of a frame")]
    Cut,
    /// The engine reported an error on the stream.
    #[error("{0}")]
    Reported(String),
}

impl Frames {
    /// Takes the next piece of output out of `buffer`; `None` when more bytes are needed.
    pub(super) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Output>, FrameError> {
        loop {
            let Some(frame) = &mut self.current else {
                let Some(header) = buffer.first_chunk::<HEADER>() else { return Ok(None) };
                let frame = Frame::read(*header)?;
                buffer.advance(HEADER);
                self.current = Some(frame);
                continue;
            };
            if frame.remaining > 0 && buffer.is_empty() {
                return Ok(None);
            }
            let piece = buffer.split_to(frame.remaining.min(buffer.len())).freeze();
            frame.remaining -= piece.len();
            let (stream, ended) = (frame.stream, frame.remaining == 0);
            if ended {
                self.current = None;
            }
            match stream {
                Stream::Engine => {
                    let room = MESSAGE_LIMIT - self.message.len();
                    self.message.extend_from_slice(&piece[..piece.len().min(room)]);
                    if ended {
                        let message = String::from_utf8_lossy(&self.message).trim().to_owned();
                        return Err(FrameError::Reported(message));
                    }
                }
                _ if piece.is_empty() => {}
                Stream::Stdout => return Ok(Some(Output::Stdout(piece))),
                Stream::Stderr => return Ok(Some(Output::Stderr(piece))),
            }
        }
    }

    /// Checks that the stream may end here, with `rest` not decoded.
    pub(super) fn end(&self, rest: &[u8]) -> Result<(), FrameError> {
        if self.current.is_none() && rest.is_empty() { Ok(()) } else { Err(FrameError::Cut) }
    }
}

impl Frame {
    fn read(header: [u8; HEADER]) -> Result<Frame, FrameError> {
        let [stream, zeros @ .., a, b, c, d] = header;
        let stream = match stream {
            // 0 is stdin, which engines echo as stdout.
            0 | 1 => Stream::Stdout,
            2 => Stream::Stderr,
            3 => Stream::Engine,
            _ => return Err(FrameError::Header([header[0], header[1], header[2], header[3]])),
        };
        if zeros != [0; 3] {
            return Err(FrameError::Header([header[0], header[1], header[2], header[3]]));
        }
        let length = u32::from_be_bytes([a, b, c, d]);
        Ok(Frame { stream, remaining: usize::try_from(length).unwrap_or(usize::MAX) })
    }
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> io::Error {
        let kind = match error {
            FrameError::Cut => io::ErrorKind::UnexpectedEof,
            FrameError::Header(_) | FrameError::Reported(_) => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

const HEADER: usize = 8;
/// An error of the engine is a line.
const MESSAGE_LIMIT: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[stream, 0, 0, 0], length.as_slice(), bytes].concat()
    }

    /// Decodes `wire` as it arrives in pieces of these sizes: stdout, stderr, the error.
    fn decode(wire: &[u8], sizes: &[usize]) -> (Vec<u8>, Vec<u8>, Option<FrameError>) {
        let (mut frames, mut buffer) = (Frames::default(), BytesMut::new());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut sizes = sizes.iter().cycle();
        let mut wire = wire;
        loop {
            match frames.next(&mut buffer) {
                Ok(Some(Output::Stdout(piece))) => stdout.extend_from_slice(&piece),
                Ok(Some(Output::Stderr(piece))) => stderr.extend_from_slice(&piece),
                Ok(None) if wire.is_empty() => return (stdout, stderr, frames.end(&buffer).err()),
                Ok(None) => {
                    let (now, later) = wire.split_at((*sizes.next().unwrap()).min(wire.len()));
                    buffer.extend_from_slice(now);
                    wire = later;
                }
                Err(error) => return (stdout, stderr, Some(error)),
            }
        }
    }

    #[test]
    fn a_piece_of_a_frame_is_passed_on_before_the_frame_ends() {
        let (mut frames, mut buffer) = (Frames::default(), BytesMut::new());
        // A header that claims 4 GiB, and one byte of it.
        buffer.extend_from_slice(&[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'x']);
        assert_eq!(frames.next(&mut buffer), Ok(Some(Output::Stdout("x".into()))));
        assert_eq!(frames.next(&mut buffer), Ok(None));
        assert_eq!(frames.end(&buffer), Err(FrameError::Cut));
    }

    #[test]
    fn an_invalid_header_is_an_error() {
        for header in [[4, 0, 0, 0], [0x48, 0x54, 0x54, 0x50], [1, 0, 1, 0], [255, 0, 0, 0]] {
            let wire = [frame(2, b"before"), [header, [0; 4]].concat()].concat();
            let (_, stderr, error) = decode(&wire, &[3]);
            assert_eq!((stderr.as_slice(), error), (b"before".as_slice(), Some(FrameError::Header(header))));
        }
    }

    #[test]
    fn an_error_of_the_engine_is_bounded_and_reported() {
        let wire = [frame(1, b"out"), frame(3, b"log file is damaged\n")].concat();
        let (stdout, _, error) = decode(&wire, &[5]);
        assert_eq!(stdout, b"out");
        assert_eq!(error, Some(FrameError::Reported("log file is damaged".into())));
        let (_, _, error) = decode(&frame(3, &vec![b'x'; 1 << 20]), &[1000]);
        let Some(FrameError::Reported(message)) = error else { panic!("{error:?}") };
        assert_eq!(message.len(), MESSAGE_LIMIT);
    }

    #[test]
    fn an_end_in_a_header_or_a_frame_is_an_error() {
        let wire = frame(1, b"four");
        for cut in 1..wire.len() {
            assert_eq!(decode(&wire[..cut], &[1]).2, Some(FrameError::Cut), "{cut}");
        }
        assert_eq!(decode(&wire, &[1]).2, None);
        assert_eq!(decode(&[], &[1]).2, None);
    }

    proptest! {
        #[test]
        fn every_byte_arrives_however_the_stream_is_cut(
            pieces in prop::collection::vec((0_u8..3, prop::collection::vec(any::<u8>(), 0..40)), 0..12),
            sizes in prop::collection::vec(1_usize..20, 1..5),
        ) {
            let wire: Vec<u8> = pieces.iter().flat_map(|(stream, bytes)| frame(*stream, bytes)).collect();
            let of = |wanted: fn(u8) -> bool| -> Vec<u8> {
                pieces.iter().filter(|(stream, _)| wanted(*stream)).flat_map(|(_, bytes)| bytes.clone()).collect()
            };
            let expected = (of(|stream| stream < 2), of(|stream| stream == 2), None);
            prop_assert_eq!(decode(&wire, &sizes), expected);
        }

        #[test]
        fn no_bytes_make_it_panic_or_invent_output(
            wire in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..50,
        ) {
            let (stdout, stderr, _) = decode(&wire, &[size]);
            prop_assert!(stdout.len() + stderr.len() <= wire.len());
        }
    }
}
