//! How long a forwarder takes from its start until it forwards, and what it has used by then: a
//! fresh process again and again, as each start is short.

use std::time::{Duration, Instant};

use super::{Running, StartError};
use crate::interrupt::Interrupt;
use crate::measure::process::Tree;
use crate::measure::{Latencies, Spread, Window};
use crate::report::{Sample, Unit};

/// Starts a forwarder with `start` and stops it, again and again for `window`, and at least once.
/// The time is from before the process is made until the probe that came through it was back.
pub fn measure(
    start: &dyn Fn() -> Option<Result<Running, StartError>>,
    window: Duration,
    backend: Option<u32>,
    interrupt: &Interrupt,
) -> Sample {
    let mut sample = Sample::default();
    let (mut latencies, mut memory, mut cpu) = (Latencies::default(), Vec::new(), Vec::new());
    let costs = Window::open(None, backend);
    let end = Instant::now() + window;
    while let Some(started) = start() {
        match started {
            Ok(running) => {
                latencies.record(running.ready_after);
                let mut tree = Tree::new(running.pid());
                #[allow(clippy::cast_precision_loss, reason = "sizes of one machine are exact in an f64")]
                memory.push(tree.look().resident as f64);
                cpu.extend(tree.cpu_time().map(|time| time.as_secs_f64() * 1e6));
            }
            Err(StartError::Interrupted) => break,
            Err(error) => {
                sample.errors.add("start", error);
                break;
            }
        }
        if interrupt.came() || Instant::now() >= end {
            break;
        }
    }
    sample.costs = Some(costs.close());
    sample.interrupted = interrupt.came();
    sample.latency = latencies.summary(false);
    match sample.latency {
        Some(latency) => {
            sample.figure("start", latency.p50_us, Unit::Microseconds);
            for (name, figures, unit) in [("CPU each", cpu, Unit::Microseconds), ("mem", memory, Unit::Bytes)]
            {
                if let Some(spread) = Spread::of(figures) {
                    sample.figure(name, spread.median, unit);
                }
            }
            #[allow(clippy::cast_precision_loss, reason = "starts of a window are few")]
            sample.figure("starts", latency.count as f64, Unit::Count);
        }
        None if sample.interrupted => {}
        None => sample.failure = sample.errors.first.values().next().cloned(),
    }
    sample
}
