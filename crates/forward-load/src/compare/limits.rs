//! Whether what was measured was the forwarder, or the tool, or the machine.

use super::DIRECT;
use crate::report::summary::summaries;
use crate::report::{Sample, Unit};

/// What a reader of the figures should know about the limits of the run.
///
/// DIRECT is the tool's own limit: a forwarder that comes within 10 % of it may be faster than we
/// can tell. A window without idle CPU time compares costs, not speeds. A window in which others
/// used a tenth of a CPU compares them, too.
pub fn warnings(samples: &[Sample]) -> Vec<String> {
    let mut warnings = Vec::new();
    for summary in summaries(samples) {
        // Memory and delays have no such limit.
        let is_rate = |unit: &Unit| matches!(unit, Unit::BytesPerSecond | Unit::PerSecond);
        let is_rate = summary.columns.first().is_some_and(|(_, unit)| is_rate(unit));
        let near: Vec<&str> = summary
            .rows
            .iter()
            .filter(|row| row.subject != DIRECT && is_rate && row.of_direct.is_some_and(|ratio| ratio > NEAR))
            .map(|row| row.subject.as_str())
            .collect();
        if !near.is_empty() {
            warnings.push(format!(
                "{}: {} within 10 % of DIRECT, which is the tool's own limit",
                summary.scenario,
                near.join(", ")
            ));
        }
        let windows = samples.iter().filter(|sample| sample.scenario == summary.scenario);
        let costs: Vec<_> = windows.filter_map(|sample| sample.costs).collect();
        let busy = costs.iter().filter(|costs| costs.machine.idle_share < BUSY).count();
        if busy > 0 {
            warnings.push(format!(
                "{}: no CPU was idle in {busy} of {} windows: load, backend and forwarder shared the machine",
                summary.scenario,
                costs.len()
            ));
        }
        let disturbed = costs.iter().filter(|c| c.machine.other_cpu_seconds > OTHERS * c.seconds).count();
        if disturbed > 0 {
            warnings.push(format!(
                "{}: other processes used more than a tenth of a CPU in {disturbed} of {} windows",
                summary.scenario,
                costs.len()
            ));
        }
    }
    warnings
}

const NEAR: f64 = 0.9;

const BUSY: f64 = 0.02;

const OTHERS: f64 = 0.1;
