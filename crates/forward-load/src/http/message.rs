//! HTTP/1.1 messages as the load tool and its origin read them: heads and the framing of bodies.
//!
//! Promises that a body ends where its framing says, wherever the bytes are split, and that a
//! body cut short is never taken for a whole one. Strict on framing, because a forwarder's
//! mistake there is what this tool is to find; everything else in a head is passed over.

/// How the end of a body is determined (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length; 0 for no body at all.
    Length(u64),
    /// By the chunk of size 0.
    Chunked,
    /// By the end of the connection; answers only.
    UntilClose,
}

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerHead {
    /// Its status.
    pub status: u16,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection ends with it.
    pub close: bool,
    /// How many bytes it took, the empty line included.
    pub len: usize,
}

/// The head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its target, as sent.
    pub target: &'a str,
    /// The value of its only `Authorization` field.
    pub authorization: Option<&'a str>,
    /// Whether there was more than one `Authorization` field.
    pub authorized_twice: bool,
    /// How its body ends.
    pub framing: Framing,
    /// Whether the connection ends with its answer.
    pub close: bool,
    /// How many bytes it took, the empty line included.
    pub len: usize,
}

/// Why bytes are not the message that they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// A head longer than [`HEAD_MAX`].
    #[error("the head is longer than {HEAD_MAX} bytes")]
    HeadTooLong,
    /// The first line is neither a status line nor a request line of HTTP/1.
    #[error("the first line is not HTTP/1")]
    FirstLine,
    /// A line that is not a field.
    #[error("a line of the head is not a field")]
    Field,
    /// A length that is not a number, lengths that differ, or a length beside chunks.
    #[error("invalid length of the body")]
    Length,
    /// A transfer coding other than chunked.
    #[error("the transfer coding is not chunked")]
    Coding,
    /// A chunk whose size or line end is wrong.
    #[error("a chunk is malformed")]
    Chunk,
    /// The connection ended within the body.
    #[error("the body ended early")]
    Truncated,
}

/// The longest head that is read.
pub const HEAD_MAX: usize = 16 * 1024;

/// Reads the head of the answer to a request of any method but HEAD; `None` when `input` does
/// not hold all of it yet.
///
/// # Errors
///
/// A head that is not one.
pub fn answer_head(input: &[u8]) -> Result<Option<AnswerHead>, MessageError> {
    let Some((text, len)) = whole_head(input)? else { return Ok(None) };
    let (first, fields) = split_line(text);
    let Some((version, rest)) = first.split_at_checked(9) else { return Err(MessageError::FirstLine) };
    let status = rest.get(..3).and_then(|code| code.parse().ok()).ok_or(MessageError::FirstLine)?;
    if !matches!(version, "HTTP/1.1 " | "HTTP/1.0 ") || !(100..600).contains(&status) {
        return Err(MessageError::FirstLine);
    }
    let fields = Fields::read(fields)?;
    let framing = match fields.framing()? {
        _ if status < 200 || status == 204 || status == 304 => Framing::Length(0),
        Some(framing) => framing,
        None => Framing::UntilClose,
    };
    let close = fields.close || version == "HTTP/1.0 " || framing == Framing::UntilClose;
    Ok(Some(AnswerHead { status, framing, close, len }))
}

/// Reads the head of a request; `None` when `input` does not hold all of it yet.
///
/// # Errors
///
/// A head that is not one.
pub fn request_head(input: &[u8]) -> Result<Option<RequestHead<'_>>, MessageError> {
    let Some((text, len)) = whole_head(input)? else { return Ok(None) };
    let (first, fields) = split_line(text);
    let mut words = first.split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0"), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(MessageError::FirstLine);
    };
    let fields = Fields::read(fields)?;
    let framing = fields.framing()?.unwrap_or(Framing::Length(0));
    let close = fields.close || first.ends_with("1.0");
    let (authorization, authorized_twice) = (fields.authorization, fields.authorized_twice);
    Ok(Some(RequestHead { method, target, authorization, authorized_twice, framing, close, len }))
}

/// The part of a head that this tool looks at.
#[derive(Default)]
struct Fields<'a> {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    authorization: Option<&'a str>,
    authorized_twice: bool,
}

impl<'a> Fields<'a> {
    fn read(mut lines: &'a str) -> Result<Self, MessageError> {
        let mut fields = Self::default();
        while !lines.is_empty() {
            let (line, rest) = split_line(lines);
            lines = rest;
            let (name, value) = line.split_once(':').ok_or(MessageError::Field)?;
            if name.is_empty() || name.bytes().any(|byte| byte <= b' ') {
                return Err(MessageError::Field);
            }
            fields.take(name, value.trim_matches([' ', '\t']))?;
        }
        Ok(fields)
    }

    fn take(&mut self, name: &str, value: &'a str) -> Result<(), MessageError> {
        // The length tells most fields apart before any byte is compared.
        match name.len() {
            10 if name.eq_ignore_ascii_case("connection") => {
                let mut options = value.split(',');
                self.close |= options.any(|option| option.trim().eq_ignore_ascii_case("close"));
            }
            13 if name.eq_ignore_ascii_case("authorization") => {
                self.authorized_twice |= self.authorization.replace(value).is_some();
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
                let length = value.parse().ok().filter(|_| digits).ok_or(MessageError::Length)?;
                if self.length.replace(length).is_some_and(|before| before != length) {
                    return Err(MessageError::Length);
                }
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case("chunked") {
                    return Err(MessageError::Coding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self) -> Result<Option<Framing>, MessageError> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(MessageError::Length),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, length) => Ok(length.map(Framing::Length)),
        }
    }
}

/// The first line of `text` without its line end, and what follows.
fn split_line(text: &str) -> (&str, &str) {
    text.split_once("\r\n").unwrap_or((text, ""))
}

/// The head at the start of `input` without its empty line, and its length with it.
fn whole_head(input: &[u8]) -> Result<Option<(&str, usize)>, MessageError> {
    let mut from = 0;
    while let Some(at) = input[from..].iter().position(|byte| *byte == b'\n') {
        let end = from + at + 1;
        if input[..end].ends_with(b"\r\n\r\n") {
            let text = std::str::from_utf8(&input[..end - 4]).map_err(|_| MessageError::Field)?;
            return Ok(Some((text, end)));
        }
        from = end;
    }
    if input.len() > HEAD_MAX { Err(MessageError::HeadTooLong) } else { Ok(None) }
}

/// A body that is being read.
#[derive(Debug, Clone)]
pub struct Body {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Content by length, this much still to come.
    Length(u64),
    UntilClose,
    /// The digits of a chunk's size, and whether there was one.
    Size(u64, bool),
    /// The rest of the size line, passed over.
    Extension(u64),
    SizeEnd(u64),
    Chunk(u64),
    ChunkCr,
    ChunkLf,
    /// A line of the trailers, and whether it is still empty.
    Trailer(bool),
    TrailerLf(bool),
    Done,
}

impl Body {
    /// A body of which nothing has been read.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size(0, false),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Whether nothing more belongs to the body.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Reads on: hands each piece of content to `content`, and returns how many bytes of `input`
    /// belonged to the body. Less than all of them only when the body is done.
    ///
    /// # Errors
    ///
    /// A malformed chunk.
    pub fn read(&mut self, input: &[u8], mut content: impl FnMut(&[u8])) -> Result<usize, MessageError> {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            match self.state {
                State::Done => break,
                State::UntilClose => {
                    content(rest);
                    return Ok(input.len());
                }
                State::Length(left) | State::Chunk(left) => {
                    let piece = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
                    content(&rest[..piece]);
                    at += piece;
                    let left = left - piece as u64;
                    self.state = match self.state {
                        State::Length(_) if left == 0 => State::Done,
                        State::Length(_) => State::Length(left),
                        _ if left == 0 => State::ChunkCr,
                        _ => State::Chunk(left),
                    };
                }
                _ => {
                    self.state = self.state.after(rest[0])?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    /// The connection ended: whether that ended the body.
    ///
    /// # Errors
    ///
    /// [`MessageError::Truncated`] when more was to come.
    pub fn end(&mut self) -> Result<(), MessageError> {
        match self.state {
            State::Done | State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            _ => Err(MessageError::Truncated),
        }
    }
}

impl State {
    /// The state after one byte between two chunks.
    fn after(self, byte: u8) -> Result<Self, MessageError> {
        Ok(match (self, byte) {
            (Self::Size(size, true), b'\r') => Self::SizeEnd(size),
            (Self::Size(size, true), b';' | b' ' | b'\t') => Self::Extension(size),
            (Self::Size(size, _), _) => {
                let digit = char::from(byte).to_digit(16).ok_or(MessageError::Chunk)?;
                let size = size.checked_mul(16).ok_or(MessageError::Chunk)?;
                Self::Size(size + u64::from(digit), true)
            }
            (Self::Extension(size), b'\r') => Self::SizeEnd(size),
            (Self::Extension(_), b'\n') => return Err(MessageError::Chunk),
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::SizeEnd(0), b'\n') => Self::Trailer(true),
            (Self::SizeEnd(size), b'\n') => Self::Chunk(size),
            (Self::ChunkCr, b'\r') => Self::ChunkLf,
            (Self::ChunkLf, b'\n') => Self::Size(0, false),
            (Self::Trailer(empty), b'\r') => Self::TrailerLf(empty),
            (Self::Trailer(_), b'\n') => return Err(MessageError::Chunk),
            (Self::Trailer(_), _) => Self::Trailer(false),
            (Self::TrailerLf(true), b'\n') => Self::Done,
            (Self::TrailerLf(false), b'\n') => Self::Trailer(true),
            _ => return Err(MessageError::Chunk),
        })
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
