//! How long bottles take to launch, beside the floor: the same engine calls without a launcher.

mod calls;
mod direct;
mod figures;
mod launchers;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{Engine, EngineError};
use e2e::lone::Lone;
use e2e::scene::{SceneError, labelled};
use serde_json::Value;
use tokio::time::sleep;

use self::calls::Counted;
use self::direct::{Direct, DirectError, Images};
use self::figures::{Report, Sample, Subject};
use self::launchers::LaunchersError;
use crate::build::{self, Tree};
use crate::engine::{self, NoEngine, Running};
use crate::prerequisites::{self, Consent, PrerequisiteError};
use crate::process::{Interrupt, ProcessError};
use crate::story::Story;
use crate::tests::{TestsError, environment, scene_images};

/// How many bottles are launched at once.
const BOTTLES: [usize; 3] = [1, 6, 10];
/// Before each sample: the kernel removes network namespaces after the engine has responded, and the
/// next sample should not pay for them.
const SETTLE: Duration = Duration::from_secs(1);
/// How often what a failed sample left is removed before it is named.
const SWEEPS: usize = 5;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(500);

/// Why there are no figures, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Something is missing on this machine.
    #[error(transparent)]
    Prerequisite(#[from] PrerequisiteError),
    /// A program failed, or we were interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] NoEngine),
    /// The agent's image could not be made.
    #[error(transparent)]
    Images(#[from] TestsError),
    /// The engine refused.
    #[error(transparent)]
    Ask(#[from] EngineError),
    /// What an earlier run left could not be removed, or the engine not be asked what is left.
    #[error("could not clean up")]
    Clean(#[from] SceneError),
    /// The launcher does not print its images as expected.
    #[error("could not find the image of {0} in the output of `claude-bottle images digest`")]
    NoImage(&'static str),
    /// A file could not be read or written.
    #[error("could not use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system error.
        source: io::Error,
    },
    /// A launcher failed.
    #[error(transparent)]
    Launchers(#[from] LaunchersError),
    /// The direct calls failed.
    #[error("could not launch a bottle by direct calls")]
    Direct(#[from] DirectError),
    /// Something could not be removed.
    #[error("left behind: {}", .0.join(", "))]
    Left(Vec<String>),
}

/// Builds, measures, prints the tables, and keeps every sample in `target/bench/launch.json`.
///
/// # Errors
///
/// Something is missing, or failed, or we were interrupted. What was measured until then is printed and
/// kept; what was created is removed.
pub(super) async fn launch(
    tree: &Tree,
    rounds: u32,
    consent: Consent,
    story: &Story,
    interrupt: &Interrupt,
) -> Result<(), LaunchError> {
    prerequisites::for_building(tree, consent, interrupt).await?;
    prerequisites::for_launching(consent, interrupt).await?;
    build::everything(tree, interrupt).await?;
    story.took(story.lasted(), "built the sidecars and the launcher");
    let engine = engine::running(tree, consent, interrupt).await?;
    let measured = Box::pin(on_engine(tree, rounds, story, interrupt, &engine)).await;
    engine.end().await;
    measured
}

async fn on_engine(
    tree: &Tree,
    rounds: u32,
    story: &Story,
    interrupt: &Interrupt,
    engine: &Running,
) -> Result<(), LaunchError> {
    let images = scene_images(tree, story, interrupt, engine).await?;
    let docker = &engine.docker;
    e2e::sweep(docker).await?;
    let lone = Lone::new(&environment(tree, images.clone()), "bench");
    let direct = prepare(tree, docker, &lone, &images.agent, interrupt).await?;
    let bench = Bench { docker, lone: &lone, direct, rounds, story, interrupt };
    let mut report = Report::default();
    let measured = Box::pin(bench.measure(&mut report)).await;
    let cleared = bench.clear().await;
    story.line(format_args!("\n{}", report.tables().trim_end()));
    let path = tree.target.join("bench/launch.json");
    let text = serde_json::to_vec_pretty(&report).expect("numbers and names are JSON");
    let written =
        std::fs::create_dir_all(tree.target.join("bench")).and_then(|()| std::fs::write(&path, text));
    measured?;
    cleared?;
    written.map_err(|source| LaunchError::File { path: path.clone(), source })?;
    story.line(format_args!("every sample is in {}", path.display()));
    Ok(())
}

/// Loads the launcher's images, and prepares the direct calls with them.
async fn prepare(
    tree: &Tree,
    docker: &Docker,
    lone: &Lone,
    agent: &str,
    interrupt: &Interrupt,
) -> Result<Arc<Direct>, LaunchError> {
    let mut load = launchers::command(lone, &["-q", "images", "load"], None);
    interrupt.run(load.stdout(std::process::Stdio::null())).await?;
    let mut digest = launchers::command(lone, &["--format", "json", "images", "digest"], None);
    let digests = interrupt.or(digest.kill_on_drop(true).output()).await?;
    let digests = digests.map_err(|source| LaunchError::File { path: tree.launcher(), source })?;
    let digests: Value = serde_json::from_slice(&digests.stdout).unwrap_or_default();
    let id = async |name: &'static str| {
        let image = if name == AGENT { Some(agent) } else { image(&digests, name) };
        let found = docker.image(image.ok_or(LaunchError::NoImage(name))?).await?;
        found.map(|found| found.id).ok_or(LaunchError::NoImage(name))
    };
    let images = Images {
        agent: id(AGENT).await?,
        gate: id("ssh-gate").await?,
        proxy: id("cred-proxy").await?,
        guest: id("bottle-guest").await?,
    };
    let path = tree.sidecar("bottle-guest");
    let guest = std::fs::read(&path).map_err(|source| LaunchError::File { path, source })?;
    Ok(Arc::new(Direct::new(docker.url(), e2e::scene::run_name(), images, guest)?))
}

/// The agent's image, which the launcher does not carry.
const AGENT: &str = "the agent";

/// The name of a carried image.
fn image<'a>(digests: &'a Value, name: &str) -> Option<&'a str> {
    digests.as_array()?.iter().find(|image| image["name"] == name)?["image"].as_str()
}

/// What is measured, and with what.
struct Bench<'a> {
    docker: &'a Docker,
    lone: &'a Lone,
    direct: Arc<Direct>,
    rounds: u32,
    story: &'a Story,
    interrupt: &'a Interrupt,
}

impl Bench<'_> {
    async fn measure(&self, report: &mut Report) -> Result<(), LaunchError> {
        // It also warms up what the first launch after a while finds cold.
        self.count(report).await?;
        for round in 1..=self.rounds {
            for bottles in BOTTLES {
                for subject in [Subject::Launcher, Subject::Direct] {
                    let sample = self.sample(subject, bottles, round).await?;
                    self.story.line(format_args!(
                        "round {round} of {}, {bottles} at once, {}: launch {:.2} s, life {:.2} s",
                        self.rounds,
                        subject.name(),
                        sample.launch,
                        sample.life
                    ));
                    report.samples.push(sample);
                }
            }
            report.dry_runs.push(launchers::dry_run(self.lone, self.interrupt).await?.as_secs_f64());
        }
        report.complete = true;
        Ok(())
    }

    /// Counts the calls of one bottle, where a socket can be put in front of the engine.
    async fn count(&self, report: &mut Report) -> Result<(), LaunchError> {
        let counted = Counted::listen(&self.docker.url());
        let counted = counted.map_err(|source| LaunchError::File { path: std::env::temp_dir(), source })?;
        let Some(counted) = counted else { return Ok(()) };
        launchers::lives(self.lone, 1, Some(&counted.url()), self.interrupt).await?;
        report.calls.insert(Subject::Launcher, counted.take());
        Arc::new(self.direct.through(counted.url())).lives(1).await?;
        report.calls.insert(Subject::Direct, counted.take());
        Ok(())
    }

    async fn sample(&self, subject: Subject, bottles: usize, round: u32) -> Result<Sample, LaunchError> {
        self.interrupt.or(sleep(SETTLE)).await?;
        let lives = match subject {
            Subject::Launcher => launchers::lives(self.lone, bottles, None, self.interrupt).await?,
            // To their end even when interrupted: a call that is given up may still be carried out.
            Subject::Direct => self.direct.lives(bottles).await?,
        };
        Ok(Sample::of(subject, round, &lives))
    }

    /// Removes what failed samples left: after good ones there is nothing.
    async fn clear(&self) -> Result<(), LaunchError> {
        let labels = [self.direct.label(), self.lone.label()];
        let mut left = Vec::new();
        for sweep in 0..SWEEPS {
            if sweep > 0 {
                sleep(PAUSE).await;
            }
            left.clear();
            for label in &labels {
                self.remove(label).await;
                left.extend(labelled(self.docker, label).await?);
            }
            if left.is_empty() {
                return Ok(());
            }
        }
        Err(LaunchError::Left(left))
    }

    /// Removes all with a label, as far as the engine lets us: what resists is looked for afterwards.
    async fn remove(&self, label: &str) {
        for container in self.docker.containers(Some(label)).await.unwrap_or_default() {
            let _ = self.docker.remove_container(&container.id).await;
        }
        for network in self.docker.networks(Some(label)).await.unwrap_or_default() {
            let _ = self.docker.remove_network(&network.id).await;
        }
    }
}
