//! How long answers took, in microseconds, with three significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies as they are gathered; one per thread, then [`Latencies::add`]ed.
///
/// In open loop the caller records the time since the *intended* start of each request (see
/// [`crate::measure::pace`]), which corrects for coordinated omission: a stall of the forwarder
/// counts for each request that should have been sent in it.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

/// What is reported of them, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many answers.
    pub count: u64,
    /// The mean.
    pub mean_us: f64,
    /// The median.
    pub p50_us: f64,
    /// 90 of 100 were not slower.
    pub p90_us: f64,
    /// 99 of 100 were not slower.
    pub p99_us: f64,
    /// 999 of 1000 were not slower.
    pub p999_us: f64,
    /// The slowest.
    pub max_us: f64,
    /// Whether they are measured from the intended start (open loop).
    pub corrected: bool,
}

impl Default for Latencies {
    fn default() -> Self {
        // In nanoseconds up to a minute; the file's bounds are constants, so this cannot fail.
        Self(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order"))
    }
}

impl Latencies {
    /// Records one; longer than a minute counts as a minute.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
    }

    /// Adds what another thread gathered.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// The percentiles; none when nothing was recorded.
    pub fn summary(&self, corrected: bool) -> Option<LatencySummary> {
        let us = |nanos: f64| (nanos / 100.0).round() / 10.0;
        #[allow(clippy::cast_precision_loss, reason = "a minute in nanoseconds is exact in an f64")]
        let at = |quantile: f64| us(self.0.value_at_quantile(quantile) as f64);
        (!self.0.is_empty()).then(|| LatencySummary {
            count: self.0.len(),
            mean_us: us(self.0.mean()),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
            corrected,
        })
    }
}
