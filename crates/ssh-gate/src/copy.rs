//! Both directions of a connection: bytes, their end, and their faults.
//!
//! A side that is done sending may still be reading (git over ssh half-closes), so each direction
//! ends on its own. A side that fails takes the other with it: what it had sent is delivered, and
//! then the other side sees a RST, not an end that looks as if all were said.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use sidecar::ports::Protocol;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::direction::{Broken, Counter, Direction, poll_discard};
use crate::end::{End, Ended, Limits, Side};
use crate::identification;
use crate::queue;

/// How long queued bytes have where the kernel does not say when they have arrived.
const GRACE: Duration = Duration::from_millis(200);

/// What a connection has carried, and when last.
#[derive(Debug)]
pub(crate) struct Copying {
    /// Its accept.
    pub(crate) since: Instant,
    /// When bytes last moved, in milliseconds since then.
    pub(crate) last: AtomicU64,
    /// Towards the upstream.
    pub(crate) up: Counter,
    /// Towards the downstream.
    pub(crate) down: Counter,
}

/// A socket's failure, with its side.
struct Fault {
    side: Side,
    error: io::Error,
}

/// Copies bytes both ways until both sides have finished sending, or one fails, or the gate ends it.
pub(crate) async fn copy(
    protocol: Protocol,
    downstream: &TcpStream,
    upstream: &TcpStream,
    limits: &Limits,
    copying: &Copying,
    cut: &CancellationToken,
) -> Ended {
    let mut lanes = Lanes {
        up: Lane::new(Side::Downstream, downstream, upstream, &copying.up, copying),
        down: Lane::new(Side::Upstream, upstream, downstream, &copying.down, copying),
    };
    if protocol == Protocol::Ssh {
        let deadline = copying.since + identification::DEADLINE;
        (lanes.up.identify, lanes.down.identify) = (Some(deadline), Some(deadline));
    }
    let ended = lanes.copy(limits, copying, cut).await;
    if ended.end != End::Eof {
        // Closed with what is queued thrown away: a RST. A cut answer must not look like a whole one.
        for stream in [downstream, upstream] {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
    ended
}

/// Waits until a socket has failed, also while nobody reads it, and takes the error.
async fn fault(stream: &TcpStream) -> io::Error {
    failed(stream).await;
    taken(stream)
}

/// Waits until a socket has failed, and leaves the error to whoever reads.
pub(crate) async fn failed(stream: &TcpStream) {
    let _ = stream.ready(Interest::ERROR).await;
}

/// The error of a failed socket.
pub(crate) fn taken(stream: &TcpStream) -> io::Error {
    // An error that was already taken by a read or a write was a RST's, else there is none to wait for.
    stream.take_error().ok().flatten().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}

struct Lanes<'a> {
    up: Lane<'a>,
    down: Lane<'a>,
}

impl Lanes<'_> {
    async fn copy(&mut self, limits: &Limits, copying: &Copying, cut: &CancellationToken) -> Ended {
        copying.touch();
        let Self { up, down } = self;
        let (downstream, upstream) = (up.from, up.to);
        let first = tokio::select! {
            biased;
            done = up.run() => done.map(|()| Side::Downstream),
            done = down.run() => done.map(|()| Side::Upstream),
            error = fault(downstream) => Err(Fault { side: Side::Downstream, error }),
            error = fault(upstream) => Err(Fault { side: Side::Upstream, error }),
            () = copying.silent(limits.idle) => return Ended::by_gate(End::Idle),
            () = cut.cancelled() => return Ended::by_gate(End::Drain),
        };
        let first = match first {
            Ok(side) => side,
            Err(fault) => return self.break_off(fault, limits, copying, cut).await,
        };
        let (ended, other) = if first == Side::Downstream { (up, down) } else { (down, up) };
        ended.half_close();
        copying.touch();
        let idle = limits.idle.filter(|idle| *idle < limits.half_close);
        let reap = if idle.is_some() { End::Idle } else { End::HalfClose };
        let fault = tokio::select! {
            biased;
            done = other.run() => match done {
                Ok(()) => {
                    other.half_close();
                    return Ended::eof(first);
                }
                Err(fault) => fault,
            },
            error = fault(downstream) => Fault { side: Side::Downstream, error },
            error = fault(upstream) => Fault { side: Side::Upstream, error },
            () = copying.silent(Some(idle.unwrap_or(limits.half_close))) => return Ended::by_gate(reap),
            () = cut.cancelled() => return Ended::by_gate(End::Drain),
        };
        self.break_off(fault, limits, copying, cut).await
    }

    /// One side has failed: delivers to the other what the failed one had sent. The caller resets.
    async fn break_off(
        &mut self,
        fault: Fault,
        limits: &Limits,
        copying: &Copying,
        cut: &CancellationToken,
    ) -> Ended {
        let lane = if fault.side == Side::Downstream { &mut self.up } else { &mut self.down };
        let living = lane.to;
        copying.touch();
        tokio::select! {
            biased;
            () = lane.deliver() => {}
            // A peer that answers before it reads on would otherwise wait for us as we wait for it.
            _ = poll_fn(|cx| poll_discard(cx, living)) => {}
            () = copying.silent(Some(limits.half_close)) => {}
            () = cut.cancelled() => {}
        }
        Ended::fault(fault.side, &fault.error)
    }
}

/// One direction with its two sockets.
struct Lane<'a> {
    /// Until when the sending side must have shown its identification line; `None` once it has.
    identify: Option<Instant>,
    direction: Direction,
    side: Side,
    from: &'a TcpStream,
    to: &'a TcpStream,
    counter: &'a Counter,
    copying: &'a Copying,
}

impl<'a> Lane<'a> {
    fn new(
        side: Side,
        from: &'a TcpStream,
        to: &'a TcpStream,
        counter: &'a Counter,
        copying: &'a Copying,
    ) -> Self {
        Self { identify: None, direction: Direction::default(), side, from, to, counter, copying }
    }

    /// Moves bytes until the sending side is done.
    async fn run(&mut self) -> Result<(), Fault> {
        if let Some(deadline) = self.identify {
            // Boxed: an established connection should not go on holding the room that this takes.
            let shown = Box::pin(identification::first_line(self.from, deadline.into())).await;
            shown.map_err(|error| Fault { side: self.side, error })?;
            self.identify = None;
        }
        let Self { direction, side, from, to, counter, copying, .. } = self;
        let moved = || copying.touch();
        poll_fn(|cx| direction.poll_move(cx, from, to, counter, &moved)).await.map_err(|broken| {
            match (broken, *side) {
                (Broken::From(error), side) => Fault { side, error },
                (Broken::To(error), Side::Downstream) => Fault { side: Side::Upstream, error },
                (Broken::To(error), _) => Fault { side: Side::Downstream, error },
            }
        })
    }

    /// Tells the receiving side that this was all.
    fn half_close(&self) {
        // It fails only when that side is gone, which its own direction will say.
        let _ = SockRef::from(self.to).shutdown(Shutdown::Write);
    }

    /// Writes what is left of a failed side and waits until the living one has acknowledged it: a RST
    /// throws away what is still queued.
    async fn deliver(&mut self) {
        let (living, sending) = (self.to, self.side);
        if let Err(fault) = self.run().await
            && (fault.side != sending || self.identify.is_some())
        {
            // Gone, or no SSH: nothing of it is on its way.
            return;
        }
        let mut left = u32::MAX;
        let mut pause = Duration::from_millis(1);
        loop {
            match queue::unacknowledged(living) {
                Some(0) => return,
                Some(now) if now < left => {
                    left = now;
                    self.copying.touch();
                }
                Some(_) => {}
                None => return tokio::time::sleep(GRACE).await,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

impl Default for Copying {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            last: AtomicU64::new(0),
            up: Counter::default(),
            down: Counter::default(),
        }
    }
}

impl Copying {
    fn touch(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Relaxed);
    }

    /// Waits until no byte has moved for so long.
    async fn silent(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let last = Duration::from_millis(self.last.load(Relaxed));
            let quiet = self.since.elapsed().saturating_sub(last);
            match limit.checked_sub(quiet) {
                None | Some(Duration::ZERO) => return,
                Some(left) => tokio::time::sleep(left).await,
            }
        }
    }
}
