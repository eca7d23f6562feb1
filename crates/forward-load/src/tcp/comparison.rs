//! `compare tcp`.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::args::Measurement;
use super::connect::Connect;
use super::idle::Idle;
use super::pingpong::PingPong;
use super::throughput::{Direction, Path, Throughput};
use super::{answers, start_backend};
use crate::cli::{CompareArgs, Ended, Failure, print};
use crate::compare::tcp_peers::PEERS;
use crate::compare::{Act, Comparison, Ground, Needs, Scenario, select};
use crate::interrupt::Interrupt;
use crate::measure::tracked;

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
    let ground = Ground { upstream, ca: None, server_name: "", credential: "" };
    let comparison = Comparison {
        peers,
        ground,
        backend: Some(backend.pid()),
        scenarios: scenarios(select::window(args), args.quick),
        probe: &answers,
        rounds: select::rounds(args),
    };
    select::run(args, comparison, interrupt)
}

fn scenarios(window: Duration, quick: bool) -> Vec<Scenario<'static>> {
    let mut all = vec![start(window, 1)];
    if !quick {
        all.push(start(window, 1000));
    }
    all.extend(measurements(window, quick).into_iter().map(scenario));
    all
}

fn start(window: Duration, rows: usize) -> Scenario<'static> {
    Scenario {
        name: if rows == 1 { "start".into() } else { format!("start, {rows} rows") },
        needs: Needs { rows, ..USUAL },
        tracked: 0,
        act: Act::Start(window, Box::new(answers)),
    }
}

fn scenario(measurement: Measurement) -> Scenario<'static> {
    let (connections, tracked) = match &measurement {
        Measurement::Idle(idle) => (idle.connections, 2 * idle.connections as u64),
        Measurement::Connect(connect) => (0, tracked::entries_of(connect.duration)),
        _ => (0, 0),
    };
    let needs = Needs { connections: USUAL.connections.max(connections + PROBES), ..USUAL };
    Scenario {
        name: measurement.name(),
        needs,
        tracked,
        act: Act::Through(Box::new(move |aim, interrupt| {
            let path = Path { to: aim.address, forwarder: aim.pid, backend: aim.backend };
            measurement.measure(&path, interrupt)
        })),
    }
}

/// Ten thousand connections, or as many hundreds as every forwarder may have descriptors for: two for
/// each, and HAProxy's pipes, two for every four.
fn many(descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors else { return MANY };
    let most = descriptors.saturating_sub(OTHER_DESCRIPTORS) * 2 / 5 / 100 * 100;
    usize::try_from(most).map_or(MANY, |most| most.min(MANY))
}

/// The scenarios of a comparison, half of them with `quick`.
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
        let connections = many(getrlimit(Resource::Nofile).maximum);
        if connections > 1000 {
            // Shorter bursts, so that ten times as many take no longer.
            all.push(Measurement::Idle(Idle { connections, burst: 16_384 }));
        }
        all.insert(6, Measurement::Idle(Idle { connections: 10, burst: 262_144 }));
        all.insert(1, Measurement::Throughput(bulk(Direction::Down, 1)));
        all.insert(4, Measurement::Throughput(bulk(Direction::Both, 8)));
        all.insert(8, Measurement::PingPong(pingpong(64, Some(5000.0))));
    }
    all
}

/// What a forwarder is given in most scenarios.
const USUAL: Needs = Needs { connections: 2048, rows: 1 };

/// To see how what a connection costs grows.
const MANY: usize = 10_000;

/// Room for those that are just opened and closed to see whether it forwards.
const PROBES: usize = 64;

/// For the probes, and of its files, listeners, pipes and workers.
const OTHER_DESCRIPTORS: u64 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario(name: &str) -> Scenario<'static> {
        let all = scenarios(Duration::from_secs(1), false);
        all.into_iter().find(|scenario| scenario.name == name).unwrap()
    }

    fn idle(connections: usize) -> Scenario<'static> {
        super::scenario(Measurement::Idle(Idle { connections, burst: 1 }))
    }

    #[test]
    fn who_has_a_process_for_each_connection_is_left_out_of_ten_thousand_and_of_a_thousand_rows() {
        let able = |scenario: Scenario<'_>| {
            let needs = scenario.needs;
            PEERS.iter().filter(|peer| peer.most.cover(needs)).map(|peer| peer.name).collect::<Vec<_>>()
        };
        let others = ["ssh-gate", "haproxy", "haproxy-splice", "nginx"];
        assert_eq!((able(idle(10_000)), able(scenario("start, 1000 rows"))), (others.into(), others.into()));
        assert_eq!((able(scenario("start")).len(), able(idle(1000)).len()), (PEERS.len(), PEERS.len()));
    }

    #[test]
    fn room_is_waited_for_where_many_connections_are_opened() {
        assert_eq!(idle(10_000).tracked, 20_000);
        assert!(scenario("new connections, 64 at once").tracked > 10_000);
        assert_eq!(scenario("ping-pong, 64 connections").tracked, 0);
    }

    #[test]
    fn no_more_connections_are_opened_than_a_forwarder_may_have_descriptors_for() {
        let cases = [(None, 10_000), (Some(1 << 20), 10_000), (Some(20_000), 7800), (Some(1024), 200)];
        for (descriptors, connections) in cases {
            assert_eq!(many(descriptors), connections, "{descriptors:?}");
        }
    }
}
