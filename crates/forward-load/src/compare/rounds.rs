//! The rounds of a comparison.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::running::Ground;
use super::{DIRECT, Peer, Running};
use crate::interrupt::Interrupt;
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

/// Something that is measured through every forwarder.
pub struct Scenario<'a> {
    /// What the sample will be called.
    pub name: String,
    /// Measures it once. Errors of single connections are in the sample, and so is a failure.
    pub measure: Box<Measure<'a>>,
}

impl fmt::Debug for Scenario<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario").field("name", &self.name).finish_non_exhaustive()
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
    pub probe: &'a dyn Fn(SocketAddr) -> Result<(), String>,
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
        report.subjects.extend(self.peers.iter().map(|(peer, program)| subject(peer, program.as_ref())));
        let mut subjects: Vec<Option<(&Peer, &PathBuf)>> = vec![None];
        subjects
            .extend(self.peers.iter().filter_map(|(peer, program)| Some(Some((*peer, program.as_ref()?)))));
        file.write(report)?;
        for round in 1..=self.rounds {
            for scenario in &self.scenarios {
                for turn in 0..subjects.len() {
                    let at = (turn + round as usize - 1) % subjects.len();
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

    fn once(
        &self,
        subject: Option<(&Peer, &PathBuf)>,
        scenario: &Scenario<'_>,
        interrupt: &Interrupt,
    ) -> Sample {
        let name = subject.map_or(DIRECT, |(peer, _)| peer.name);
        let mut sample = match subject {
            None => {
                let address = self.ground.upstream;
                let aim = Aim { subject: name, direct: true, address, pid: None, backend: self.backend };
                (scenario.measure)(&aim, interrupt)
            }
            Some((peer, program)) => {
                match Running::start(peer, program, &self.ground, self.probe, interrupt) {
                    Err(error) => Sample::failed("", error),
                    Ok(mut running) => {
                        let (address, pid) = (running.listen, Some(running.pid()));
                        let aim = Aim { subject: name, direct: false, address, pid, backend: self.backend };
                        let mut sample = (scenario.measure)(&aim, interrupt);
                        if let Some(how) = running.crashed() {
                            sample.failure = Some(how);
                        }
                        sample
                    }
                }
            }
        };
        sample.subject = name.into();
        sample.scenario.clone_from(&scenario.name);
        sample
    }
}

fn subject(peer: &Peer, program: Option<&PathBuf>) -> Subject {
    let settings = peer.settings.iter().map(|line| (line.setting.into(), line.reason.into()));
    Subject {
        name: peer.name.into(),
        program: program.cloned(),
        release: program.and_then(|program| peer.says(program)),
        missing: program.is_none().then(|| format!("not installed; `{}`", peer.install)),
        settings: settings.collect(),
    }
}
