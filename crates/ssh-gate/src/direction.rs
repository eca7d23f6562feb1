//! One direction of a connection: what has been read and not yet written, and how much went through.
//!
//! A buffer is held only while bytes are in it; an idle connection holds none.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// As much as a read takes: below it the calls cost more than the copying.
const BUFFER: usize = 64 * 1024;
/// Spare buffers of a thread. One is enough for a thread that writes what it has read; a second one
/// is for what comes back after a peer was slow.
const SPARE: usize = 2;
/// Reads before the other direction and other connections have their turn.
const TURN: u32 = 16;

thread_local! {
    static SPARES: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes on their way from one socket to the other.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    held: Option<Held>,
}

/// How many bytes one direction has delivered.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

/// Which of the two sockets failed.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The one that is read.
    From(io::Error),
    /// The one that is written.
    To(io::Error),
}

#[derive(Debug)]
struct Held {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Counter {
    /// The bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Direction {
    /// Moves bytes until `from` has ended and everything is written. May be dropped and polled anew
    /// at any time: what was read stays here.
    pub(crate) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        counter: &Counter,
        moved: &impl Fn(),
    ) -> Poll<Result<(), Broken>> {
        for _ in 0..TURN {
            if let Some(held) = &mut self.held {
                while held.start < held.end {
                    let rest = &held.buffer[held.start..held.end];
                    let n = ready!(poll_write(to, cx, rest)).map_err(Broken::To)?;
                    held.start += n;
                    counter.0.fetch_add(n as u64, Relaxed);
                    moved();
                }
            }
            let mut buffer = self.held.take().map_or_else(spare, |held| held.buffer);
            match poll_read(from, cx, &mut buffer) {
                Poll::Ready(Ok(end @ 1..)) => self.held = Some(Held { buffer, start: 0, end }),
                ended => {
                    keep(buffer);
                    return ended.map(|result| result.map(drop).map_err(Broken::From));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Reads and forgets what a peer sends to a side that is gone; ready when the peer has failed too.
pub(crate) fn poll_discard(cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Error> {
    let mut buffer = spare();
    let outcome = loop {
        match poll_read(from, cx, &mut buffer) {
            Poll::Ready(Ok(0)) | Poll::Pending => break Poll::Pending,
            Poll::Ready(Ok(_)) => {}
            Poll::Ready(Err(error)) => break Poll::Ready(error),
        }
    };
    keep(buffer);
    outcome
}

fn spare() -> Box<[u8]> {
    SPARES.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice())
}

fn keep(buffer: Box<[u8]>) {
    SPARES.with_borrow_mut(|spares| {
        if spares.len() < SPARE {
            spares.push(buffer);
        }
    });
}

fn poll_read(stream: &TcpStream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let full = buffer.len();
        let call = || retry(|| (&*SockRef::from(stream)).read(buffer));
        match once(stream, Interest::READABLE, full, call) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

fn poll_write(stream: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let call = || retry(|| (&*SockRef::from(stream)).write(bytes));
        match once(stream, Interest::WRITABLE, bytes.len(), call) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Makes one call on a ready socket. A call that moved less than asked has found the queue's end:
/// the runtime is told so at once, which saves the call that would say "would block".
fn once(
    stream: &TcpStream,
    interest: Interest,
    asked: usize,
    call: impl FnOnce() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut short = None;
    let done = stream.try_io(interest, || {
        let n = call()?;
        if 0 < n && n < asked {
            short = Some(n);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(n)
    });
    short.map_or(done, Ok)
}

fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
