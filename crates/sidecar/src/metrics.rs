//! Metrics as Prometheus reads them: the text format 0.0.4, written at the moment they are asked for.
//!
//! A daemon keeps plain numbers where it has them anyway and hands [`Admin::serve`] a closure that
//! writes its families. There is no registry, because none is needed: every family is known when the
//! code is written, and every label when the table is read. A library would bring one, with a lock
//! and a map between a daemon and its own counters.
//!
//! ```
//! # use sidecar::metrics::{Exposition, Kind};
//! let mut text = Exposition::default();
//! text.family("demo_bytes_total", Kind::Counter, "Bytes carried.")
//!     .sample(&[("alias", "github"), ("direction", "up")], 42);
//! assert!(text.as_str().ends_with("demo_bytes_total{alias=\"github\",direction=\"up\"} 42\n"));
//! ```
//!
//! [`Admin::serve`]: crate::admin::Admin::serve

use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The text of one answer, as families are added to it.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// What a family's numbers mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows. The name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// How often something took how long. The name ends in its unit, `_seconds`.
    Histogram,
}

/// One family, whose samples follow its head.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
}

/// How often something took how long.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One more than bounds: the last is what took longer.
    buckets: Box<[AtomicU64]>,
    nanos: AtomicU64,
}

/// The type of the answer, for its head.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Exposition {
    /// Begins a family: all its samples must follow before the next one begins.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &str) -> Family<'a> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Family { text: &mut self.0, name }
    }

    /// What has been written so far.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The whole text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// A counter's or gauge's number.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: u64) {
        self.line("", labels, None, value);
    }

    /// A histogram's buckets, sum and count.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut count = 0;
        for (n, bucket) in histogram.buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let bound = histogram.bounds.get(n).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            self.line("_bucket", labels, Some(("le", &bound)), count);
        }
        let sum = Duration::from_nanos(histogram.nanos.load(Relaxed));
        self.line("_sum", labels, None, sum.as_secs_f64());
        self.line("_count", labels, None, count);
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        more: Option<(&str, &str)>,
        value: impl Display,
    ) {
        let text = &mut *self.text;
        text.push_str(self.name);
        text.push_str(suffix);
        for (n, (label, value)) in labels.iter().copied().chain(more).enumerate() {
            text.push(if n == 0 { '{' } else { ',' });
            text.push_str(label);
            text.push_str("=\"");
            for c in value.chars() {
                match c {
                    '\\' => text.push_str("\\\\"),
                    '"' => text.push_str("\\\""),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('"');
        }
        if !labels.is_empty() || more.is_some() {
            text.push('}');
        }
        let _ = writeln!(text, " {value}");
    }
}

impl Histogram {
    /// Nothing yet; `bounds` are the upper ends of its buckets in seconds, growing.
    pub fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, buckets, nanos: AtomicU64::new(0) }
    }

    /// Counts one that took so long.
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_read_as_the_format_says() {
        let took = Histogram::new(&[0.01, 0.5, 1.0]);
        for millis in [10, 11, 700, 5000] {
            took.observe(Duration::from_millis(millis));
        }
        let mut text = Exposition::default();
        let mut open = text.family("x_open", Kind::Gauge, "Open now.");
        open.sample(&[("alias", "a \"quoted\\\" name\n")], 1);
        open.sample(&[("alias", "b")], 0);
        text.family("x_draining", Kind::Gauge, "1 while draining.").sample(&[], 0);
        text.family("x_seconds", Kind::Histogram, "How long.").histogram(&[("alias", "b")], &took);
        assert_eq!(
            text.into_string(),
            "# HELP x_open Open now.\n\
             # TYPE x_open gauge\n\
             x_open{alias=\"a \\\"quoted\\\\\\\" name\\n\"} 1\n\
             x_open{alias=\"b\"} 0\n\
             # HELP x_draining 1 while draining.\n\
             # TYPE x_draining gauge\n\
             x_draining 0\n\
             # HELP x_seconds How long.\n\
             # TYPE x_seconds histogram\n\
             x_seconds_bucket{alias=\"b\",le=\"0.01\"} 1\n\
             x_seconds_bucket{alias=\"b\",le=\"0.5\"} 2\n\
             x_seconds_bucket{alias=\"b\",le=\"1\"} 3\n\
             x_seconds_bucket{alias=\"b\",le=\"+Inf\"} 4\n\
             x_seconds_sum{alias=\"b\"} 5.721\n\
             x_seconds_count{alias=\"b\"} 4\n"
        );
    }
}
