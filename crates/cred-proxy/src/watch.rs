//! What the HTTP library reads from downstream, watched for what it would let pass without telling
//! us: a Content-Length beside a Transfer-Encoding (it drops one), a fragment or raw bytes in the
//! target (it drops or keeps them), a sloppy end of a chunk.
//!
//! A byte that must not stand where it stands in a head is made a NUL, which the library refuses
//! with 400 once it sees an end of that head. Behind one that must not stand in chunked content
//! reading fails, which ends the upload. A head that is too large, which the library would answer
//! without a word, is cut, and marked by a field of ours or by the number of its fields. Were the
//! watch ever to lose its place, that is all it could do.

use http::HeaderMap;
use memchr::{memchr, memchr2};

/// Follows the bytes of a connection.
#[derive(Debug, Default)]
pub struct Watch {
    at: At,
    name: Name,
    chunked: bool,
    length: Option<u64>,
    upgrade: bool,
    /// The bytes of this head so far, and its fields.
    size: usize,
    fields: usize,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// All of them may be read.
    All,
    /// Only so many: the last of them, in a head, was made a NUL.
    Head(usize),
    /// Only so many, and then reading must fail.
    Content(usize),
    /// Only so many, perhaps none, and then this end of a head: it is too large.
    Cut(usize, &'static [u8]),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before a request line.
    #[default]
    Start,
    /// Likewise, behind empty lines.
    Blank,
    Method(u8),
    Target,
    /// The version, or a field's value of no interest.
    Line,
    /// A field's line begins, or the head ends.
    LineStart,
    HeadEnd,
    Name,
    Length(Option<u64>),
    /// Within the value of Upgrade, of which so many bytes were of `websocket`.
    Protocol(usize),
    Content(u64),
    Size(u64, u8),
    Extension(u64, Quotes),
    SizeEnd(u64),
    Data(u64),
    DataEnd,
    DataEndLine,
    TrailerStart,
    Trailer,
    ContentEnd,
    /// Another protocol may be spoken from here on, or something was refused.
    Off,
}

/// Within a chunk extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    /// Behind a `;`.
    Begin,
    Out,
    In,
}

/// The beginning of a field's name, in lower case.
#[derive(Debug, Default)]
struct Name {
    bytes: [u8; LONGEST],
    length: usize,
}

/// `transfer-encoding`.
const LONGEST: usize = 17;

/// The protocol that may be spoken behind a request: see [`crate::upgrade`].
const WEBSOCKET: &[u8] = b"websocket";

/// The first length with 20 digits.
const TOO_LONG: u64 = 10_000_000_000_000_000_000;

/// SECURITY.md: more is 431.
pub const MAX_HEAD: usize = 64 * 1024;
const MAX_FIELDS: usize = 100;

/// The field that marks a head as cut: not for secrecy, a caller that sends it marks its own.
const CUT: &str = "x-head-too-large";
const CUT_IN_VALUE: &[u8] = b"\nx-head-too-large:\n\n";
const CUT_BEFORE_FIELD: &[u8] = b"\n";

/// What a cut adds at most to what was let through.
pub const CUT_LENGTH: usize = CUT_IN_VALUE.len();

/// Whether this head was cut, on a connection of which one was. Also of one that has all the fields
/// that it may have, when the one behind it was cut.
pub fn is_cut(fields: &HeaderMap) -> bool {
    fields.contains_key(CUT) || fields.len() >= MAX_FIELDS
}

/// No method is longer.
const LONGEST_METHOD: u8 = 64;

impl Watch {
    /// Follows these bytes, and changes what the library must refuse.
    pub fn see(&mut self, bytes: &mut [u8]) -> Seen {
        let mut n = 0;
        while n < bytes.len() {
            let left = (bytes.len() - n) as u64;
            // Content is passed over, not looked at.
            match self.at {
                At::Off => return Seen::All,
                At::Content(length) | At::Data(length) if length > left => {
                    self.at = self.passed(length - left);
                    return Seen::All;
                }
                At::Content(length) | At::Data(length) => {
                    self.at = self.passed(0);
                    n += usize::try_from(length).unwrap_or(usize::MAX);
                    continue;
                }
                // Most of a head: the values of fields, and their names.
                At::Line => {
                    let end = memchr(b'\n', &bytes[n..]);
                    let length = end.map_or(bytes.len() - n, |end| end + 1);
                    let room = MAX_HEAD.saturating_sub(self.size);
                    if length > room {
                        self.at = At::Off;
                        return Seen::Cut(n + room, CUT_IN_VALUE);
                    }
                    if end.is_some() {
                        self.at = At::LineStart;
                    }
                    self.size += length;
                    n += length;
                    continue;
                }
                At::Name => {
                    let end = memchr2(b':', b'\n', &bytes[n..]).map_or(bytes.len(), |end| n + end);
                    self.name.push(&bytes[n..end]);
                    self.size += end - n;
                    n = end;
                }
                _ => {}
            }
            let Some(byte) = bytes.get(n).copied() else { return Seen::All };
            if self.at == At::LineStart && !matches!(byte, b'\r' | b'\n') {
                if self.fields == MAX_FIELDS {
                    self.at = At::Off;
                    return Seen::Cut(n, CUT_BEFORE_FIELD);
                }
                self.fields += 1;
            }
            let in_content = self.is_in_content();
            if !self.step(byte) {
                self.at = At::Off;
                if in_content {
                    return Seen::Content(n);
                }
                bytes[n] = 0;
                return Seen::Head(n + 1);
            }
            self.size += 1;
            n += 1;
        }
        Seen::All
    }

    /// Whether all that was read is whole requests.
    pub fn is_between(&self) -> bool {
        self.at == At::Start
    }

    /// Whether a part of a request was read, and its end not.
    pub fn is_in_request(&self) -> bool {
        !matches!(self.at, At::Start | At::Off)
    }

    /// Within content of which so much is left.
    fn passed(&self, left: u64) -> At {
        match (self.at, left) {
            (At::Data(_), 0) => At::DataEnd,
            (At::Data(_), left) => At::Data(left),
            (_, 0) => At::Start,
            (_, left) => At::Content(left),
        }
    }

    fn is_in_content(&self) -> bool {
        use At::{Extension, Size, SizeEnd};
        matches!(self.at, Size(..) | Extension(..) | SizeEnd(_) | At::DataEnd | At::DataEndLine)
            || matches!(self.at, At::TrailerStart | At::Trailer | At::ContentEnd)
    }

    /// One byte further; false when it must not stand there.
    fn step(&mut self, byte: u8) -> bool {
        if matches!(self.at, At::Name) && byte == b':' {
            return self.named();
        }
        let next = match (self.at, byte) {
            (At::Start | At::Blank, b'\r' | b'\n') => Some(At::Blank),
            (At::Start | At::Blank, _) => {
                (self.chunked, self.length, self.upgrade) = (false, None, false);
                (self.size, self.fields) = (0, 0);
                Some(At::Method(1))
            }
            (At::Method(_), b' ') => Some(At::Target),
            (At::Method(length), _) => (length < LONGEST_METHOD).then(|| At::Method(length + 1)),
            (At::Target, b' ') => Some(At::Line),
            (At::Target, _) if byte == b'#' || !byte.is_ascii() => None,
            (At::LineStart, b'\r') => Some(At::HeadEnd),
            (At::LineStart | At::HeadEnd, b'\n') => Some(self.end_head()),
            (At::Protocol(length), b'\n') => {
                self.upgrade |= length == WEBSOCKET.len();
                Some(At::LineStart)
            }
            (At::Protocol(length), _) => Some(match byte {
                b' ' | b'\t' | b'\r' if length == 0 || length == WEBSOCKET.len() => self.at,
                _ if WEBSOCKET.get(length) == Some(&byte.to_ascii_lowercase()) => At::Protocol(length + 1),
                _ => At::Line,
            }),
            (At::Target | At::Line | At::Name | At::Length(_), b'\n') => Some(At::LineStart),
            (At::LineStart, _) => {
                self.name.length = 0;
                self.name.push(&[byte]);
                Some(At::Name)
            }
            (At::Target | At::Line, _) | (At::Length(_), b'\r' | b' ') => Some(self.at),
            (At::Length(before), b'0'..=b'9') => {
                let before = before.unwrap_or(0);
                self.length = Some(before.saturating_mul(10).saturating_add(u64::from(byte - b'0')));
                // One that is no number is the library's to refuse; of the largest it would say that
                // the head is too large.
                (before < TOO_LONG / 10).then_some(At::Length(self.length))
            }
            _ => self.step_in_content(byte),
        };
        self.at = next.unwrap_or(At::Off);
        next.is_some()
    }

    fn step_in_content(&self, byte: u8) -> Option<At> {
        match (self.at, byte) {
            (At::Size(size, 1..), b';') => Some(At::Extension(size, Quotes::Begin)),
            (At::Size(size, 1..), b'\r') => Some(At::SizeEnd(size)),
            (At::Size(size, digits @ 0..16), _) => {
                let digit = char::from(byte).to_digit(16)?;
                // Some would take one of 64 bits for negative.
                (size < 1 << 59).then_some(At::Size(size << 4 | u64::from(digit), digits + 1))
            }
            (At::Extension(size, quotes), _) => match (quotes, byte) {
                (Quotes::Out, b'\r') => Some(At::SizeEnd(size)),
                (Quotes::Out, b';') => Some(At::Extension(size, Quotes::Begin)),
                (Quotes::Out, b'"') => Some(At::Extension(size, Quotes::In)),
                (Quotes::In, b'"') => Some(At::Extension(size, Quotes::Out)),
                (Quotes::In, b'\t' | b' '..=b'~' | 0x80..) => Some(self.at),
                (Quotes::Begin, b' ') | (Quotes::Out, b' ' | b'=') => Some(self.at),
                (Quotes::Begin | Quotes::Out, _) => {
                    is_token(byte).then_some(At::Extension(size, Quotes::Out))
                }
                _ => None,
            },
            (At::SizeEnd(0), b'\n') => Some(At::TrailerStart),
            (At::SizeEnd(size), b'\n') => Some(At::Data(size)),
            (At::DataEnd, b'\r') => Some(At::DataEndLine),
            (At::DataEndLine, b'\n') => Some(At::Size(0, 0)),
            (At::TrailerStart, b'\r') => Some(At::ContentEnd),
            (At::TrailerStart, b'\n') => None,
            (At::TrailerStart, _) => Some(At::Trailer),
            (At::Trailer, b'\n') => Some(At::TrailerStart),
            (At::Trailer, _) => Some(At::Trailer),
            (At::ContentEnd, b'\n') => Some(At::Start),
            _ => None,
        }
    }

    /// A field's name is whole; false when the field must not stand beside another.
    fn named(&mut self) -> bool {
        self.at = At::Line;
        match self.name.text() {
            b"content-length" => {
                self.at = At::Length(None);
                // The library drops one that is repeated: see [`is_cut`].
                self.fields -= usize::from(self.length.is_some());
                !self.chunked
            }
            b"transfer-encoding" => {
                self.chunked = true;
                self.length.is_none()
            }
            b"upgrade" => {
                self.at = At::Protocol(0);
                true
            }
            _ => true,
        }
    }

    fn end_head(&self) -> At {
        match self.length {
            // If it is granted, what follows is no HTTP; if not, the connection is closed.
            _ if self.upgrade => At::Off,
            _ if self.chunked => At::Size(0, 0),
            Some(length) if length > 0 => At::Content(length),
            _ => At::Start,
        }
    }
}

impl Name {
    fn push(&mut self, more: &[u8]) {
        for (place, byte) in self.bytes.iter_mut().skip(self.length).zip(more) {
            *place = byte.to_ascii_lowercase();
        }
        self.length = self.length.saturating_add(more.len());
    }

    /// The name, or nothing when it is longer than those that matter.
    fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
