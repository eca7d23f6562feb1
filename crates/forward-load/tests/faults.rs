//! What is wrong with a forwarder shows where it should, and only there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use forward_load::interrupt::Interrupt;
use forward_load::report::Sample;
use forward_load::tcp::connect::Connect;
use forward_load::tcp::idle::Idle;
use forward_load::tcp::pingpong::PingPong;
use forward_load::tcp::throughput::{Direction, Throughput};
use support::{Fault, scene};

const SHORT: Duration = Duration::from_millis(400);

fn bulk(direction: Direction) -> Throughput {
    Throughput { direction, streams: 2, size: Some(20_000_000), duration: Duration::from_secs(30) }
}

fn pingpong(connections: usize) -> PingPong {
    PingPong { connections, size: 64, rate: None, duration: SHORT }
}

fn count(sample: &Sample, kind: &str) -> u64 {
    sample.errors.count.get(kind).copied().unwrap_or(0)
}

#[test]
fn a_forwarder_without_fault_has_no_errors() {
    let scene = scene(Fault::None);
    let deaf = Interrupt::deaf();
    for direction in [Direction::Up, Direction::Down, Direction::Both] {
        let sample = bulk(direction).measure(&scene.path, &deaf);
        assert_eq!((sample.errors.total(), &sample.failure), (0, &None), "{sample:?}");
        let fairness = sample.value("fairness").unwrap();
        assert!(sample.value("rate").unwrap() > 0.0 && fairness > 0.0 && fairness <= 1.0, "{sample:?}");
    }
    for sample in [
        pingpong(3).measure(&scene.path, &deaf),
        Connect { connections: 3, rate: None, duration: SHORT }.measure(&scene.path, &deaf),
        Connect { connections: 3, rate: Some(50.0), duration: SHORT }.measure(&scene.path, &deaf),
        Idle { connections: 10, burst: 300_000 }.measure(&scene.path, &deaf),
    ] {
        assert_eq!((sample.errors.total(), &sample.failure), (0, &None), "{sample:?}");
    }
}

#[test]
fn the_bare_path_has_no_forwarder_to_cost_anything() {
    let scene = scene(Fault::None);
    let sample = pingpong(1).measure(&scene.direct, &Interrupt::deaf());
    assert_eq!(sample.costs.unwrap().forwarder, None);
    assert_eq!(scene.accepted.load(Ordering::Relaxed), 0);
}

#[test]
fn a_changed_byte_is_an_integrity_error_up_and_down_and_in_messages() {
    let deaf = Interrupt::deaf();
    // Behind the command and the first frame's head.
    let corrupts = scene(Fault::Corrupts(1000));
    let sample = bulk(Direction::Up).measure(&corrupts.path, &deaf);
    assert_eq!(count(&sample, "integrity"), 2, "one for each stream: {sample:?}");
    assert!(sample.errors.first["integrity"].contains("1 bytes came up changed"), "{sample:?}");
    let sample = pingpong(2).measure(&corrupts.path, &deaf);
    assert_eq!(count(&sample, "integrity"), 2, "one for each connection: {sample:?}");
    let sample = Idle { connections: 5, burst: 10_000 }.measure(&corrupts.path, &deaf);
    assert_eq!(count(&sample, "integrity"), 5, "{sample:?}");
}

#[test]
fn a_dropped_connection_is_an_error_of_its_stream() {
    let deaf = Interrupt::deaf();
    let drops = scene(Fault::Drops(5_000_000));
    let sample = bulk(Direction::Up).measure(&drops.path, &deaf);
    assert!(sample.errors.total() >= 2, "{sample:?}");
    // The command's byte and what follows it are more than one.
    let drops = scene(Fault::Drops(1));
    let sample = Connect { connections: 2, rate: None, duration: SHORT }.measure(&drops.path, &deaf);
    assert!(sample.errors.total() >= 2 && sample.failure.is_some(), "{sample:?}");
}

#[test]
fn a_sleep_shows_in_the_latency() {
    let sleep = Duration::from_millis(20);
    let sample = pingpong(2).measure(&scene(Fault::Sleeps(sleep)).path, &Interrupt::deaf());
    let latency = sample.latency.unwrap();
    // Once each way.
    assert!(latency.p50_us >= 39_900.0 && !latency.corrected, "{latency:?}");
}

#[test]
fn in_open_loop_a_slow_forwarder_counts_for_each_message_that_should_have_been_sent() {
    let slow = scene(Fault::Sleeps(Duration::from_millis(20)));
    // One message every 10 ms, and each takes 40: the last waits for all before it.
    let paced = PingPong { connections: 1, size: 64, rate: Some(100.0), duration: SHORT };
    let latency = paced.measure(&slow.path, &Interrupt::deaf()).latency.unwrap();
    assert!(latency.corrected && latency.max_us >= 200_000.0, "{latency:?}");
}

#[test]
fn computing_shows_in_the_cpu_time() {
    let burns = scene(Fault::Burns(Duration::from_millis(5)));
    let sample = pingpong(1).measure(&burns.path, &Interrupt::deaf());
    let round_trips = sample.latency.unwrap().count;
    let used = sample.costs.unwrap().forwarder.unwrap().cpu_seconds;
    // 5 ms each way; the clock of a process counts in hundredths of a second.
    #[allow(clippy::cast_precision_loss)]
    let least = round_trips as f64 * 0.010 * 0.9 - 0.02;
    assert!(used >= least, "{used} s for {round_trips} round trips");
}

#[test]
fn leaked_connections_show_in_the_descriptors() {
    let leaks = scene(Fault::Leaks);
    let connect = Connect { connections: 2, rate: Some(100.0), duration: SHORT };
    let sample = connect.measure(&leaks.path, &Interrupt::deaf());
    let used = sample.costs.unwrap().forwarder.unwrap();
    let left = used.descriptors_after.saturating_sub(used.descriptors_before);
    assert!(left >= sample.latency.unwrap().count, "{used:?}");
}

#[test]
fn a_forwarder_that_stalls_is_a_failure_and_not_a_wait_without_end() {
    // The wait for a first answer is 10 s.
    let sample = pingpong(2).measure(&scene(Fault::Stalls).path, &Interrupt::deaf());
    assert!(sample.failure.is_some() && count(&sample, "timeout") == 2, "{sample:?}");
}
