//! Both directions of a connection: bytes, their end, and their faults.
//!
//! A side that is done sending may still be reading (git over ssh half-closes), so each direction
//! ends on its own. A side that fails takes the other with it: what it had sent is delivered, and
//! then the other side sees a RST, not an end that looks as if all were said.

use std::future::poll_fn;
use std::io;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use sidecar::ports::Protocol;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::direction::{Broken, Counter, Direction, poll_discard};
use crate::end::{End, Ended, Limits, Side};
use crate::failed::{failed, taken};
use crate::identification;
use crate::queue;

/// How long queued bytes have where the kernel does not say when they have arrived.
const GRACE: Duration = Duration::from_millis(200);

/// In place of a time: silence does not count.
const UNTIMED: u64 = u64::MAX;

/// What a connection has carried, and when last.
#[derive(Debug)]
pub(crate) struct Copying {
    /// Its accept.
    pub(crate) since: Instant,
    /// When bytes last moved, in milliseconds since then, or [`UNTIMED`].
    last: AtomicU64,
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
        up: Lane::new(Side::Downstream, downstream, upstream, copying),
        down: Lane::new(Side::Upstream, upstream, downstream, copying),
    };
    if protocol == Protocol::Ssh {
        lanes.up.identify();
        lanes.down.identify();
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

/// Waits until a socket has failed, even if no task reads it, and takes the error.
async fn fault(stream: &TcpStream) -> io::Error {
    failed(stream).await;
    taken(stream)
}

struct Lanes<'a> {
    up: Lane<'a>,
    down: Lane<'a>,
}

/// What has happened to the lanes.
enum Event {
    /// A side has finished sending, and all of it is written.
    Done(Side),
    /// A socket has failed.
    Broken(Fault),
    /// No byte has moved for as long as that may be.
    Silent,
    /// A lane waits for its receiver: no task reads the sender, so its failure would not be noticed.
    Unwatched,
    /// The lanes have moved on, and see by themselves what they must.
    Watching,
}

/// Watches what the lanes do not see themselves. Boxed, as an idle connection needs none.
type Watch<'a> = Pin<Box<dyn Future<Output = Event> + Send + 'a>>;

impl<'a> Lanes<'a> {
    async fn copy(&mut self, limits: &Limits, copying: &'a Copying, cut: &CancellationToken) -> Ended {
        let first = match self.until_an_end(limits.idle, copying, cut).await {
            Some(Event::Done(side)) => side,
            Some(Event::Broken(fault)) => return self.breaking_off(fault, limits, copying, cut).await,
            Some(_) => return Ended::by_gate(End::Idle),
            None => return Ended::by_gate(End::Drain),
        };
        self.lane(first).half_close();
        let idle = limits.idle.filter(|idle| *idle < limits.half_close);
        match self.until_an_end(Some(idle.unwrap_or(limits.half_close)), copying, cut).await {
            // Both are done: closing tells the other side.
            Some(Event::Done(_)) => Ended::eof(first),
            Some(Event::Broken(fault)) => self.breaking_off(fault, limits, copying, cut).await,
            Some(_) => Ended::by_gate(if idle.is_some() { End::Idle } else { End::HalfClose }),
            None => Ended::by_gate(End::Drain),
        }
    }

    /// Moves bytes both ways until something ends; `None` when the gate does.
    async fn until_an_end(
        &mut self,
        silence: Option<Duration>,
        copying: &'a Copying,
        cut: &CancellationToken,
    ) -> Option<Event> {
        let half_closed = self.up.done || self.down.done;
        let always = half_closed || silence.is_some();
        let sockets = (self.up.from, self.up.to);
        let watch = || -> Watch<'a> { Box::pin(watch(sockets, copying, silence)) };
        let mut watching = always.then(watch);
        if silence.is_some() {
            copying.time();
        }
        let mut cut = pin!(cut.cancelled());
        loop {
            let event = tokio::select! {
                biased;
                event = poll_fn(|cx| self.poll(cx, &mut watching, always)) => event,
                () = &mut cut => return None,
            };
            match event {
                Event::Unwatched => watching = Some(watch()),
                Event::Watching => watching = None,
                end => return Some(end),
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, watching: &mut Option<Watch<'a>>, always: bool) -> Poll<Event> {
        for lane in [&mut self.up, &mut self.down] {
            if !lane.done
                && let Poll::Ready(ended) = lane.poll(cx)
            {
                lane.done = ended.is_ok();
                return Poll::Ready(ended.map_or_else(Event::Broken, |()| Event::Done(lane.side)));
            }
        }
        let blind = self.up.is_blocked() || self.down.is_blocked();
        match watching {
            None if blind => Poll::Ready(Event::Unwatched),
            None => Poll::Pending,
            Some(_) if !blind && !always => Poll::Ready(Event::Watching),
            Some(watch) => watch.as_mut().poll(cx),
        }
    }

    fn lane(&mut self, side: Side) -> &mut Lane<'a> {
        if side == Side::Downstream { &mut self.up } else { &mut self.down }
    }

    /// Boxed as what few connections need, by a function that is not async itself and so keeps no room.
    fn breaking_off<'b>(
        &'b mut self,
        fault: Fault,
        limits: &'b Limits,
        copying: &'b Copying,
        cut: &'b CancellationToken,
    ) -> Pin<Box<impl Future<Output = Ended> + use<'a, 'b>>> {
        Box::pin(self.break_off(fault, limits, copying, cut))
    }

    /// One side has failed: delivers to the other what the failed one had sent. The caller resets.
    async fn break_off(
        &mut self,
        fault: Fault,
        limits: &Limits,
        copying: &Copying,
        cut: &CancellationToken,
    ) -> Ended {
        let lane = self.lane(fault.side);
        let living = lane.to;
        copying.time();
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

/// Waits until a socket has failed, or no byte has moved for so long.
async fn watch(
    (downstream, upstream): (&TcpStream, &TcpStream),
    copying: &Copying,
    silence: Option<Duration>,
) -> Event {
    tokio::select! {
        biased;
        error = fault(downstream) => Event::Broken(Fault { side: Side::Downstream, error }),
        error = fault(upstream) => Event::Broken(Fault { side: Side::Upstream, error }),
        () = copying.silent(silence) => Event::Silent,
    }
}

/// One direction with its two sockets.
struct Lane<'a> {
    /// The wait for the sending side's identification line; `None` once it is there.
    identify: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>>,
    direction: Direction,
    done: bool,
    side: Side,
    from: &'a TcpStream,
    to: &'a TcpStream,
    copying: &'a Copying,
}

impl<'a> Lane<'a> {
    fn new(side: Side, from: &'a TcpStream, to: &'a TcpStream, copying: &'a Copying) -> Self {
        Self { identify: None, direction: Direction::default(), done: false, side, from, to, copying }
    }

    /// Nothing is to move before the sending side has shown its identification line.
    fn identify(&mut self) {
        let deadline = self.copying.since + identification::DEADLINE;
        self.identify = Some(Box::pin(identification::first_line(self.from, deadline.into())));
    }

    fn is_blocked(&self) -> bool {
        self.direction.is_blocked()
    }

    /// Moves bytes until the sending side is done.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let (side, copying) = (self.side, self.copying);
        if let Some(line) = &mut self.identify {
            let shown = ready!(line.as_mut().poll(cx));
            self.identify = None;
            if let Err(error) = shown {
                // Who delivers what a failed side had sent asks once more.
                self.identify();
                return Poll::Ready(Err(Fault { side, error }));
            }
        }
        let (counter, receiver) = match side {
            Side::Downstream => (&copying.up, Side::Upstream),
            _ => (&copying.down, Side::Downstream),
        };
        let moved = || copying.touch();
        self.direction.poll_move(cx, self.from, self.to, counter, &moved).map_err(|broken| match broken {
            Broken::From(error) => Fault { side, error },
            Broken::To(error) => Fault { side: receiver, error },
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
        if let Err(fault) = poll_fn(|cx| self.poll(cx)).await
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
            last: AtomicU64::new(UNTIMED),
            up: Counter::default(),
            down: Counter::default(),
        }
    }
}

impl Copying {
    /// From now on silence counts.
    fn time(&self) {
        self.last.store(self.millis(), Relaxed);
    }

    /// Bytes have moved.
    fn touch(&self) {
        // Nobody asks most connections how long they have been silent: they need no clock.
        if self.last.load(Relaxed) != UNTIMED {
            self.time();
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
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
