//! A client that writes the bytes of a request as given and reads what comes back.
//!
//! It knows just enough HTTP/1.1 to tell where an answer ends: Content-Length, chunks, or the
//! end of the connection.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// An open connection to the server under test.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// One answer, as it was on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The status line and the fields, with their line ends.
    pub head: String,
    /// The content, chunks put together.
    pub body: Vec<u8>,
    /// Whether it ended as its framing said it would. `false`: the connection ended first.
    pub complete: bool,
}

impl Answer {
    /// The value of the first field of this name, any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields(name).next()
    }

    /// The values of all fields of this name, any case.
    pub fn fields<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.head.lines().skip(1).filter_map(move |line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Everything, for looking whether something is nowhere in it.
    pub fn all(&self) -> String {
        format!("{}{}", self.head, self.text())
    }
}

impl RawClient {
    /// Connects.
    pub async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
    }

    /// Writes these bytes. A peer that has already closed is not a failure: its response shows the reason.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("the peer reads");
    }

    /// Half-closes: nothing more will be sent.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads the next answer to a GET or the like.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        self.answer_to("GET").await
    }

    /// Reads the next answer to a request of this method.
    ///
    /// # Errors
    ///
    /// When the connection ends, or nothing comes for ten seconds, before the head is whole.
    pub async fn answer_to(&mut self, method: &str) -> io::Result<Answer> {
        let head = self.head().await?;
        let status: u16 = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(malformed)?;
        let mut answer = Answer { status, head, body: Vec::new(), complete: true };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.field("transfer-encoding").is_some() {
            answer.complete = self.chunks(&mut answer.body).await.is_ok();
        } else if let Some(length) = answer.field("content-length") {
            let length: usize = length.parse().map_err(|_| malformed())?;
            answer.complete = self.exactly(length, &mut answer.body).await.is_ok();
        } else {
            answer.complete = self.read_to_end(&mut answer.body).await.is_ok();
        }
        Ok(answer)
    }

    /// Sends and reads the answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> io::Result<Answer> {
        self.send(&request).await;
        let method = request.as_ref().split(|b| *b == b' ').next().unwrap_or_default();
        self.answer_to(&String::from_utf8_lossy(method)).await
    }

    /// Reads the next status line and fields, through the empty line.
    pub async fn head(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return Ok(String::from_utf8_lossy(&head).into_owned());
            }
            self.fill().await?;
        }
    }

    /// Reads bytes until these have arrived, and returns all up to and with them.
    pub async fn until(&mut self, wanted: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.unread, wanted) {
                return Ok(self.unread.drain(..at + wanted.len()).collect());
            }
            self.fill().await?;
        }
    }

    /// Whether the other side closes the connection, within `within`, without another byte.
    pub async fn closes(&mut self, within: Duration) -> bool {
        if !self.unread.is_empty() {
            return false;
        }
        matches!(timeout(within, self.stream.read(&mut [0; 1])).await, Ok(Ok(0) | Err(_)))
    }

    /// Reads all that is still to come.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let _ = self.read_to_end(&mut all).await;
        all
    }

    /// The connection itself.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    async fn exactly(&mut self, length: usize, into: &mut Vec<u8>) -> io::Result<()> {
        while self.unread.len() < length {
            if let Err(error) = self.fill().await {
                into.append(&mut self.unread);
                return Err(error);
            }
        }
        into.extend(self.unread.drain(..length));
        Ok(())
    }

    async fn chunks(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let line = self.until(b"\r\n").await?;
            let line = String::from_utf8_lossy(&line);
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| malformed())?;
            self.exactly(size, into).await?;
            if self.until(b"\r\n").await? != b"\r\n" {
                return Err(malformed());
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    async fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        loop {
            into.append(&mut self.unread);
            match self.fill().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        match timeout(PATIENCE, self.stream.read_buf(&mut self.unread)).await?? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

/// Sends one request on a connection of its own and reads the answer.
pub async fn ask(to: SocketAddr, request: impl AsRef<[u8]>) -> io::Result<Answer> {
    RawClient::connect(to).await.ask(request).await
}

fn find(within: &[u8], wanted: &[u8]) -> Option<usize> {
    within.windows(wanted.len()).position(|window| window == wanted)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed answer")
}

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);
