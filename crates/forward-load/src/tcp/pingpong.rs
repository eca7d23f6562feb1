//! Round trips on established connections: one message up, the same down, in a closed loop, or at a
//! rate that does not wait for answers (open loop).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::drive::{Driven, Shared, Turn, drive};
use super::pattern::{LARGEST, Pattern};
use super::protocol::ECHO;
use super::throughput::Path;
use crate::interrupt::Interrupt;
use crate::measure::pace::{Alarm, Schedule};
use crate::report::{Sample, Unit};

/// What is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct PingPong {
    /// On how many connections at once.
    pub connections: usize,
    /// How long a message is, at most 64 KiB.
    pub size: usize,
    /// Round trips per second of all connections together; none: as fast as answers come.
    pub rate: Option<f64>,
    /// How long.
    pub duration: Duration,
}

impl PingPong {
    /// What its sample is called.
    pub fn name(&self) -> String {
        let rate = self.rate.map(|rate| format!(", {rate} a second")).unwrap_or_default();
        let plural = if self.connections == 1 { "" } else { "s" };
        format!("ping-pong, {} connection{plural}{rate}", self.connections)
    }

    /// Measures it once.
    pub fn measure(&self, path: &Path, interrupt: &Interrupt) -> Sample {
        let (to, what) = (path.to, *self);
        let driven = drive(
            path,
            self.connections,
            self.duration,
            interrupt,
            async move |_| established(to).await,
            async move |socket, turn, tally| what.connection(socket, turn, tally).await,
        );
        sample(self.name(), driven, self.rate.is_some(), interrupt)
    }

    async fn connection(self, mut socket: TcpStream, turn: Turn, tally: Shared) {
        if let Err(error) = self.round_trips(&mut socket, turn, &tally).await {
            tally.borrow_mut().errors.add_io("exchange", &error);
        }
    }

    async fn round_trips(self, socket: &mut TcpStream, turn: Turn, tally: &Shared) -> io::Result<()> {
        let mut pattern = Pattern::of_stream(u32::try_from(turn.index).unwrap_or(u32::MAX));
        let mut answer = vec![0; self.size.min(LARGEST)];
        let mut schedule =
            self.rate.map(|rate| Schedule::share(turn.start, rate, turn.index, self.connections));
        let alarm = if schedule.is_some() { Some(Alarm::new()?) } else { None };
        loop {
            let began = match (&mut schedule, &alarm) {
                (Some(schedule), Some(alarm)) => {
                    let start = schedule.next_start();
                    if start >= turn.end {
                        return Ok(());
                    }
                    alarm.until(start).await?;
                    start
                }
                _ => Instant::now(),
            };
            if began >= turn.end {
                return Ok(());
            }
            socket.write_all(pattern.bytes(answer.len())).await?;
            socket.read_exact(&mut answer).await?;
            let mut tally = tally.borrow_mut();
            tally.latencies.record(began.elapsed());
            tally.done += 1;
            let bad = pattern.check(&answer);
            if bad > 0 {
                tally.errors.add("integrity", format_args!("{bad} bytes of a message came back changed"));
            }
        }
    }
}

/// A connection that echoes, and has shown it.
///
/// # Errors
///
/// It could not be made, or does not echo.
pub async fn established(to: SocketAddr) -> io::Result<TcpStream> {
    let mut socket = TcpStream::connect(to).await?;
    socket.set_nodelay(true)?;
    socket.write_all(&[ECHO, b'?']).await?;
    match socket.read_u8().await? {
        b'?' => Ok(socket),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "another byte came back than was sent")),
    }
}

/// What [`drive`] found, as a sample.
#[allow(clippy::cast_precision_loss, reason = "counts of a window are exact in an f64")]
pub(super) fn sample(
    scenario: String,
    driven: io::Result<Driven>,
    corrected: bool,
    interrupt: &Interrupt,
) -> Sample {
    let driven = match driven {
        Ok(driven) => driven,
        Err(error) => return Sample::failed(scenario, format_args!("could not begin: {error}")),
    };
    let mut sample = Sample { scenario, interrupted: interrupt.came(), ..Sample::default() };
    let done = driven.tally.done as f64;
    sample.figure("rate", done / driven.seconds, Unit::PerSecond);
    if let Some(used) = driven.costs.forwarder.filter(|_| done > 0.0) {
        sample.figure("CPU s/100k", used.cpu_seconds / done * 1e5, Unit::Seconds);
    }
    sample.latency = driven.tally.latencies.summary(corrected);
    sample.errors = driven.tally.errors;
    sample.costs = Some(driven.costs);
    if driven.tally.done == 0 && !sample.interrupted {
        let first = sample.errors.first.values().next().cloned();
        sample.failure = Some(first.unwrap_or_else(|| "nothing came back".into()));
    }
    sample
}
