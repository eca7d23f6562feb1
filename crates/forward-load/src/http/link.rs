//! One connection of the load side, and one request on it at a time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    fault::Fault,
    message::{AnswerHead, Body, answer_head},
    origin::{JSON, receipt},
    pattern::{Checksum, Pattern},
    target::Target,
    wire::Wire,
};

/// A request that is sent over and over.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its head, as bytes.
    pub head: Vec<u8>,
    /// How many bytes of [`Pattern`] follow it.
    pub upload: u64,
    /// What must come back.
    pub expect: Expect,
}

/// What the content of a right answer is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Anything: an origin that is not ours.
    Anything,
    /// These bytes.
    Exactly(Vec<u8>),
    /// So many bytes of the pattern.
    Pattern(u64),
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
    buffer: Vec<u8>,
    /// What was read and not yet understood.
    unread: std::ops::Range<usize>,
    /// Counts each byte of content, also of transfers that do not end.
    moved: Arc<AtomicU64>,
    /// Whether the last answer left the connection open.
    open: bool,
}

impl Request {
    /// A request for `path` as the origin would see it, at `target` with what forwarders put
    /// before it. `fields` are whole lines. What must come back follows from `path`: see
    /// [`Expect::of`].
    pub fn new(
        target: &Target,
        path_and_query: &str,
        fields: &[String],
        upload: Option<u64>,
        close: bool,
    ) -> Self {
        let method = if upload.is_some() { "POST" } else { "GET" };
        let mut head =
            format!("{method} {path_and_query} HTTP/1.1\r\nHost: {}\r\nAccept: */*\r\n", target.authority);
        if let Some(size) = upload {
            head.push_str(&format!("Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n"));
        }
        for field in fields {
            head.push_str(field);
            head.push_str("\r\n");
        }
        head.push_str(if close { "Connection: close\r\n\r\n" } else { "\r\n" });
        let expect = Expect::of(path_and_query, upload);
        Self { head: head.into_bytes(), upload: upload.unwrap_or(0), expect }
    }
}

impl Expect {
    /// What our own origin answers, told by the end of the path: `/json`, `/bytes/N`, `/upload`.
    pub fn of(path_and_query: &str, upload: Option<u64>) -> Self {
        let path = path_and_query.split('?').next().unwrap_or_default();
        let mut segments = path.rsplit('/');
        match (segments.next(), segments.next(), upload) {
            (Some("json"), _, None) => Self::Exactly(JSON.into()),
            (Some("upload"), _, Some(size)) => Self::Exactly(receipt(&Checksum::of_pattern(size)).into()),
            (Some(size), Some("bytes"), None) => size.parse().map_or(Self::Anything, Self::Pattern),
            _ => Self::Anything,
        }
    }
}

impl Link {
    /// Connects. Content that moves is counted in `moved`.
    ///
    /// # Errors
    ///
    /// No connection, or no TLS on it.
    pub async fn open(target: &Target, buffer: usize, moved: Arc<AtomicU64>) -> Result<Self, Fault> {
        let wire = target.connect().await?;
        Ok(Self { wire, buffer: vec![0; buffer.max(SMALL_BUFFER)], unread: 0..0, moved, open: true })
    }

    /// Whether another request can be sent.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Sends a request and reads its answer to the end, checking every byte.
    ///
    /// # Errors
    ///
    /// Anything but the right answer; the connection is of no more use then.
    pub async fn exchange(&mut self, request: &Request) -> Result<(), Fault> {
        self.open = false;
        let sent = self.send(request).await;
        let head = match (sent, self.receive_head().await) {
            (Ok(()), head) => head?,
            // An early refusal explains a broken upload better than the broken pipe does.
            (Err(fault), head) => match head.map(|head| head.status) {
                Ok(status) if !(200..300).contains(&status) => return Err(refused(status)),
                _ => return Err(fault),
            },
        };
        let right = self.receive_body(&head, &request.expect).await?;
        if !(200..300).contains(&head.status) {
            return Err(refused(head.status));
        }
        if !right {
            return Err(Fault::Corrupt);
        }
        if !self.unread.is_empty() {
            return Err(Fault::Unasked);
        }
        self.open = !head.close;
        Ok(())
    }

    /// Waits, between two requests, for what is not to come: its end, or unrequested bytes.
    pub async fn disturbed(&mut self) -> Fault {
        match self.fill_more().await {
            Ok(true) => Fault::Unasked,
            Ok(false) => Fault::NotKept,
            Err(fault) => fault,
        }
    }

    /// Sends a request, reads the head of its answer, and hands over content as it comes, until
    /// the answer ends or `content` says that it is enough.
    ///
    /// # Errors
    ///
    /// Anything but an answer of 2xx, or its early end.
    pub async fn stream(
        &mut self,
        request: &Request,
        mut content: impl FnMut(&[u8]) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        self.open = false;
        self.send(request).await?;
        let head = self.receive_head().await?;
        if !(200..300).contains(&head.status) {
            return Err(refused(head.status));
        }
        let mut body = Body::new(head.framing);
        let (mut outcome, mut more) = (Ok(()), true);
        loop {
            let unread = self.unread.clone();
            let taken = body.read(&self.buffer[unread.clone()], |piece| {
                if outcome.is_ok() {
                    match content(piece) {
                        Ok(go_on) => more &= go_on,
                        Err(fault) => outcome = Err(fault),
                    }
                }
            })?;
            self.unread.start = unread.start + taken;
            outcome?;
            if body.is_done() || !more {
                return Ok(());
            }
            self.fill(Fault::Truncated).await?;
        }
    }

    async fn send(&mut self, request: &Request) -> Result<(), Fault> {
        let broken = |error: std::io::Error| Fault::Send(error.kind());
        self.wire.write_all(&request.head).await.map_err(broken)?;
        let (mut pattern, mut left) = (Pattern::default(), request.upload);
        while left > 0 {
            let mut piece = pattern.next(left);
            left -= piece.len() as u64;
            while !piece.is_empty() {
                let written = self.wire.write(piece).await.map_err(broken)?;
                self.moved.fetch_add(written as u64, Ordering::Relaxed);
                piece = &piece[written..];
            }
        }
        self.wire.flush().await.map_err(broken)
    }

    async fn receive_head(&mut self) -> Result<AnswerHead, Fault> {
        loop {
            let head = answer_head(&self.buffer[self.unread.clone()])?;
            if let Some(head) = head {
                self.unread.start += head.len;
                // 1xx answers come before the one that counts.
                if head.status >= 200 {
                    return Ok(head);
                }
                continue;
            }
            let nothing_yet = self.unread.is_empty();
            self.fill(if nothing_yet { Fault::NoAnswer } else { Fault::Truncated }).await?;
        }
    }

    /// Reads the body to its end; whether it is what was expected.
    async fn receive_body(&mut self, head: &AnswerHead, expect: &Expect) -> Result<bool, Fault> {
        let mut body = Body::new(head.framing);
        let (mut right, mut count, mut pattern) = (true, 0_u64, Pattern::default());
        loop {
            let unread = self.unread.clone();
            let taken = body.read(&self.buffer[unread.clone()], |piece| {
                right &= match expect {
                    Expect::Anything => true,
                    Expect::Exactly(bytes) => {
                        let rest = usize::try_from(count).ok().and_then(|at| bytes.get(at..));
                        rest.is_some_and(|rest| rest.starts_with(piece))
                    }
                    Expect::Pattern(_) => pattern.matches(piece),
                };
                count += piece.len() as u64;
                self.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
            })?;
            self.unread.start = unread.start + taken;
            if body.is_done() {
                break;
            }
            if !self.fill_more().await? {
                body.end()?;
                break;
            }
        }
        let whole = match expect {
            Expect::Anything => true,
            Expect::Exactly(bytes) => count == bytes.len() as u64,
            Expect::Pattern(size) => count == *size,
        };
        Ok(right && whole)
    }

    /// Reads more; the end of the connection is `at_end`.
    async fn fill(&mut self, at_end: Fault) -> Result<(), Fault> {
        if self.fill_more().await? { Ok(()) } else { Err(at_end) }
    }

    async fn fill_more(&mut self) -> Result<bool, Fault> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.buffer.len() {
            // A head that is not whole yet; it is bounded by less than the smallest buffer.
            self.buffer.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        let read = self.wire.read(&mut self.buffer[self.unread.end..]).await;
        let read = read.map_err(|error| match error.kind() {
            // TLS that ends without saying so.
            std::io::ErrorKind::UnexpectedEof => Fault::Truncated,
            kind => Fault::Receive(kind),
        })?;
        self.unread.end += read;
        Ok(read > 0)
    }
}

fn refused(status: u16) -> Fault {
    if status == 401 { Fault::Credential } else { Fault::Status(status) }
}

/// Room for the longest head, with something to spare.
const SMALL_BUFFER: usize = super::message::HEAD_MAX + 4 * 1024;
