//! The options of `tcp`, and the measurements that they ask for.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::connect::Connect;
use super::idle::Idle;
use super::pingpong::PingPong;
use super::throughput::{Direction, Path, Throughput};
use crate::cli::{Failure, bytes, duration};
use crate::interrupt::Interrupt;
use crate::report::Sample;

/// Bytes, connections and round trips through a TCP forwarder
///
/// Behind the forwarder there must be a backend of forward-load: --serve ADDR runs one, here (and
/// then DIRECT is measured, too) or, without anything to measure, alone. With neither --to nor
/// --serve, the tool's own limit is measured: the bare path.
#[derive(Debug, Clone, Args)]
#[command(subcommand_value_name = "MEASUREMENT", subcommand_help_heading = "Measurements")]
pub struct TcpArgs {
    /// What is measured.
    #[command(subcommand)]
    pub command: Option<TcpCommand>,
    /// How.
    #[command(flatten)]
    pub options: Options,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum TcpCommand {
    /// Bytes per second up, down and both ways at once, and how fairly streams share them
    Throughput,
    /// New connections per second, each with one byte there and back
    Connect,
    /// Round trips per second on established connections
    Pingpong,
    /// Memory and descriptors for each idle connection, before and after a burst (needs --pid)
    Idle,
}

/// How it is measured.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The forwarder
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub to: Option<String>,
    /// Where the backend listens, to which the forwarder forwards
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub serve: Option<SocketAddr>,
    /// Connections at once: connect, pingpong [default: 64], idle [default: 1000]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub connections: Option<u32>,
    /// Streams of throughput at once
    #[arg(long, global = true, value_name = "N", default_value = "8", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub streams: u32,
    /// Throughput: only this way [default: each in turn]
    #[arg(long, global = true, value_enum, value_name = "WAY")]
    pub direction: Option<Direction>,
    /// Bytes: of each stream of throughput [default: as many as pass], of each message of pingpong
    /// [default: 64], of the burst of idle through each connection [default: 256K]
    #[arg(long, global = true, value_name = "BYTES", value_parser = bytes)]
    pub size: Option<u64>,
    /// How long each measurement lasts, at most
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Open loop of connect and pingpong: so many per second, whether or not answers come; latency
    /// then counts from the intended start
    #[arg(long, global = true, value_name = "R", value_parser = rate)]
    pub rate: Option<f64>,
    /// The forwarder's process: its CPU time, memory and descriptors are measured, children included
    #[arg(long, global = true, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Option<u32>,
    /// Allows a target that is neither a loopback nor a private address
    #[arg(long, global = true)]
    pub i_own_this_target: bool,
}

/// One of the measurements.
#[derive(Debug, Clone, Copy)]
pub enum Measurement {
    /// Of bytes.
    Throughput(Throughput),
    /// Of new connections.
    Connect(Connect),
    /// Of round trips.
    PingPong(PingPong),
    /// Of idle connections.
    Idle(Idle),
}

impl TcpArgs {
    /// What the command and its options ask for.
    ///
    /// # Errors
    ///
    /// An option that the command has no use for.
    pub fn measurements(&self, command: TcpCommand) -> Result<Vec<Measurement>, Failure> {
        let options = &self.options;
        let useless = |given: bool, option: &str| {
            let name = command.name();
            if given { Err(Failure::usage(format!("{option} says nothing to `tcp {name}`"))) } else { Ok(()) }
        };
        let connections = |default| options.connections.map_or(default, |n| n as usize);
        let size = |default: usize, most: usize| match options.size {
            None => Ok(default),
            Some(size) => usize::try_from(size)
                .ok()
                .filter(|size| *size <= most)
                .ok_or_else(|| Failure::usage(format!("--size may be at most {most} here"))),
        };
        useless(options.direction.is_some() && command != TcpCommand::Throughput, "--direction")?;
        useless(options.connections.is_some() && command == TcpCommand::Throughput, "--connections")?;
        let paced = matches!(command, TcpCommand::Connect | TcpCommand::Pingpong);
        useless(options.rate.is_some() && !paced, "--rate")?;
        if command == TcpCommand::Idle && options.pid.is_none() {
            return Err(
                Failure::usage("`tcp idle` measures a process").hint("say which one forwards: --pid PID")
            );
        }
        let (rate, duration) = (options.rate, options.duration);
        Ok(match command {
            TcpCommand::Throughput => {
                let all = [Direction::Up, Direction::Down, Direction::Both];
                let directions = options.direction.map_or(all.to_vec(), |one| vec![one]);
                let (streams, size) = (options.streams as usize, options.size);
                let of =
                    |direction| Measurement::Throughput(Throughput { direction, streams, size, duration });
                directions.into_iter().map(of).collect()
            }
            TcpCommand::Connect => {
                useless(options.size.is_some(), "--size")?;
                vec![Measurement::Connect(Connect { connections: connections(64), rate, duration })]
            }
            TcpCommand::Pingpong => {
                let (connections, size) = (connections(64), size(64, 65_536)?);
                vec![Measurement::PingPong(PingPong { connections, size, rate, duration })]
            }
            TcpCommand::Idle => {
                let (connections, burst) = (connections(1000), size(262_144, 16_777_216)?);
                vec![Measurement::Idle(Idle { connections, burst })]
            }
        })
    }
}

impl TcpCommand {
    fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Connect => "connect",
            Self::Pingpong => "pingpong",
            Self::Idle => "idle",
        }
    }
}

impl Measurement {
    /// What its sample is called.
    pub fn name(&self) -> String {
        match self {
            Self::Throughput(what) => what.name(),
            Self::Connect(what) => what.name(),
            Self::PingPong(what) => what.name(),
            Self::Idle(what) => what.name(),
        }
    }

    /// Measures it once.
    pub fn measure(&self, path: &Path, interrupt: &Interrupt) -> Sample {
        match self {
            Self::Throughput(what) => what.measure(path, interrupt),
            Self::Connect(what) => what.measure(path, interrupt),
            Self::PingPong(what) => what.measure(path, interrupt),
            Self::Idle(what) => what.measure(path, interrupt),
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.1..=1e7).contains(rate));
    rate.ok_or_else(|| "expected a number of round trips or connections per second".into())
}
