//! Arrivals of an open loop: at fixed moments, whether or not answers came.

use std::io;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// The moments at which one of several connections is to send, so that together they send at a rate.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    next: Instant,
    every: Duration,
}

impl Schedule {
    /// The share of connection `index` of `of`, at `rate` sends per second of all together.
    pub fn share(start: Instant, rate: f64, index: usize, of: usize) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "connections are counted in thousands")]
        let (index, of) = (index as f64, of.max(1) as f64);
        Self {
            next: start + Duration::from_secs_f64(index / rate),
            every: Duration::from_secs_f64(of / rate),
        }
    }

    /// The next intended start; the clock of latency runs from here, however late we are.
    pub fn next_start(&mut self) -> Instant {
        let next = self.next;
        self.next += self.every;
        next
    }
}

/// A timer of the kernel's own precision: tokio's counts milliseconds, which would be the latency.
#[derive(Debug)]
pub struct Alarm(AsyncFd<rustix::fd::OwnedFd>);

impl Alarm {
    /// A timer on the runtime that we are on.
    ///
    /// # Errors
    ///
    /// There are no descriptors left.
    pub fn new() -> io::Result<Self> {
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // Deprecated because a descriptor's owner might replace it while it is registered; an
        // `OwnedFd` cannot, and what came instead is unsafe to call.
        #[allow(deprecated)]
        let timer = AsyncFd::new(timer)?;
        Ok(Self(timer))
    }

    /// Waits until a moment; returns at once if it has passed.
    ///
    /// # Errors
    ///
    /// The timer could not be set.
    pub async fn until(&self, moment: Instant) -> io::Result<()> {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let value = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let mut count = [0_u8; 8];
            match ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut count)?)) {
                Ok(read) => return read.map(|_| ()),
                Err(_would_block) => {}
            }
        }
    }
}
