//! `compare tcp`.

use std::time::Duration;

use super::args::Measurement;
use super::connect::Connect;
use super::idle::Idle;
use super::pingpong::PingPong;
use super::throughput::{Direction, Path, Throughput};
use super::{answers, start_backend};
use crate::cli::{CompareArgs, Ended, Failure, print};
use crate::compare::tcp_peers::PEERS;
use crate::compare::{Comparison, Ground, Scenario, select};
use crate::interrupt::Interrupt;

/// Runs `compare tcp`.
///
/// # Errors
///
/// Nothing could be measured.
pub fn compare(args: &CompareArgs, interrupt: &Interrupt) -> Result<Ended, Failure> {
    let peers = select::selected(args, &PEERS)?;
    if args.list {
        print(&select::listed(&peers));
        return Ok(Ended::Complete);
    }
    let (backend, upstream) = start_backend(None)?;
    let ground =
        Ground { upstream, connections: MOST_CONNECTIONS, ca: None, server_name: "", credential: "" };
    let comparison = Comparison {
        peers,
        ground,
        backend: Some(backend.pid()),
        scenarios: measurements(select::window(args), args.quick).into_iter().map(scenario).collect(),
        probe: &answers,
        rounds: select::rounds(args),
    };
    select::run(args, comparison, interrupt)
}

fn scenario(measurement: Measurement) -> Scenario<'static> {
    Scenario {
        name: measurement.name(),
        measure: Box::new(move |aim, interrupt| {
            let path = Path { to: aim.address, forwarder: aim.pid, backend: aim.backend };
            measurement.measure(&path, interrupt)
        }),
    }
}

/// What PERFORMANCE.md has targets for. Half of it with `quick`.
fn measurements(duration: Duration, quick: bool) -> Vec<Measurement> {
    let bulk = |direction, streams| Throughput { direction, streams, size: None, duration };
    let pingpong = |connections, rate| PingPong { connections, size: 64, rate, duration };
    let mut all = vec![
        Measurement::Throughput(bulk(Direction::Up, 1)),
        Measurement::Throughput(bulk(Direction::Up, 8)),
        Measurement::Throughput(bulk(Direction::Down, 8)),
        Measurement::Connect(Connect { connections: 64, rate: None, duration }),
        Measurement::PingPong(pingpong(1, None)),
        Measurement::PingPong(pingpong(64, None)),
        Measurement::Idle(Idle { connections: 1000, burst: 262_144 }),
    ];
    if !quick {
        all.insert(1, Measurement::Throughput(bulk(Direction::Down, 1)));
        all.insert(4, Measurement::Throughput(bulk(Direction::Both, 8)));
        all.insert(8, Measurement::PingPong(pingpong(64, Some(5000.0))));
    }
    all
}

/// With room for the probes.
const MOST_CONNECTIONS: usize = 2048;
