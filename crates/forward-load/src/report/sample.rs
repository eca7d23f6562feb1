//! One measurement: a subject, a scenario, a round.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::measure::{Costs, LatencySummary};

/// What was measured once.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Sample {
    /// What was between load and backend: `DIRECT` (nothing), a peer's name, or an address.
    pub subject: String,
    /// What was done, e.g. `bulk up, 8 streams`. Samples are compared within a scenario.
    pub scenario: String,
    /// The round, from 1.
    pub round: u32,
    /// The place of this subject in its round, from 1.
    pub turn: u32,
    /// What came out; the first figure is the one that is compared with DIRECT.
    pub figures: Vec<Figure>,
    /// How long answers took.
    pub latency: Option<LatencySummary>,
    /// What went wrong on single connections or requests.
    pub errors: Errors,
    /// What it cost.
    pub costs: Option<Costs>,
    /// Why there is no measurement, or none to be trusted: the forwarder crashed, answered wrongly,
    /// is not installed.
    pub failure: Option<String>,
    /// What a reader should know beside the figures, e.g. that the machine was busy.
    pub notes: Vec<String>,
    /// Whether it was cut short by Ctrl-C; it is not in medians then.
    pub interrupted: bool,
}

/// A named figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figure {
    /// What it is, e.g. `fairness`.
    pub name: &'static str,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: Unit,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Bytes per second.
    BytesPerSecond,
    /// Things per second.
    PerSecond,
    /// Microseconds.
    Microseconds,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Things.
    Count,
    /// A ratio.
    Ratio,
}

/// Errors by kind. None is ever retried or left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// How many of each kind: `connect`, `reset`, `timeout`, `early end`, `integrity`, `status`, ...
    pub count: BTreeMap<&'static str, u64>,
    /// The first one of each kind, in words.
    pub first: BTreeMap<&'static str, String>,
}

impl Sample {
    /// One that could not be measured.
    pub fn failed(scenario: impl Into<String>, failure: impl ToString) -> Self {
        Self { scenario: scenario.into(), failure: Some(failure.to_string()), ..Self::default() }
    }

    /// Adds a figure.
    pub fn figure(&mut self, name: &'static str, value: f64, unit: Unit) {
        self.figures.push(Figure { name, value, unit });
    }

    /// A figure by its name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| figure.value)
    }

    /// Whether its figures count in medians.
    pub fn counts(&self) -> bool {
        self.failure.is_none() && !self.interrupted
    }
}

impl Errors {
    /// Counts one.
    pub fn add(&mut self, kind: &'static str, what: impl ToString) {
        self.add_many(kind, 1, what);
    }

    /// Counts several of a kind.
    pub fn add_many(&mut self, kind: &'static str, count: u64, what: impl ToString) {
        *self.count.entry(kind).or_default() += count;
        self.first.entry(kind).or_insert_with(|| what.to_string());
    }

    /// Counts an I/O error under its kind.
    pub fn add_io(&mut self, act: &'static str, error: &std::io::Error) {
        use std::io::ErrorKind as Kind;
        let kind = match error.kind() {
            Kind::TimedOut | Kind::WouldBlock => "timeout",
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => "reset",
            Kind::UnexpectedEof => "early end",
            _ => act,
        };
        self.add(kind, format_args!("could not {act}: {error}"));
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: Self) {
        for (kind, count) in other.count {
            *self.count.entry(kind).or_default() += count;
        }
        for (kind, what) in other.first {
            self.first.entry(kind).or_insert(what);
        }
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.count.values().sum()
    }
}
