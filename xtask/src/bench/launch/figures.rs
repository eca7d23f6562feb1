//! The figures of `bench launch`: every sample for the JSON file, medians for the tables.

use std::collections::BTreeMap;
use std::time::Duration;

use forward_load::measure::Spread;
use forward_load::report::table::aligned;
use serde::Serialize;

use super::calls::Calls;

/// What launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Subject {
    /// The engine calls of a launch, without a launcher.
    #[serde(rename = "DIRECT")]
    Direct,
    /// The launcher.
    #[serde(rename = "claude-bottle")]
    Launcher,
}

impl Subject {
    /// Its name in the tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "DIRECT",
            Self::Launcher => "claude-bottle",
        }
    }
}

/// The life of a bottle, as times since its sample began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// When its command ran.
    pub(super) ran: Duration,
    /// When all of it was removed.
    pub(super) ended: Duration,
}

/// Some bottles that were launched at once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Sample {
    /// By what.
    pub(super) subject: Subject,
    /// How many.
    pub(super) bottles: usize,
    /// The round, from 1.
    pub(super) round: u32,
    /// Seconds until the command of the last one ran.
    pub(super) launch: f64,
    /// Seconds until the last one was removed.
    pub(super) life: f64,
    /// Seconds from each bottle's command until the bottle was removed.
    pub(super) removals: Vec<f64>,
}

impl Sample {
    /// The sample of some lives, of which there is at least one.
    pub(super) fn of(subject: Subject, round: u32, lives: &[Life]) -> Self {
        let last = |time: fn(&Life) -> Duration| lives.iter().map(time).max().unwrap_or_default();
        Self {
            subject,
            bottles: lives.len(),
            round,
            launch: last(|life| life.ran).as_secs_f64(),
            life: last(|life| life.ended).as_secs_f64(),
            removals: lives.iter().map(|life| life.ended.saturating_sub(life.ran).as_secs_f64()).collect(),
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Whether all rounds were run.
    pub(super) complete: bool,
    /// Every sample, in the order in which they were taken.
    pub(super) samples: Vec<Sample>,
    /// Seconds of each `start --dry-run`.
    pub(super) dry_runs: Vec<f64>,
    /// The calls of one bottle.
    pub(super) calls: BTreeMap<Subject, Calls>,
}

impl Report {
    /// The tables.
    pub(super) fn tables(&self) -> String {
        let mut counts: Vec<usize> = self.samples.iter().map(|sample| sample.bottles).collect();
        counts.sort_unstable();
        counts.dedup();
        let mut tables: Vec<String> = counts.into_iter().map(|bottles| self.of_bottles(bottles)).collect();
        tables.extend(Spread::of(self.dry_runs.iter().map(|seconds| seconds * 1e3)).map(|time| {
            let header = ["", "time ms", "(min-max)"].map(str::to_owned).to_vec();
            let cells = vec![
                Subject::Launcher.name().to_owned(),
                format!("{:.1}", time.median),
                format!("{:.1}-{:.1}", time.min, time.max),
            ];
            aligned("start --dry-run", &[header, cells])
        }));
        tables.extend((!self.calls.is_empty()).then(|| self.of_calls()));
        let mut text = tables.join("\n");
        if !self.complete {
            text.push_str("\nwarning: not all rounds were run; these are the figures so far\n");
        }
        text
    }

    fn of_bottles(&self, bottles: usize) -> String {
        let of = |subject, figure: fn(&Sample) -> Vec<f64>| {
            let samples = self.samples.iter();
            let samples = samples.filter(|sample| (sample.subject, sample.bottles) == (subject, bottles));
            Spread::of(samples.flat_map(figure))
        };
        let launch: fn(&Sample) -> Vec<f64> = |sample| vec![sample.launch];
        let life: fn(&Sample) -> Vec<f64> = |sample| vec![sample.life];
        let header = [
            "",
            "launch s",
            "(min-max)",
            "x DIRECT",
            "life s",
            "(min-max)",
            "x DIRECT",
            "removal s",
            "rounds",
        ];
        let mut lines = vec![header.map(str::to_owned).to_vec()];
        for subject in [Subject::Direct, Subject::Launcher] {
            let mut cells = vec![subject.name().to_owned()];
            for figure in [launch, life] {
                cells.extend(compared(of(subject, figure), of(Subject::Direct, figure)));
            }
            let removal = of(subject, |sample| sample.removals.clone());
            cells.push(removal.map_or("-".to_owned(), |spread| format!("{:.2}", spread.median)));
            cells.push(of(subject, launch).map_or(0, |spread| spread.count).to_string());
            lines.push(cells);
        }
        let title = if bottles == 1 { "1 bottle".to_owned() } else { format!("{bottles} bottles at once") };
        aligned(&title, &lines)
    }

    fn of_calls(&self) -> String {
        let header = ["", "engine calls", "containers started", "execs", "KiB sent"];
        let mut lines = vec![header.map(str::to_owned).to_vec()];
        for (subject, calls) in &self.calls {
            let numbers = [calls.total(), calls.started(), calls.execs(), calls.sent.div_ceil(1024)];
            let mut cells = vec![subject.name().to_owned()];
            cells.extend(numbers.map(|number| number.to_string()));
            lines.push(cells);
        }
        let mut text = aligned("1 bottle, from its launch to its removal", &lines);
        if let (Some(direct), Some(launcher)) =
            (self.calls.get(&Subject::Direct), self.calls.get(&Subject::Launcher))
        {
            for (subject, more) in
                [(Subject::Direct, direct.beyond(launcher)), (Subject::Launcher, launcher.beyond(direct))]
            {
                if !more.is_empty() {
                    text.push_str(&format!("  only {}: {}\n", subject.name(), more.join(", ")));
                }
            }
        }
        text
    }
}

/// A median, its range, and its ratio to another median.
fn compared(ours: Option<Spread>, direct: Option<Spread>) -> [String; 3] {
    let missing = || "-".to_owned();
    let ratio = ours.zip(direct).map(|(ours, direct)| ours.median / direct.median);
    [
        ours.map_or_else(missing, |ours| format!("{:.2}", ours.median)),
        ours.map_or_else(missing, |ours| format!("{:.2}-{:.2}", ours.min, ours.max)),
        ratio.filter(|ratio| ratio.is_finite()).map_or_else(missing, |ratio| format!("{ratio:.2}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(ran: u64, ended: u64) -> Life {
        Life { ran: Duration::from_millis(ran), ended: Duration::from_millis(ended) }
    }

    #[test]
    fn a_sample_lasts_until_its_last_bottle() {
        let sample = Sample::of(Subject::Launcher, 1, &[life(900, 1500), life(1000, 1250)]);
        assert_eq!((sample.bottles, sample.launch, sample.life), (2, 1.0, 1.5));
        assert_eq!(sample.removals, [0.6, 0.25]);
    }

    #[test]
    fn medians_are_compared_with_the_direct_calls() {
        let mut report = Report::default();
        for (round, (direct, launcher)) in (1..).zip([(500, 550), (400, 600), (600, 9000)]) {
            report.samples.push(Sample::of(Subject::Launcher, round, &[life(launcher, launcher + 300)]));
            report.samples.push(Sample::of(Subject::Direct, round, &[life(direct, direct + 200)]));
        }
        report.dry_runs = vec![0.04, 0.05, 0.042];
        let tables = report.tables();
        let lines: Vec<Vec<&str>> = tables.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["1", "bottle"]);
        assert_eq!(
            lines[2],
            ["DIRECT", "0.50", "0.40-0.60", "1.00", "0.70", "0.60-0.80", "1.00", "0.20", "3"]
        );
        assert_eq!(
            lines[3],
            ["claude-bottle", "0.60", "0.55-9.00", "1.20", "0.90", "0.85-9.30", "1.29", "0.30", "3"]
        );
        assert!(tables.contains("42.0  40.0-50.0"), "{tables}");
        assert!(tables.ends_with("these are the figures so far\n"), "{tables}");
    }

    #[test]
    fn a_subject_without_a_sample_has_no_figures() {
        let samples = vec![Sample::of(Subject::Launcher, 1, &[life(1, 2); 6])];
        let tables = Report { complete: true, samples, ..Report::default() }.tables();
        let direct = tables.lines().find(|line| line.trim_start().starts_with("DIRECT")).unwrap();
        assert_eq!(
            direct.split_whitespace().collect::<Vec<_>>()[1..],
            ["-", "-", "-", "-", "-", "-", "-", "0"]
        );
        assert!(tables.starts_with("6 bottles at once\n") && !tables.contains("warning"), "{tables}");
    }

    #[test]
    fn calls_are_compared_by_kind() {
        let calls = |kinds: &[(&str, u64)], sent| Calls {
            kinds: kinds.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect(),
            sent,
        };
        let start = ("POST /containers/*/start", 4);
        let report = Report {
            calls: BTreeMap::from([
                (Subject::Direct, calls(&[start], 2048)),
                (Subject::Launcher, calls(&[start, ("GET /info", 1)], 2049)),
            ]),
            ..Report::default()
        };
        let tables = report.tables();
        assert!(tables.contains("only claude-bottle: 1 GET /info\n"), "{tables}");
        let launcher = tables.lines().find(|line| line.trim_start().starts_with("claude-bottle")).unwrap();
        assert_eq!(launcher.split_whitespace().collect::<Vec<_>>()[1..], ["5", "4", "0", "3"]);
    }
}
