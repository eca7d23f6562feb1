//! One direction of a connection: what has been read and not yet written, and how much went through.
//!
//! While reads are small, bytes pass through one buffer of the thread's; when a read fills that, they
//! go on through a pipe, uncopied. What the receiver does not take at once is kept until it does; an
//! idle connection holds neither buffer nor pipe.

use std::cell::RefCell;
use std::io::{self, Read as _, Write as _};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use sidecar::log::Coalesced;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::pipe::Pipe;

/// As much as a read takes: below it the calls cost more than the copying.
const BUFFER: usize = 64 * 1024;
/// Bytes that may wait for receivers before reads become small: a quarter of the 64 MiB that a
/// sidecar has.
const MOST_WAITING: usize = 16 * 1024 * 1024;
/// What is read then. The default of 1,024 connections holds 8 MiB of it, both ways together.
const TIGHT: usize = 4 * 1024;
/// A read of a pipe that brings less than this was not bulk data: copying resumes.
const BULK: usize = 32 * 1024;
/// What one direction moves before the other one and other connections have their turn.
const TURN: u64 = 1024 * 1024;

thread_local! {
    /// What is read and written at once passes through here, so that a connection has no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Bytes on their way from one socket to the other.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    held: Held,
    /// Whether the last read was as large as a read can be.
    bulk: bool,
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

/// What was read and could not be written yet.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Nothing,
    Bytes(Rest),
    Pipe(Pipe),
}

impl Drop for Direction {
    fn drop(&mut self) {
        // Broken off in the middle: the pipe is no good any more, but its place is.
        if let Held::Pipe(pipe) = std::mem::take(&mut self.held) {
            pipe.keep();
        }
    }
}

/// Bytes that wait for their receiver, counted with all others that do.
#[derive(Debug)]
struct Rest {
    bytes: Box<[u8]>,
    start: usize,
}

/// The bytes of all connections that wait for their receivers.
static WAITING: AtomicUsize = AtomicUsize::new(0);

impl Rest {
    fn of(bytes: &[u8]) -> Self {
        WAITING.fetch_add(bytes.len(), Relaxed);
        Self { bytes: bytes.into(), start: 0 }
    }

    /// Whether as much as usual may be read: a thousand peers that never read must not fill the memory.
    fn is_room() -> bool {
        static FULL: LazyLock<Arc<Coalesced>> = LazyLock::new(Arc::default);
        let waiting = WAITING.load(Relaxed);
        if waiting > MOST_WAITING {
            FULL.count(move |count| {
                tracing::warn!(
                    event = "memory_limit",
                    waiting,
                    count,
                    "receivers do not read: less is taken"
                );
            });
        }
        waiting <= MOST_WAITING
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        WAITING.fetch_sub(self.bytes.len(), Relaxed);
    }
}

impl Counter {
    /// The bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Direction {
    /// Whether something was read that `to` does not take.
    pub(crate) fn is_blocked(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    /// Moves bytes until `from` has ended and everything is written. May be dropped and polled again
    /// at any time: what was read stays here.
    pub(crate) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        counter: &Counter,
        moved: &impl Fn(),
    ) -> Poll<Result<(), Broken>> {
        let until = counter.bytes() + TURN;
        let wrote = |n: usize| {
            counter.0.fetch_add(n as u64, Relaxed);
            moved();
        };
        loop {
            ready!(self.poll_write_held(cx, to, &wrote)).map_err(Broken::To)?;
            if counter.bytes() >= until {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match ready!(self.poll_take(cx, from, to, &wrote)) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(broken) => return Poll::Ready(Err(broken)),
            }
        }
    }

    fn poll_write_held(
        &mut self,
        cx: &mut Context<'_>,
        to: &TcpStream,
        wrote: &impl Fn(usize),
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.held {
                Held::Nothing => return Poll::Ready(Ok(())),
                Held::Bytes(rest) => {
                    let n = ready!(poll_write(to, cx, &rest.bytes[rest.start..]))?;
                    rest.start += n;
                    wrote(n);
                    if rest.start == rest.bytes.len() {
                        self.held = Held::Nothing;
                    }
                }
                Held::Pipe(pipe) => {
                    let n = ready!(poll_drain(to, cx, pipe))?;
                    wrote(n);
                    if pipe.held() == 0
                        && let Held::Pipe(pipe) = std::mem::take(&mut self.held)
                    {
                        pipe.keep();
                    }
                }
            }
        }
    }

    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        wrote: &impl Fn(usize),
    ) -> Poll<Result<usize, Broken>> {
        ready!(from.poll_read_ready(cx)).map_err(Broken::From)?;
        if self.bulk
            && let Some(mut pipe) = Pipe::take()
        {
            return match poll_fill(from, cx, &mut pipe) {
                Poll::Ready(Ok(n @ 1..)) => {
                    self.bulk = n >= BULK;
                    self.held = Held::Pipe(pipe);
                    Poll::Ready(Ok(n))
                }
                ended => {
                    pipe.keep();
                    ended.map_err(Broken::From)
                }
            };
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let room = if Rest::is_room() { scratch.len() } else { TIGHT };
            let n = match ready!(poll_read(from, cx, &mut scratch[..room])) {
                Ok(0) => return Poll::Ready(Ok(0)),
                Ok(n) => n,
                Err(error) => return Poll::Ready(Err(Broken::From(error))),
            };
            self.bulk = n == scratch.len();
            let written = match poll_write(to, cx, &scratch[..n]) {
                Poll::Ready(Ok(written)) => written,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Broken::To(error))),
                Poll::Pending => 0,
            };
            if written > 0 {
                wrote(written);
            }
            if written < n {
                self.held = Held::Bytes(Rest::of(&scratch[written..n]));
            }
            Poll::Ready(Ok(n))
        })
    }
}

/// Reads and forgets what a peer sends to a side that is gone; ready when the peer has failed too.
pub(crate) fn poll_discard(cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Error> {
    SCRATCH.with_borrow_mut(|scratch| {
        loop {
            match poll_read(from, cx, scratch) {
                Poll::Ready(Ok(0)) | Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(error),
            }
        }
    })
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

fn poll_fill(stream: &TcpStream, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match stream.try_io(Interest::READABLE, || pipe.fill(stream)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

fn poll_drain(stream: &TcpStream, cx: &mut Context<'_>, pipe: &mut Pipe) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_io(Interest::WRITABLE, || pipe.drain(stream)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Makes one call on a ready socket. A call that moved less than asked has found the queue's end:
/// the readiness is cleared at once, which saves the call that would say "would block".
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
