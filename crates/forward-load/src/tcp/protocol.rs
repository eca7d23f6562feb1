//! What the load side says to the backend. The first byte of a connection tells what it is for:
//!
//! - `e`: every further byte comes back, until the end.
//! - `c`: one byte comes back, then the backend closes.
//! - `b`: bulk; a [`Bulk`] follows, then frames of content each way that was asked for. After the
//!   last frame up, a [`Receipt`] comes down.
//!
//! Bulk is framed so that its end needs no half-close: a forwarder that cannot half-close is
//! measured all the same.

use std::io;

use super::pattern::Pattern;

/// Comes back, until the end.
pub const ECHO: u8 = b'e';
/// Comes back once.
pub const ONCE: u8 = b'c';
/// Content.
pub const BULK: u8 = b'b';

/// What the two sides of a stream are to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bulk {
    /// Which stream: where its content begins.
    pub stream: u32,
    /// Whether the load side sends.
    pub up: bool,
    /// Whether the backend sends.
    pub down: bool,
    /// The most bytes that a side sends.
    pub size: u64,
    /// The longest that a side sends, in milliseconds.
    pub millis: u32,
}

/// What the backend received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Bytes of content.
    pub bytes: u64,
    /// How many of them were wrong.
    pub bad: u64,
}

impl Bulk {
    /// The stream of the other direction has another content.
    pub fn down_stream(&self) -> u32 {
        self.stream.wrapping_add(0x8000_0001)
    }

    /// As it is sent, the command's byte included.
    pub fn to_bytes(self) -> [u8; 1 + Self::LEN] {
        let mut bytes = [BULK; 1 + Self::LEN];
        bytes[1..5].copy_from_slice(&self.stream.to_le_bytes());
        bytes[5] = u8::from(self.up);
        bytes[6] = u8::from(self.down);
        bytes[7..15].copy_from_slice(&self.size.to_le_bytes());
        bytes[15..19].copy_from_slice(&self.millis.to_le_bytes());
        bytes
    }

    /// As it was received, without the command's byte.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        Self {
            stream: u32::from_le_bytes(array(&bytes[0..4])),
            up: bytes[4] != 0,
            down: bytes[5] != 0,
            size: u64::from_le_bytes(array(&bytes[6..14])),
            millis: u32::from_le_bytes(array(&bytes[14..18])),
        }
    }

    /// How long it is.
    pub const LEN: usize = 18;
}

impl Receipt {
    /// As it is sent.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(b"received");
        bytes[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[16..].copy_from_slice(&self.bad.to_le_bytes());
        bytes
    }

    /// As it was received.
    ///
    /// # Errors
    ///
    /// It is something else.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> io::Result<Self> {
        if &bytes[..8] != b"received" {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "something else came where a receipt was due",
            ));
        }
        let number = |at: usize| u64::from_le_bytes(array(&bytes[at..at + 8]));
        Ok(Self { bytes: number(8), bad: number(16) })
    }

    /// How long it is.
    pub const LEN: usize = 24;
}

/// The head of a frame of so many bytes; of none at the end.
pub fn frame_head(len: u32) -> [u8; 8] {
    let mut head = [0; 8];
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4..].copy_from_slice(&(len ^ FRAME).to_le_bytes());
    head
}

/// Checks frames as they come, in pieces of any size.
#[derive(Debug)]
pub struct Frames {
    pattern: Pattern,
    head: [u8; 8],
    head_len: usize,
    left: usize,
    /// What was received so far.
    pub receipt: Receipt,
    /// Whether the last frame has come.
    pub ended: bool,
}

impl Frames {
    /// Of a stream.
    pub fn of_stream(stream: u32) -> Self {
        let receipt = Receipt { bytes: 0, bad: 0 };
        Self {
            pattern: Pattern::of_stream(stream),
            head: [0; 8],
            head_len: 0,
            left: 0,
            receipt,
            ended: false,
        }
    }

    /// Takes what was read; what is left is behind the last frame.
    ///
    /// # Errors
    ///
    /// A head was invalid, so the place of the next one is unknown.
    pub fn take<'a>(&mut self, mut bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        while !bytes.is_empty() && !self.ended {
            if self.left == 0 {
                let now = bytes.len().min(8 - self.head_len);
                self.head[self.head_len..self.head_len + now].copy_from_slice(&bytes[..now]);
                self.head_len += now;
                bytes = &bytes[now..];
                if self.head_len == 8 {
                    self.head_len = 0;
                    let len = u32::from_le_bytes(array(&self.head[..4]));
                    if frame_head(len) != self.head {
                        self.receipt.bad += 8;
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "the head of a frame was wrong",
                        ));
                    }
                    self.left = len as usize;
                    self.ended = len == 0;
                }
                continue;
            }
            let (content, rest) = bytes.split_at(bytes.len().min(self.left));
            self.receipt.bad += self.pattern.check(content);
            self.receipt.bytes += content.len() as u64;
            self.left -= content.len();
            bytes = rest;
        }
        Ok(bytes)
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("the caller cuts it to its length")
}

const FRAME: u32 = 0x464c_4f41;

/// How much content a frame carries: the heads cost nothing beside it.
pub const FRAME_LEN: u32 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_reads_as_it_was_written() {
        let bulk = Bulk { stream: 7, up: true, down: false, size: 1 << 40, millis: 1500 };
        let bytes = bulk.to_bytes();
        assert_eq!(Bulk::from_bytes(bytes[1..].try_into().unwrap()), bulk);
    }

    #[test]
    fn frames_are_checked_whatever_the_pieces() {
        let content = Pattern::of_stream(5).bytes(1000);
        let mut sent = frame_head(600).to_vec();
        sent.extend(&content[..600]);
        sent.extend(frame_head(400));
        sent.extend(&content[600..]);
        sent.extend(frame_head(0));
        sent.extend(b"rest");
        for size in [1, 3, 8, 601, 5000] {
            let mut frames = Frames::of_stream(5);
            let mut rest = Vec::new();
            for piece in sent.chunks(size) {
                rest.extend_from_slice(frames.take(piece).unwrap());
            }
            assert_eq!((frames.receipt, frames.ended), (Receipt { bytes: 1000, bad: 0 }, true));
            assert_eq!(rest, b"rest");
        }
        sent[700] ^= 8;
        let mut frames = Frames::of_stream(5);
        frames.take(&sent).unwrap();
        assert_eq!(frames.receipt.bad, 1);
    }
}
