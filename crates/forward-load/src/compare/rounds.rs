//! The rounds of a comparison.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::running::Ground;
use super::{DIRECT, Needs, Peer, Running};
use crate::interrupt::Interrupt;
use crate::measure::tracked::Table;
use crate::progress::Progress;
use crate::report::file::Subject;
use crate::report::{Report, ReportError, ReportFile, Sample};

/// What a scenario is aimed at.
#[derive(Debug, Clone, Copy)]
pub struct Aim<'a> {
    /// `DIRECT`, or the peer's name.
    pub subject: &'a str,
    /// Whether there is nothing between.
    pub direct: bool,
    /// The forwarder's listener, or the backend's.
    pub address: SocketAddr,
    /// The forwarder's process id.
    pub pid: Option<u32>,
    /// The backend's.
    pub backend: Option<u32>,
}

/// Measures something through what it is aimed at.
pub type Measure<'a> = dyn Fn(&Aim<'_>, &Interrupt) -> Sample + 'a;

/// Whether a forwarder at this address forwards correctly; else what is wrong.
pub type Probe<'a> = dyn Fn(SocketAddr) -> Result<(), String> + 'a;

/// Something that is measured with every forwarder.
pub struct Scenario<'a> {
    /// What the sample will be called.
    pub name: String,
    /// What a forwarder is given at most; one that is not to have so much is left out.
    pub needs: Needs,
    /// How many entries it may leave in the kernel's table of tracked connections.
    pub tracked: u64,
    /// How it is measured.
    pub act: Act<'a>,
}

/// How a scenario is measured, once.
pub enum Act<'a> {
    /// Through a forwarder that runs, and on the bare path. The sample contains errors of single
    /// connections, or a failure.
    Through(Box<Measure<'a>>),
    /// As before, of what a forwarder itself holds: there is no bare path of that.
    Of(Box<Measure<'a>>),
    /// A forwarder is started again and again for so long, each time until this probe succeeds;
    /// there is no bare path of that.
    Start(Duration, Box<Probe<'a>>),
}

impl fmt::Debug for Scenario<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("name", &self.name).field("act", &self.act).finish_non_exhaustive()
    }
}

impl fmt::Debug for Act<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Through(_) => f.write_str("Through"),
            Self::Of(_) => f.write_str("Of"),
            Self::Start(window, _) => f.debug_tuple("Start").field(window).finish(),
        }
    }
}

/// A comparison that can be run.
pub struct Comparison<'a> {
    /// Who is compared, with the program where there is one.
    pub peers: Vec<(&'a Peer, Option<PathBuf>)>,
    /// What their sites have in common.
    pub ground: Ground<'a>,
    /// The backend's process id.
    pub backend: Option<u32>,
    /// What is measured.
    pub scenarios: Vec<Scenario<'a>>,
    /// Whether a forwarder at this address forwards correctly; else what is wrong.
    pub probe: &'a Probe<'a>,
    /// How many rounds.
    pub rounds: u32,
}

impl fmt::Debug for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Comparison").field("scenarios", &self.scenarios).finish_non_exhaustive()
    }
}

impl Comparison<'_> {
    /// Runs all rounds, or as many as we have until we are asked to end, and writes the report after
    /// each. Whether all were run.
    ///
    /// # Errors
    ///
    /// The report could not be written.
    pub fn run(
        &self,
        report: &mut Report,
        file: &ReportFile,
        progress: &mut Progress,
        interrupt: &Interrupt,
    ) -> Result<bool, ReportError> {
        for (peer, program) in &self.peers {
            let release = program.as_ref().map_or(Ok(None), |program| peer.says(program, interrupt));
            let release = release.unwrap_or_else(|error| {
                progress.say(&error);
                report.warnings.push(error.to_string());
                None
            });
            report.subjects.push(subject(peer, program.as_ref(), release));
        }
        file.write(report)?;
        for round in 1..=self.rounds {
            for scenario in &self.scenarios {
                let subjects = self.subjects(scenario);
                for turn in 0..subjects.len() {
                    let at = (turn + round as usize - 1) % subjects.len();
                    Table::of_the_kernel()
                        .wait_for_room(scenario.tracked, interrupt, |line| progress.say(line));
                    let mut sample = self.once(subjects[at], scenario, interrupt);
                    sample.round = round;
                    sample.turn = u32::try_from(turn).unwrap_or(u32::MAX) + 1;
                    sample.interrupted |= interrupt.came();
                    progress.step(crate::report::table::line(&sample));
                    report.samples.push(sample);
                    if interrupt.came() {
                        file.write(report)?;
                        return Ok(false);
                    }
                }
            }
            report.complete = round == self.rounds;
            file.write(report)?;
        }
        Ok(true)
    }

    /// How many samples all rounds have.
    pub fn steps(&self) -> usize {
        let of_round: usize = self.scenarios.iter().map(|scenario| self.subjects(scenario).len()).sum();
        of_round * self.rounds as usize
    }

    /// Who is measured in a scenario; none is the bare path.
    fn subjects(&self, scenario: &Scenario<'_>) -> Vec<Option<(&Peer, &PathBuf)>> {
        let direct = matches!(scenario.act, Act::Through(_)).then_some(None);
        let able = self.peers.iter().filter(|(peer, _)| peer.most.cover(scenario.needs));
        direct
            .into_iter()
            .chain(able.filter_map(|(peer, found)| Some(Some((*peer, found.as_ref()?)))))
            .collect()
    }

    fn once(
        &self,
        subject: Option<(&Peer, &PathBuf)>,
        scenario: &Scenario<'_>,
        interrupt: &Interrupt,
    ) -> Sample {
        let name = subject.map_or(DIRECT, |(peer, _)| peer.name);
        let start = |probe| {
            let (peer, program) = subject?;
            Some(Running::start(peer, program, &self.ground, scenario.needs, probe, interrupt))
        };
        let mut sample = match &scenario.act {
            Act::Start(window, probe) => {
                super::start::measure(&|| start(probe), *window, self.backend, interrupt)
            }
            Act::Through(measure) | Act::Of(measure) => match start(self.probe) {
                None => {
                    let address = self.ground.upstream;
                    let aim = Aim { subject: name, direct: true, address, pid: None, backend: self.backend };
                    measure(&aim, interrupt)
                }
                Some(Err(error)) => Sample::failed("", error),
                Some(Ok(mut running)) => {
                    let (address, pid) = (running.listen, Some(running.pid()));
                    let aim = Aim { subject: name, direct: false, address, pid, backend: self.backend };
                    let mut sample = measure(&aim, interrupt);
                    if let Some(how) = running.crashed() {
                        sample.failure = Some(how);
                    }
                    sample
                }
            },
        };
        sample.subject = name.into();
        sample.scenario.clone_from(&scenario.name);
        sample
    }
}

fn subject(peer: &Peer, program: Option<&PathBuf>, release: Option<String>) -> Subject {
    let settings = peer.settings.iter().map(|line| (line.setting.into(), line.reason.into()));
    Subject {
        name: peer.name.into(),
        program: program.cloned(),
        release,
        missing: program.is_none().then(|| format!("not installed; `{}`", peer.install)),
        settings: settings.collect(),
    }
}
