//! Public corpora of raw HTTP/1.1 against the built cred-proxy, beside nginx and HAProxy.
//!
//! Each case is sent to a server in front of a recording origin. The report says how it was
//! answered, how many requests reached the origin, and whether the oracle held: no byte of a token
//! at the client, no socket to another host, at most one well-formed request upstream per answer, and
//! the next clean request works. llhttp's answers are sent by the origin.

pub mod corpus;
pub mod grade;
pub mod origin;
pub mod replay;
pub mod servers;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use testbed::pki::Ca;

use corpus::{Case, Expected, Input};
use grade::{Grade, grade};
use replay::{Outcome, replay};
use servers::{Kind, Server};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The corpus cannot be read.
    #[error("could not read corpus `{}`: {what}", file.display())]
    Corpus {
        /// Which.
        file: PathBuf,
        /// Why.
        what: String,
    },
    /// A server cannot be started.
    #[error("could not start {name}: {what}")]
    Server {
        /// Which.
        name: &'static str,
        /// Why.
        what: String,
    },
    /// cred-proxy is not built.
    #[error("{} is missing: run `cargo xtask build`", .0.display())]
    NotBuilt(PathBuf),
    /// The report cannot be written.
    #[error("could not write the report")]
    Report(#[from] std::io::Error),
}

/// Replays a corpus; `true` when the oracle held and no scored case was answered worse than a peer's.
///
/// # Errors
///
/// The corpus cannot be read, or a server cannot be started.
pub async fn conformance(file: &Path, ours: &Path) -> Result<bool, ConformanceError> {
    if !ours.exists() {
        return Err(ConformanceError::NotBuilt(ours.to_path_buf()));
    }
    let cases = Arc::new(corpus::load(file)?);
    let ca = Arc::new(Ca::new());
    let kinds: Vec<_> =
        [Kind::Ours, Kind::Nginx, Kind::Haproxy].into_iter().filter(|kind| kind.is_installed()).collect();
    let mut lanes = tokio::task::JoinSet::new();
    let outcomes = Arc::new(Mutex::new(BTreeMap::new()));
    for kind in &kinds {
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..LANES {
            let server = Server::start(*kind, ours, &ca).await?;
            let (cases, next, outcomes) = (cases.clone(), next.clone(), outcomes.clone());
            lanes.spawn(async move {
                while let Some((n, case)) =
                    Some(next.fetch_add(1, Relaxed)).and_then(|n| Some((n, cases.get(n)?)))
                {
                    let outcome = replay(case, &server).await;
                    outcomes
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .insert((n, server.kind.name()), outcome);
                }
                server.stop().await;
            });
        }
    }
    while lanes.join_next().await.is_some() {}
    let outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(report(&cases, &kinds, &outcomes)?)
}

type Outcomes = BTreeMap<(usize, &'static str), Outcome>;

fn report(cases: &[Case], kinds: &[Kind], outcomes: &Outcomes) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    let mut tallies = vec![Tally::default(); kinds.len()];
    let (mut worse, mut broken) = (0, 0);
    for (n, case) in cases.iter().enumerate() {
        let graded: Vec<_> = kinds
            .iter()
            .map(|kind| {
                (kind, outcomes.get(&(n, kind.name())).map(|outcome| (outcome, grade(case, outcome))))
            })
            .filter_map(|(kind, graded)| Some((kind, graded?)))
            .collect();
        let ours = graded.iter().find(|(kind, _)| **kind == Kind::Ours).map(|(_, (_, grade))| *grade);
        let best = graded.iter().filter(|(kind, _)| **kind != Kind::Ours).map(|(_, (_, grade))| *grade).max();
        let is_worse = case.scored && ours.zip(best).is_some_and(|(ours, best)| ours < best);
        let deliberate = DELIBERATE.iter().find(|(id, _)| *id == case.id).map(|(_, why)| *why);
        worse += usize::from(is_worse && deliberate.is_none());
        match deliberate {
            Some(why) if is_worse => write!(out, "DELIBERATE ({why}) ")?,
            _ if is_worse => write!(out, "WORSE ")?,
            _ => {}
        }
        write!(out, "{} [{}]", case.id, wanted(case))?;
        for (kind, (outcome, grade)) in &graded {
            write!(out, "  {}: {grade:?} {}", kind.name(), told(outcome))?;
            if **kind == Kind::Ours && !outcome.broken.is_empty() {
                broken += 1;
                write!(out, " BROKEN: {}", outcome.broken.join("; "))?;
            }
        }
        writeln!(out)?;
        for (tally, kind) in tallies.iter_mut().zip(kinds) {
            if let Some(outcome) = outcomes.get(&(n, kind.name())) {
                tally.add(case, outcome);
            }
        }
    }
    writeln!(out, "\n|  | scored: pass | warn | fail | not scored: pass | warn | fail | oracle broken |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    for (tally, kind) in tallies.iter().zip(kinds) {
        let [[f, w, p], [nf, nw, np]] = tally.grades;
        writeln!(out, "| {} | {p} | {w} | {f} | {np} | {nw} | {nf} | {} |", kind.name(), tally.broken)?;
    }
    writeln!(out, "\n{} cases; worse than a peer: {worse}; oracle broken: {broken}", cases.len())?;
    Ok(worse == 0 && broken == 0)
}

#[derive(Debug, Clone, Default)]
struct Tally {
    /// Unscored behind scored, each from bad to good.
    grades: [[usize; 3]; 2],
    broken: usize,
}

impl Tally {
    fn add(&mut self, case: &Case, outcome: &Outcome) {
        let row = &mut self.grades[usize::from(!case.scored)];
        row[match grade(case, outcome) {
            Grade::Fail => 0,
            Grade::Warn => 1,
            Grade::Pass => 2,
        }] += 1;
        self.broken += usize::from(!outcome.broken.is_empty());
    }
}

fn wanted(case: &Case) -> String {
    let what = match &case.expected {
        Expected::Words(words) => words.clone(),
        Expected::Refusal(reason) => format!("refused: {reason}"),
        Expected::Acceptance => "accepted".to_owned(),
    };
    let who = if matches!(case.input, Input::Response(_)) { "answer " } else { "" };
    format!("{who}{what}{}", if case.scored { "" } else { ", not scored" })
}

fn told(outcome: &Outcome) -> String {
    let step = |step: &replay::Step| {
        let statuses: Vec<_> = step.statuses().iter().map(ToString::to_string).collect();
        let end = if step.closed { "closed" } else { "open" };
        format!("{} {end}", if statuses.is_empty() { "-".to_owned() } else { statuses.join("+") })
    };
    let steps: Vec<_> = outcome.steps.iter().map(step).collect();
    let complete = outcome.arrived.iter().filter(|arrived| arrived.complete).count();
    format!("({}; {complete}/{} upstream)", steps.join(", "), outcome.arrived.len())
}

/// Where cred-proxy answers otherwise on purpose.
const DELIBERATE: &[(&str, &str)] = &[("COMP-HTTP10-DEFAULT-CLOSE", "HTTP/1.0 is 505")];

/// Servers of each kind at once: most of a case is waiting.
const LANES: usize = 4;
