//! TLS over a stream: takes as many records at a time as have come, and holds no buffer while
//! nothing is under way.
//!
//! The library's buffered connection reads 4 KiB at a time and moves what is left to the front
//! for every record. Here the connections of a thread share one buffer, in which records are
//! decrypted where they lie; only a record that has come in part is kept with its connection.

use std::{
    cell::RefCell,
    io,
    mem::take,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{
    ClientConfig,
    client::UnbufferedClientConnection,
    pki_types::ServerName,
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's side of a TLS connection whose handshake is done.
pub struct TlsStream<T> {
    io: T,
    tls: UnbufferedClientConnection,
    /// A record, or a handshake's message, that has come in part.
    incoming: Vec<u8>,
    /// What its reader had no room for.
    unread: Vec<u8>,
    /// Records that wait to be written.
    outgoing: Vec<u8>,
    /// The peer has said that nothing more comes.
    ended: bool,
    /// We have said so.
    closed: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> TlsStream<T> {
    /// Shakes hands over `io` with a server that proves to be `name`.
    ///
    /// # Errors
    ///
    /// The stream's, or the library's as [`io::ErrorKind::InvalidData`].
    pub async fn connect(config: Arc<ClientConfig>, name: ServerName<'static>, io: T) -> io::Result<Self> {
        let tls = UnbufferedClientConnection::new(config, name).map_err(invalid)?;
        let (incoming, unread, outgoing) = (Vec::new(), Vec::new(), Vec::new());
        let mut stream = Self { io, tls, incoming, unread, outgoing, ended: false, closed: false };
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut nowhere = ReadBuf::new(&mut []);
        loop {
            let mut incoming = take(&mut self.incoming);
            let processed = self.process(&mut incoming, &mut nowhere);
            let is_done = self.or_alert(cx, processed, &incoming)?;
            ready!(self.poll_send(cx))?;
            if is_done {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_receive(cx, &mut nowhere))?;
        }
    }

    /// Reads once, and processes what came. What is left of it waits for the rest.
    fn poll_receive(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let had = self.incoming.len();
            // No more than the reader has room for, but a record at least.
            let most = (had + to.remaining() + RECORD_OVERHEAD).max(had + MAX_RECORD).min(SCRATCH_SIZE);
            let Some(room) = scratch.get_mut(had..most).filter(|room| !room.is_empty()) else {
                return Poll::Ready(Err(invalid("a message is too long")));
            };
            let mut room = ReadBuf::new(room);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut room))?;
            let came = room.filled().len();
            if came == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            scratch[..had].copy_from_slice(&take(&mut self.incoming));
            let records = &mut scratch[..had + came];
            let processed = self.process(records, to);
            self.or_alert(cx, processed, records)?;
            Poll::Ready(Ok(()))
        })
    }

    /// Keeps what was not processed; tells the peer of a failure, as far as that can be done now.
    fn or_alert(
        &mut self,
        cx: &mut Context<'_>,
        processed: Result<Processed, rustls::Error>,
        records: &[u8],
    ) -> io::Result<bool> {
        match processed {
            Ok(Processed { length, is_traffic }) => {
                self.incoming = records[length..].to_vec();
                Ok(is_traffic)
            }
            Err(error) => {
                let _ = self.poll_send(cx);
                Err(invalid(error))
            }
        }
    }

    /// Processes whole records, up to where more is needed.
    fn process(&mut self, records: &mut [u8], to: &mut ReadBuf<'_>) -> Result<Processed, rustls::Error> {
        let mut length = 0;
        loop {
            let UnbufferedStatus { discard, state, .. } =
                self.tls.process_tls_records(&mut records[length..]);
            length += discard;
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    // What the peer is told about it. (The library insists on the same records.)
                    let status = self.tls.process_tls_records(&mut records[length..]);
                    if let Ok(ConnectionState::EncodeTlsData(alert)) = status.state {
                        encode(alert, &mut self.outgoing);
                    }
                    return Err(error);
                }
            };
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        length += record.discard;
                        let fits = record.payload.len().min(to.remaining());
                        let fits = if self.unread.is_empty() { fits } else { 0 };
                        to.put_slice(&record.payload[..fits]);
                        self.unread.extend_from_slice(&record.payload[fits..]);
                    }
                }
                ConnectionState::EncodeTlsData(data) => encode(data, &mut self.outgoing),
                ConnectionState::TransmitTlsData(sent) => sent.done(),
                ConnectionState::PeerClosed => self.ended = true,
                ConnectionState::BlockedHandshake => return Ok(Processed { length, is_traffic: false }),
                _ => return Ok(Processed { length, is_traffic: true }),
            }
        }
    }

    /// Writes the records that wait.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut records = take(&mut self.outgoing);
        match poll_write_all(&mut self.io, cx, &records) {
            Ok(written) if written < records.len() => {
                self.outgoing = records.split_off(written);
                Poll::Pending
            }
            Ok(_) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Encrypts, writes what can be written now, and keeps the rest.
    fn send(&mut self, cx: &mut Context<'_>, plain: &[u8]) -> io::Result<()> {
        // Messages of the library's own, the answer to a key update say, go first.
        let mut incoming = take(&mut self.incoming);
        let processed = self.process(&mut incoming, &mut ReadBuf::new(&mut []));
        self.or_alert(cx, processed, &incoming)?;
        SCRATCH.with_borrow_mut(|scratch| {
            let status = self.tls.process_tls_records(&mut self.incoming);
            let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            let length = traffic.encrypt(plain, scratch).map_err(|error| invalid(error.to_string()))?;
            let records = &scratch[..length];
            let written =
                if self.outgoing.is_empty() { poll_write_all(&mut self.io, cx, records)? } else { 0 };
            self.outgoing.extend_from_slice(&records[written..]);
            Ok(())
        })
    }
}

/// How far records were processed, and whether data may be sent.
struct Processed {
    length: usize,
    is_traffic: bool,
}

/// Writes until all is written or nothing is taken; returns how much was.
fn poll_write_all(
    io: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match Pin::new(&mut *io).poll_write(cx, &bytes[written..]) {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(Ok(n)) => written += n,
            Poll::Ready(Err(error)) => return Err(error),
            Poll::Pending => break,
        }
    }
    Ok(written)
}

fn encode<Data>(mut data: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) {
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else { return };
    let start = outgoing.len();
    outgoing.resize(start + size.required_size, 0);
    // It has the room that it asked for.
    let _ = data.encode(&mut outgoing[start..]);
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        while buffer.filled().len() == before && buffer.remaining() > 0 {
            if !self.unread.is_empty() {
                let fits = self.unread.len().min(buffer.remaining());
                buffer.put_slice(&self.unread[..fits]);
                self.unread = self.unread.split_off(fits);
            } else if self.ended {
                break;
            } else {
                ready!(self.poll_receive(cx, buffer))?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let plain = &bytes[..bytes.len().min(MAX_WRITE)];
        Poll::Ready(self.send(cx, plain).map(|()| plain.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.closed {
            this.closed = true;
            let status = this.tls.process_tls_records(&mut this.incoming);
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state {
                let mut alert = [0; 128];
                if let Ok(length) = traffic.queue_close_notify(&mut alert) {
                    this.outgoing.extend_from_slice(&alert[..length]);
                }
            }
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<T> std::fmt::Debug for TlsStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("ended", &self.ended).finish_non_exhaustive()
    }
}

thread_local! {
    // Made zero rather than zeroed: what no record was long enough for stays untouched, and takes no memory.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_SIZE]);
}

/// The longest record with its head (RFC 5246 section 6.2.3; RFC 8446 has shorter ones).
const MAX_RECORD: usize = 5 + 16_384 + 2048;

/// Encrypted at a time: four records.
const MAX_WRITE: usize = 64 * 1024;

/// What records add to that much plaintext, with room to spare.
const RECORD_OVERHEAD: usize = 1024;

/// Room for what the library may hold of a long handshake message, and for a record behind it.
const SCRATCH_SIZE: usize = MAX_WRITE + MAX_RECORD;

#[cfg(test)]
mod tests;
