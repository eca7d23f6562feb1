//! What else the machine did in a window, from proc_stat(5).

use std::fs;

use serde::Serialize;

use super::process::TICKS_PER_SECOND;

/// The machine in a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct MachineUse {
    /// CPUs that are online.
    pub cpus: u64,
    /// The idle share of their time, 0 to 1.
    pub idle_share: f64,
    /// CPU time, in seconds, of processes other than the forwarder, the load side and the backend,
    /// as far as the kernel tells: time it spends on packets between processes is in here, too,
    /// where the kernel counts it apart from them.
    pub other_cpu_seconds: f64,
    /// CPU time that a hypervisor gave to others, in seconds.
    pub stolen_cpu_seconds: f64,
    /// The most of the kernel's table of tracked connections that was in use, 0 to 1; none where it
    /// tracks none.
    pub tracked_share: Option<f64>,
}

/// The counters at a moment, in ticks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    cpus: u64,
    busy: u64,
    idle: u64,
    stolen: u64,
}

impl Counters {
    /// Reads them; zeros where there are none.
    pub fn now() -> Self {
        fs::read_to_string("/proc/stat").ok().and_then(|text| parse(&text)).unwrap_or_default()
    }

    /// What happened since `before`, when `ours` ticks were our own processes'.
    #[allow(clippy::cast_precision_loss, reason = "ticks of a window are exact in an f64")]
    pub fn since(&self, before: &Self, ours: u64) -> MachineUse {
        let seconds = |ticks: u64| ticks as f64 / TICKS_PER_SECOND as f64;
        let busy = self.busy.saturating_sub(before.busy);
        let idle = self.idle.saturating_sub(before.idle);
        MachineUse {
            cpus: self.cpus,
            idle_share: if busy + idle == 0 { 1.0 } else { idle as f64 / (busy + idle) as f64 },
            other_cpu_seconds: seconds(busy.saturating_sub(ours)),
            stolen_cpu_seconds: seconds(self.stolen.saturating_sub(before.stolen)),
            tracked_share: None,
        }
    }
}

fn parse(text: &str) -> Option<Counters> {
    let total: Vec<u64> = text.lines().next()?.split_whitespace().skip(1).flat_map(str::parse).collect();
    // user nice system idle iowait irq softirq steal; guest time is in user.
    let &[user, nice, system, idle, iowait, irq, softirq, stolen, ..] = total.as_slice() else { return None };
    let cpus = text.lines().skip(1).take_while(|line| line.starts_with("cpu")).count() as u64;
    Some(Counters { cpus, busy: user + nice + system + irq + softirq, idle: idle + iowait, stolen })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_somebody_elses() {
        let before = parse("cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 1\ncpu1 1\nintr 1\n").unwrap();
        let after = parse("cpu  150 0 200 1050 0 0 0 7 0 0\ncpu0 1\ncpu1 1\nintr 1\n").unwrap();
        let used = after.since(&before, 100);
        assert_eq!((used.cpus, used.other_cpu_seconds, used.idle_share), (2, 0.5, 0.25));
    }
}
