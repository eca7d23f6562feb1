//! A connection from downstream, which may be silent between requests, and slow in a head, only
//! so long. After a moment of silence it rests: then whoever serves it is to let go what only a
//! request needs.

use std::{
    io,
    mem::take,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use crate::{
    phase::{At, Phase},
    stall::{Stall, Timer},
    watch::{Seen, Watch},
};

/// The stream, with the two read timeouts.
#[derive(Debug)]
pub struct Downstream<T> {
    io: T,
    phase: Phase,
    timeouts: ReadTimeouts,
    timer: Timer,
    watch: Watch,
    /// Behind these bytes reading fails.
    broken: bool,
    /// Comes next, before anything else: the end of a head that was refused or cut. The library
    /// may parse only what has one.
    end: &'static [u8],
    /// Something may have been written only in part.
    unsent: bool,
    /// The peer had no room for all of it.
    full: bool,
    /// It was tried whether there is something to read.
    looked: bool,
    gone: Gone,
}

/// A stream that can tell, without being read, whether its peer is done sending or gone.
pub trait Peer {
    /// Whether the peer has closed, or closed its half.
    fn has_left(&self) -> bool;
}

/// When the peer is looked for again.
#[derive(Debug, Default)]
struct Gone {
    next: Option<Instant>,
    timer: Timer,
}

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug)]
pub struct ReadTimeouts {
    /// A request's head, from its first byte.
    pub head: Duration,
    /// Between requests.
    pub keep_alive: Duration,
}

impl<T> Downstream<T> {
    /// A connection that was accepted now.
    pub fn new(io: T, timeouts: ReadTimeouts) -> Self {
        Self {
            io,
            phase: Phase::begin(),
            timeouts,
            timer: Timer::default(),
            watch: Watch::default(),
            broken: false,
            end: &[],
            unsent: false,
            full: false,
            looked: false,
            gone: Gone::default(),
        }
    }

    /// The stream itself.
    pub fn inner(&self) -> &T {
        &self.io
    }

    /// Where it is, for its requests.
    pub fn phase(&self) -> Phase {
        self.phase.clone()
    }

    fn deadline(&self) -> Option<Instant> {
        match self.phase.now() {
            // A peer that has not taken the answer yet has the write timeout.
            At::Idle(_) if self.unsent => None,
            // It began the next head while it was being answered.
            At::Idle(since) if self.watch.is_in_request() => Some(since + self.timeouts.head),
            At::Idle(since) | At::Resting(since) => Some(since + self.timeouts.keep_alive),
            At::Head(since) => Some(since + self.timeouts.head),
            At::Busy | At::Tunnel => None,
        }
    }

    fn put_end(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let end = take(&mut self.end);
        // Who reads heads has room.
        if buffer.remaining() < end.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        buffer.put_slice(end);
        Ok(())
    }

    fn wrote(&mut self, polled: &Poll<io::Result<usize>>) {
        self.unsent = true;
        self.full |= polled.is_pending();
    }

    /// Ready when it has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let At::Idle(since) = self.phase.now()
            && REST < self.timeouts.keep_alive
        {
            ready!(self.timer.poll_at(cx, since + REST));
            if self.watch.is_between() && !self.unsent {
                self.phase.set(At::Resting(since));
            }
        }
        self.deadline().map_or(Poll::Pending, |deadline| self.timer.poll_at(cx, deadline))
    }
}

impl Downstream<Stall<TcpStream>> {
    /// Ready, with nothing read, once there is something to read, or with `false` when it has been
    /// silent for too long.
    pub fn poll_arrival(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let stream = self.io.inner();
        let arrived = if self.looked {
            stream.poll_read_ready(cx).is_ready()
        } else {
            // Once it was accepted it counts as ready until it is tried.
            stream.poll_peek(cx, &mut ReadBuf::new(&mut [0; 1])).is_ready()
        };
        self.looked = true;
        if arrived {
            return Poll::Ready(true);
        }
        self.deadline().map_or(Poll::Pending, |deadline| self.timer.poll_at(cx, deadline)).map(|()| false)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Downstream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        if !self.end.is_empty() {
            return Poll::Ready(self.put_end(buffer));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        if polled.is_ready() {
            if buffer.filled().len() > before {
                self.phase.first_byte();
                match self.watch.see(&mut buffer.filled_mut()[before..]) {
                    Seen::All => {}
                    Seen::Head(length) => {
                        buffer.set_filled(before + length);
                        self.end = HEAD_END;
                    }
                    Seen::Cut(length, end) => {
                        buffer.set_filled(before + length);
                        self.end = end;
                        self.phase.cut();
                        if length == 0 {
                            return Poll::Ready(self.put_end(buffer));
                        }
                    }
                    Seen::Content(length) => {
                        buffer.set_filled(before + length);
                        self.broken = true;
                        if length == 0 {
                            // Nothing read would be an end.
                            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                        }
                    }
                }
            }
            return polled;
        }
        ready!(self.poll_silence(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: Peer> Downstream<T> {
    /// Fails once the peer has left while it is being answered. The library notices only while it
    /// has nothing of the peer's left to parse: a caller that sent a byte too many would keep its
    /// upstream busy for ever.
    fn look_for_peer(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.phase.now() != At::Busy {
            return Ok(());
        }
        loop {
            let next = *self.gone.next.get_or_insert_with(|| Instant::now() + LOOK_AGAIN);
            if self.gone.timer.poll_at(cx, next).is_pending() {
                return Ok(());
            }
            if self.io.has_left() {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.gone.next = None;
        }
    }
}

impl Peer for Stall<TcpStream> {
    fn has_left(&self) -> bool {
        let mut polled = [PollFd::new(self.inner(), PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}

impl<T: AsyncWrite + Peer + Unpin> AsyncWrite for Downstream<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(&polled);
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look_for_peer(cx)?;
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        // The library flushes only what it has written to its end.
        self.unsent = false;
        if take(&mut self.full)
            && let At::Idle(_) = self.phase.now()
        {
            self.phase.set(At::Idle(Instant::now()));
        }
        // Behind an answer it does not read again until something comes: nobody else sets the timer.
        if matches!(self.phase.now(), At::Idle(_)) && self.poll_silence(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// The end of a line, and an empty one.
const HEAD_END: &[u8] = b"\n\n";

/// Longer than the requests of a busy connection are apart, and so short that of many connections
/// that are opened one after another few do not rest yet.
const REST: Duration = Duration::from_millis(50);

/// A caller that has left lets its upstream go within a second.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    impl Peer for tokio::io::DuplexStream {
        fn has_left(&self) -> bool {
            false
        }
    }

    const TIMEOUTS: ReadTimeouts =
        ReadTimeouts { head: Duration::from_secs(10), keep_alive: Duration::from_secs(75) };

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_timeout_from_its_first_byte() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let mut stream = Downstream::new(ours, TIMEOUTS);
        let started = Instant::now();
        tokio::time::sleep(Duration::from_secs(50)).await;
        theirs.write_all(b"G").await.unwrap();
        stream.read_u8().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_between_requests_has_a_longer_one_and_an_answer_none() {
        let (ours, _theirs) = tokio::io::duplex(8);
        let mut stream = Downstream::new(ours, TIMEOUTS);
        let busy = stream.phase().busy();
        let started = Instant::now();
        let silent = tokio::time::timeout(Duration::from_secs(600), stream.read_u8()).await;
        assert!(silent.is_err());
        drop(busy);
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 675);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_begins_behind_a_request_has_no_longer_than_any_other() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut stream = Downstream::new(ours, TIMEOUTS);
        let busy = stream.phase().busy();
        theirs.write_all(b"GET / HTTP/1.1\r\n\r\nG").await.unwrap();
        stream.read_exact(&mut [0; 19]).await.unwrap();
        let started = Instant::now();
        drop(busy);
        assert_eq!(stream.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_long_to_take_an_answer_is_not_idle_before() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let (mut from, mut to) = tokio::io::split(Downstream::new(ours, TIMEOUTS));
        let answering = async {
            to.write_all(&[0; 9]).await.unwrap();
            to.flush().await.unwrap();
            Instant::now()
        };
        let taking = async {
            tokio::time::sleep(Duration::from_secs(600)).await;
            theirs.read_exact(&mut [0; 9]).await.unwrap();
        };
        let reading = async {
            assert_eq!(from.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
            Instant::now()
        };
        let (answered, (), ended) = tokio::join!(answering, taking, reading);
        assert_eq!((ended - answered).as_secs(), 75);
    }
}
