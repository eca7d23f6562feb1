//! Bulk: how many bytes per second, how fairly shared, at what cost.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::protocol::{Bulk, Frames, Receipt};
use super::stream::{self, Limits, PATIENCE};
use crate::interrupt::Interrupt;
use crate::measure::Window;
use crate::report::{Errors, Sample, Unit};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Direction {
    /// From the load side to the backend
    Up,
    /// From the backend to the load side
    Down,
    /// Both at once
    Both,
}

/// What is to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Which way.
    pub direction: Direction,
    /// On how many connections at once.
    pub streams: usize,
    /// The most bytes of a stream each way.
    pub size: Option<u64>,
    /// How long at most.
    pub duration: Duration,
}

/// Where to, and whose processes take part.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    /// The forwarder, or the backend.
    pub to: SocketAddr,
    /// The forwarder's process.
    pub forwarder: Option<u32>,
    /// The backend's.
    pub backend: Option<u32>,
}

/// The result of one stream.
#[derive(Debug, Default)]
struct Stream {
    bytes: u64,
    ended: Option<Instant>,
    errors: Errors,
}

impl Throughput {
    /// What its sample is called.
    pub fn name(&self) -> String {
        let direction = match self.direction {
            Direction::Up => "up",
            Direction::Down => "down",
            Direction::Both => "both ways",
        };
        format!("bulk {direction}, {} stream{}", self.streams, if self.streams == 1 { "" } else { "s" })
    }

    /// Measures it once.
    #[allow(clippy::cast_precision_loss, reason = "bytes of a window are exact in an f64")]
    pub fn measure(&self, path: &Path, interrupt: &Interrupt) -> Sample {
        // Every stream and we meet when all are connected, and again when the window is open.
        let (connected, go) = (Barrier::new(self.streams + 1), Barrier::new(self.streams + 1));
        let (window, streams) = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.streams)
                .map(|index| {
                    let (connected, go) = (&connected, &go);
                    scope.spawn(move || self.stream(index, path, connected, go, interrupt))
                })
                .collect();
            connected.wait();
            let window = Window::open(path.forwarder, path.backend);
            go.wait();
            let streams: Vec<Stream> =
                threads.into_iter().map(|thread| thread.join().unwrap_or_default()).collect();
            (window, streams)
        });
        let began = window.began();
        let costs = window.close();
        let mut sample = Sample { scenario: self.name(), interrupted: interrupt.came(), ..Sample::default() };
        let bytes: u64 = streams.iter().map(|stream| stream.bytes).sum();
        let last = streams.iter().filter_map(|stream| stream.ended).max().unwrap_or(began);
        let seconds = (last - began).as_secs_f64();
        let rates: Vec<f64> = streams
            .iter()
            .map(|stream| {
                let seconds = stream.ended.map_or(0.0, |ended| (ended - began).as_secs_f64());
                if seconds > 0.0 { stream.bytes as f64 / seconds } else { 0.0 }
            })
            .collect();
        sample.figure("rate", if seconds > 0.0 { bytes as f64 / seconds } else { 0.0 }, Unit::BytesPerSecond);
        if self.streams > 1 {
            let (slowest, fastest) = rates
                .iter()
                .fold((f64::INFINITY, 0.0_f64), |(slow, fast), rate| (slow.min(*rate), fast.max(*rate)));
            sample.figure("fairness", if fastest > 0.0 { slowest / fastest } else { 0.0 }, Unit::Ratio);
        }
        if let Some(used) = costs.forwarder.filter(|_| bytes > 0) {
            sample.figure("CPU s/GB", used.cpu_seconds / (bytes as f64 / 1e9), Unit::Seconds);
        }
        for stream in streams {
            sample.errors.merge(stream.errors);
        }
        if bytes == 0 && !sample.interrupted {
            let first = sample.errors.first.values().next().cloned();
            sample.failure = Some(first.unwrap_or_else(|| "no byte came through".into()));
        }
        sample.costs = Some(costs);
        sample
    }

    fn stream(
        &self,
        index: usize,
        path: &Path,
        connected: &Barrier,
        go: &Barrier,
        interrupt: &Interrupt,
    ) -> Stream {
        let mut stream = Stream::default();
        let socket = connect(path.to);
        connected.wait();
        go.wait();
        match socket {
            Ok(socket) => {
                if let Err((act, error)) = self.run(index, &socket, &mut stream, interrupt)
                    && !interrupt.came()
                {
                    stream.errors.add_io(act, &error);
                }
            }
            Err(error) => {
                stream.errors.add("connect", format_args!("could not connect to {}: {error}", path.to));
            }
        }
        stream.ended.get_or_insert_with(Instant::now);
        stream
    }

    fn run(
        &self,
        index: usize,
        socket: &TcpStream,
        stream: &mut Stream,
        interrupt: &Interrupt,
    ) -> Result<(), (&'static str, io::Error)> {
        let bulk = Bulk {
            stream: u32::try_from(index).unwrap_or(u32::MAX),
            up: self.direction != Direction::Down,
            down: self.direction != Direction::Up,
            size: self.size.unwrap_or(u64::MAX),
            millis: u32::try_from(self.duration.as_millis()).unwrap_or(u32::MAX),
        };
        let stop = || interrupt.came();
        let mut writer = socket;
        writer.write_all(&bulk.to_bytes()).map_err(|error| ("send", error))?;
        let limits = Limits { size: bulk.size, until: Instant::now() + self.duration };
        let (sent, frames, received) = std::thread::scope(|scope| {
            let sender =
                bulk.up.then(|| scope.spawn(move || stream::send(socket, bulk.stream, limits, &stop)));
            let mut frames = Frames::of_stream(bulk.down_stream());
            let received =
                if bulk.down { stream::receive(socket, &mut frames, &stop) } else { Ok(Vec::new()) };
            (sender.map(std::thread::ScopedJoinHandle::join), frames, received)
        });
        if bulk.down {
            stream.bytes += frames.receipt.bytes;
            stream.ended = Some(Instant::now());
            wrong(&mut stream.errors, frames.receipt.bad, "down");
        }
        let rest = received.map_err(|error| ("receive", error))?;
        let Some(sent) = sent else { return Ok(()) };
        let sent =
            sent.unwrap_or_else(|_| Err(io::ErrorKind::Other.into())).map_err(|error| ("send", error))?;
        let receipt =
            stream::receive_exact(socket, rest, &stop).and_then(|bytes| Receipt::from_bytes(&bytes));
        let receipt = receipt.map_err(|error| ("receive the receipt", error))?;
        stream.ended = Some(Instant::now());
        stream.bytes += receipt.bytes;
        wrong(&mut stream.errors, receipt.bad, "up");
        if receipt.bytes != sent {
            let (some, all) = (receipt.bytes, sent);
            stream.errors.add("integrity", format_args!("{some} of {all} bytes arrived upstream"));
        }
        Ok(())
    }
}

fn wrong(errors: &mut Errors, bad: u64, way: &str) {
    if bad > 0 {
        errors.add("integrity", format_args!("{bad} bytes came {way} changed"));
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream::prepare(&socket)?;
    Ok(socket)
}
