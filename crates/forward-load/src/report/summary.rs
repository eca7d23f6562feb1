//! Medians over the rounds: for each scenario a row for each subject.

use serde::Serialize;

use super::{Sample, Unit};
use crate::compare::DIRECT;
use crate::measure::Spread;

/// A scenario's table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The scenario.
    pub scenario: String,
    /// The columns, the compared figure first.
    pub columns: Vec<(&'static str, Unit)>,
    /// The rows, DIRECT first, then in the order in which they were first seen.
    pub rows: Vec<Row>,
}

/// A subject's row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its name.
    pub subject: String,
    /// The medians, in the order of the columns.
    pub cells: Vec<Option<Spread>>,
    /// The first column's median, over DIRECT's.
    pub of_direct: Option<f64>,
    /// Rounds that were measured.
    pub rounds: usize,
    /// Errors of all rounds.
    pub errors: u64,
    /// The first failure, the first error of each kind, and notes, each once.
    pub remarks: Vec<String>,
}

/// The columns of a sample, derived ones, too.
pub fn columns(sample: &Sample) -> Vec<(&'static str, Unit, f64)> {
    let mut columns: Vec<_> = sample.figures.iter().map(|f| (f.name, f.unit, f.value)).collect();
    if let Some(latency) = &sample.latency {
        columns.push(("p50", Unit::Microseconds, latency.p50_us));
        columns.push(("p99", Unit::Microseconds, latency.p99_us));
    }
    if let Some(costs) = &sample.costs {
        #[allow(clippy::cast_precision_loss, reason = "figures of one machine are exact in an f64")]
        if let Some(used) = &costs.forwarder {
            columns.push(("CPU", Unit::Seconds, used.cpu_seconds));
            columns.push(("idle mem", Unit::Bytes, used.resident_before as f64));
            columns.push(("peak mem", Unit::Bytes, used.resident_peak as f64));
            columns.push(("threads", Unit::Count, used.threads_peak as f64));
            columns.push(("fds", Unit::Count, used.descriptors_peak as f64));
            let left = used.descriptors_after.saturating_sub(used.descriptors_before);
            columns.push(("fds left", Unit::Count, left as f64));
        }
        columns.push(("other CPU", Unit::Seconds, costs.machine.other_cpu_seconds));
    }
    columns
}

/// The tables of some samples.
pub fn summaries(samples: &[Sample]) -> Vec<Summary> {
    let mut scenarios: Vec<&str> = Vec::new();
    for sample in samples {
        if !scenarios.contains(&sample.scenario.as_str()) {
            scenarios.push(&sample.scenario);
        }
    }
    scenarios.into_iter().map(|scenario| summary(scenario, samples)).collect()
}

fn summary(scenario: &str, samples: &[Sample]) -> Summary {
    let samples: Vec<&Sample> = samples.iter().filter(|sample| sample.scenario == scenario).collect();
    let mut names: Vec<(&'static str, Unit)> = Vec::new();
    let mut subjects: Vec<&str> = Vec::new();
    for sample in &samples {
        for (at, (name, unit, _)) in columns(sample).into_iter().enumerate() {
            if !names.contains(&(name, unit)) {
                // A column that DIRECT has not keeps its place before those that it has.
                names.insert(at.min(names.len()), (name, unit));
            }
        }
        if !subjects.contains(&sample.subject.as_str()) {
            subjects.push(&sample.subject);
        }
    }
    // The order of a later round is rotated; that of the names is not.
    subjects.sort_by_key(|subject| *subject != DIRECT);
    let mut rows: Vec<Row> = subjects.iter().map(|subject| row(subject, &samples, &names)).collect();
    let first = |row: &Row| row.cells.first().copied().flatten().map(|spread| spread.median);
    let direct = rows.iter().find(|row| row.subject == DIRECT).and_then(first);
    for row in &mut rows {
        row.of_direct = first(row).zip(direct).map(|(ours, direct)| ours / direct).filter(|r| r.is_finite());
    }
    Summary { scenario: scenario.into(), columns: names, rows }
}

fn row(subject: &str, samples: &[&Sample], names: &[(&'static str, Unit)]) -> Row {
    let ours: Vec<&Sample> = samples.iter().copied().filter(|sample| sample.subject == subject).collect();
    let counted: Vec<&Sample> = ours.iter().copied().filter(|sample| sample.counts()).collect();
    let values = |name| {
        let value = move |sample: &&Sample| {
            columns(sample).into_iter().find(|(other, ..)| *other == name).map(|(.., value)| value)
        };
        Spread::of(counted.iter().filter_map(value))
    };
    let mut remarks: Vec<String> = Vec::new();
    let mut remark = |text: String| {
        if !remarks.contains(&text) {
            remarks.push(text);
        }
    };
    for sample in &ours {
        sample.failure.iter().cloned().for_each(&mut remark);
    }
    let mut kinds: Vec<&str> = Vec::new();
    for sample in &ours {
        for (kind, what) in &sample.errors.first {
            if !kinds.contains(kind) {
                kinds.push(kind);
                let count: u64 = ours.iter().filter_map(|sample| sample.errors.count.get(kind)).sum();
                remark(format!("{count} x {kind}: {what}"));
            }
        }
        sample.notes.iter().cloned().for_each(&mut remark);
    }
    Row {
        subject: subject.into(),
        cells: names.iter().map(|(name, _)| values(*name)).collect(),
        of_direct: None,
        rounds: counted.len(),
        errors: ours.iter().map(|sample| sample.errors.total()).sum(),
        remarks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(subject: &str, value: f64) -> Sample {
        let mut sample = Sample { subject: subject.into(), scenario: "s".into(), ..Sample::default() };
        sample.figure("rate", value, Unit::PerSecond);
        sample
    }

    #[test]
    fn a_forwarder_is_compared_with_the_bare_path_by_medians() {
        let mut samples: Vec<Sample> = [10.0, 12.0, 11.0].map(|value| sample(DIRECT, value)).into();
        samples.extend([5.0, 5.5, 900.0].map(|value| sample("a", value)));
        let summary = &summaries(&samples)[0];
        assert_eq!(summary.rows[0].subject, DIRECT);
        assert_eq!(summary.rows[1].of_direct, Some(0.5));
    }

    #[test]
    fn a_failure_is_a_remark_and_no_figure() {
        let mut failed = Sample::failed("s", "it crashed");
        failed.subject = "a".into();
        failed.figure("rate", 1e9, Unit::PerSecond);
        let summary = &summaries(&[sample(DIRECT, 1.0), sample("a", 2.0), failed])[0];
        assert_eq!(summary.rows[1].cells[0].unwrap().max, 2.0);
        assert_eq!(summary.rows[1].remarks, ["it crashed"]);
    }
}
