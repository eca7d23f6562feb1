//! Whether what was measured was the forwarder, or the tool, or the machine.

use super::DIRECT;
use crate::measure::Costs;
use crate::measure::tracked::NEARLY_FULL;
use crate::report::summary::{Summary, summaries};
use crate::report::{Sample, Unit};

/// What a reader of the figures should know about the limits of the run.
///
/// DIRECT is the tool's own limit: a forwarder that comes within 10 % of it may be faster than we
/// can measure. A window without idle CPU time compares costs more than speeds. A window in which
/// others used a tenth of a CPU measures them, too. One in which the kernel had no room for new
/// connections measures the kernel.
pub fn warnings(samples: &[Sample]) -> Vec<String> {
    let mut warnings: Vec<String> = summaries(samples).iter().filter_map(near_direct).collect();
    let busy = |costs: &Costs| costs.machine.idle_share < BUSY;
    let text = "no CPU was idle: load, backend and forwarder shared what the machine has";
    warnings.extend(windows(samples, busy, text));
    let disturbed = |costs: &Costs| costs.machine.other_cpu_seconds > OTHERS * costs.seconds;
    warnings.extend(windows(samples, disturbed, "other processes used more than a tenth of a CPU"));
    let stolen = |costs: &Costs| costs.machine.stolen_cpu_seconds > STOLEN * costs.seconds;
    warnings.extend(windows(samples, stolen, "the hypervisor gave CPU time to others"));
    let full = |costs: &Costs| costs.machine.tracked_share.is_some_and(|share| share >= NEARLY_FULL);
    warnings.extend(windows(samples, full, TABLE_FULL));
    warnings
}

fn near_direct(summary: &Summary) -> Option<String> {
    // Memory and delays have no such limit.
    let is_rate = |unit: &Unit| matches!(unit, Unit::BytesPerSecond | Unit::PerSecond);
    summary.columns.first().filter(|(_, unit)| is_rate(unit))?;
    // Where the bare path does more than the load side's part behind a proxy (a TLS handshake for
    // each new connection), a proxy is much faster, and DIRECT no limit.
    let is_near = |ratio: f64| (NEAR..NO_LIMIT).contains(&ratio);
    let near = summary.rows.iter().filter(|row| row.subject != DIRECT && row.of_direct.is_some_and(is_near));
    let near: Vec<&str> = near.map(|row| row.subject.as_str()).collect();
    let (scenario, names) = (&summary.scenario, near.join(", "));
    (!near.is_empty()).then(|| format!("{scenario}: {names} within 10 % of DIRECT, the tool's own limit"))
}

/// In how many windows something was so, and of which scenarios unless of all.
fn windows(samples: &[Sample], is_so: impl Fn(&Costs) -> bool, text: &str) -> Option<String> {
    let (mut all, mut so) = (0, 0);
    let (mut scenarios, mut others): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for sample in samples {
        let Some(costs) = &sample.costs else { continue };
        all += 1;
        let list = if is_so(costs) { &mut scenarios } else { &mut others };
        so += usize::from(is_so(costs));
        if !list.contains(&sample.scenario.as_str()) {
            list.push(&sample.scenario);
        }
    }
    let place = if others.is_empty() { String::new() } else { format!(" ({})", scenarios.join("; ")) };
    (so > 0).then(|| format!("in {so} of {all} windows{place}, {text}"))
}

const TABLE_FULL: &str = "the kernel's table of tracked connections was nearly full, so connections time out with \
     any forwarder: measure again when the old ones are forgotten, 120 s after their end, with a \
     shorter --duration, or raise net.netfilter.nf_conntrack_max";

const NEAR: f64 = 0.9;

const NO_LIMIT: f64 = 1.5;

const BUSY: f64 = 0.02;

const OTHERS: f64 = 0.1;

const STOLEN: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::MachineUse;

    fn sample(subject: &str, rate: f64, other: f64) -> Sample {
        let machine =
            MachineUse { cpus: 2, idle_share: 0.5, other_cpu_seconds: other, ..MachineUse::default() };
        let costs = Costs {
            seconds: 1.0,
            forwarder: None,
            load_cpu_seconds: 0.0,
            backend_cpu_seconds: None,
            machine,
        };
        let mut sample =
            Sample { subject: subject.into(), scenario: "s".into(), costs: Some(costs), ..Sample::default() };
        sample.figure("rate", rate, Unit::PerSecond);
        sample
    }

    #[test]
    fn a_forwarder_as_fast_as_the_bare_path_is_told_to_be_at_the_tools_limit() {
        let told = warnings(&[sample(DIRECT, 100.0, 0.0), sample("a", 95.0, 0.0), sample("b", 50.0, 0.0)]);
        assert_eq!(told, ["s: a within 10 % of DIRECT, the tool's own limit"]);
    }

    #[test]
    fn a_window_in_which_the_kernel_had_no_room_for_new_connections_is_told_with_what_to_do() {
        let mut samples = [sample(DIRECT, 100.0, 0.0), sample("a", 5.0, 0.0), sample("b", 5.0, 0.0)];
        for (sample, share) in samples.iter_mut().zip([None, Some(0.94), Some(0.95)]) {
            sample.costs.as_mut().unwrap().machine.tracked_share = share;
        }
        let told = warnings(&samples);
        assert!(told[0].starts_with("in 1 of 3 windows (s), the kernel's table"), "{told:?}");
        assert!(told.len() == 1 && told[0].contains("raise net.netfilter.nf_conntrack_max"), "{told:?}");
    }

    #[test]
    fn a_disturbed_window_is_told() {
        let told = warnings(&[sample(DIRECT, 100.0, 0.0), sample("a", 5.0, 0.5)]);
        assert_eq!(told, ["in 1 of 2 windows (s), other processes used more than a tenth of a CPU"]);
    }
}
