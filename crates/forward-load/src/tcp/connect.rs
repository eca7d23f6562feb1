//! New connections: each is made, sends one byte, gets it back, and is closed by the backend, so
//! that closed connections linger there and not on the ports of the load side.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::drive::{Shared, Turn, drive};
use super::pingpong::sample;
use super::protocol::ONCE;
use super::stream::PATIENCE;
use super::throughput::Path;
use crate::interrupt::Interrupt;
use crate::measure::pace::{Alarm, Schedule};
use crate::report::Sample;

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub struct Connect {
    /// How many at once.
    pub connections: usize,
    /// How many per second together; none: the next as soon as one is closed.
    pub rate: Option<f64>,
    /// How long.
    pub duration: Duration,
}

impl Connect {
    /// What its sample is called.
    pub fn name(&self) -> String {
        let rate = self.rate.map(|rate| format!(", {rate} a second")).unwrap_or_default();
        format!("new connections, {} at once{rate}", self.connections)
    }

    /// Measures it once. The latency is from the begin of a connect until the byte is back.
    pub fn measure(&self, path: &Path, interrupt: &Interrupt) -> Sample {
        let (to, what) = (path.to, *self);
        let driven = drive(
            path,
            self.connections,
            self.duration,
            interrupt,
            async |_| Ok(()),
            async move |(), turn, tally| what.connections(to, turn, tally).await,
        );
        sample(self.name(), driven, self.rate.is_some(), interrupt)
    }

    async fn connections(self, to: SocketAddr, turn: Turn, tally: Shared) {
        let mut schedule =
            self.rate.map(|rate| Schedule::share(turn.start, rate, turn.index, self.connections));
        let alarm = schedule.as_ref().and_then(|_| Alarm::new().ok());
        loop {
            let began = match (&mut schedule, &alarm) {
                (Some(schedule), Some(alarm)) => {
                    let start = schedule.next_start();
                    if start >= turn.end || alarm.until(start).await.is_err() {
                        return;
                    }
                    start
                }
                _ => Instant::now(),
            };
            if began >= turn.end {
                return;
            }
            let byte = u8::try_from(tally.borrow().done % 251).unwrap_or_default();
            let one = tokio::time::timeout(PATIENCE, one(to, byte, began)).await;
            let mut tally = tally.borrow_mut();
            match one {
                Ok(Ok(took)) => {
                    tally.latencies.record(took);
                    tally.done += 1;
                }
                Ok(Err((act, error))) => tally.errors.add_io(act, &error),
                Err(_) => tally.errors.add("timeout", "no answer came on a new connection"),
            }
        }
    }
}

async fn one(to: SocketAddr, byte: u8, began: Instant) -> Result<Duration, (&'static str, io::Error)> {
    let mut socket = TcpStream::connect(to).await.map_err(|error| ("connect", error))?;
    socket.set_nodelay(true).map_err(|error| ("connect", error))?;
    socket.write_all(&[ONCE, byte]).await.map_err(|error| ("send", error))?;
    let mut answer = [0; 2];
    let read = socket.read(&mut answer).await.map_err(|error| ("receive", error))?;
    let took = began.elapsed();
    match (read, answer[0] == byte) {
        (0, _) => return Err(("receive", io::ErrorKind::UnexpectedEof.into())),
        (1, true) => {}
        _ => return Err(("integrity", io::Error::other("another byte came back than was sent"))),
    }
    match socket.read(&mut answer).await {
        Ok(0) => Ok(took),
        Ok(_) => Err(("integrity", io::Error::other("a byte came back that was not sent"))),
        Err(error) => Err(("receive the end", error)),
    }
}
