//! A bottle from a fresh clone to "nothing left", told step by step.

mod agent;
mod attempts;
mod host;

use std::io;

use claude_bottle::engine::{Engine, EngineError, ExecSpec};
use e2e::Scene;
use e2e::scene::{REPOSITORY, SceneError, labelled};

use crate::build::{self, Tree};
use crate::engine::{self, NoEngine, Running};
use crate::prerequisites::{self, Consent, PrerequisiteError};
use crate::process::{Interrupt, ProcessError};
use crate::story::Story;
use crate::tests::{TestsError, scene_images};
use agent::{Agent, Run};

/// Why the demo did not come to its good end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Something is missing on this machine.
    #[error(transparent)]
    Prerequisite(#[from] PrerequisiteError),
    /// A program failed, or we were interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] NoEngine),
    /// The images could not be made.
    #[error(transparent)]
    Images(#[from] TestsError),
    /// The hosts could not be started or removed.
    #[error("could not set the scene")]
    Scene(#[from] SceneError),
    /// The engine would not say what it has.
    #[error("could not ask the engine")]
    Ask(#[from] EngineError),
    /// A listener on this machine could not be opened.
    #[error("could not listen on this machine")]
    Listen(#[source] io::Error),
    /// What the launcher said could not be read.
    #[error("could not read what the launcher said")]
    Read(#[source] io::Error),
    /// Something was not as it must be.
    #[error("not as expected: {}", surprises.join("; "))]
    Surprise {
        /// What.
        surprises: Vec<String>,
    },
}

/// Builds, launches, shows and removes.
///
/// # Errors
///
/// Anything that was not as expected; what was created is removed all the same.
pub async fn demo(
    tree: &Tree,
    consent: Consent,
    story: &Story,
    interrupt: &Interrupt,
) -> Result<(), DemoError> {
    prerequisites::for_building(tree, consent, interrupt).await?;
    story.heading("Before");
    let step = story.step();
    build::everything(tree, interrupt).await?;
    step.done("built the sidecars, and the launcher that carries them");
    let step = story.step();
    let engine = engine::running(tree, consent, interrupt).await?;
    let how =
        if engine.was_started() { "started the container engine" } else { "found the container engine" };
    step.done(format_args!("{how}, {}", engine.info.version));
    let played = Box::pin(on_engine(tree, story, interrupt, &engine)).await;
    engine.end().await;
    played
}

async fn on_engine(
    tree: &Tree,
    story: &Story,
    interrupt: &Interrupt,
    engine: &Running,
) -> Result<(), DemoError> {
    let images = scene_images(tree, story, interrupt, engine).await?;
    e2e::sweep(&engine.docker).await?;
    let step = story.step();
    // To its end even when interrupted, so that there is a scene to remove.
    let scene = Box::pin(Scene::start(&engine.docker, &images)).await?;
    let (git, api) = (&scene.git_hosts[0].name, &scene.api.name);
    step.done(format_args!("started {git} and {api} on a network of their own, {}", scene.network.name));

    let played = Box::pin(play(tree, story, interrupt, engine, &scene)).await;
    story.heading("After");
    let step = story.step();
    let scene_label = format!("{}={}", e2e::scene::LABEL, scene.run);
    let removed = scene.remove(&engine.docker).await;
    let (run, mut surprises) = match played {
        Ok(played) => played,
        Err(error) => {
            if let Ok(removed) = removed {
                step.done(format_args!(
                    "removed: {} containers, {} networks",
                    removed.containers, removed.networks
                ));
            }
            return Err(error);
        }
    };
    let removed = removed?;
    let mut left = labelled(&engine.docker, &scene_label).await?;
    left.extend(labelled(&engine.docker, &run.label).await?);
    surprises.extend(left.iter().map(|name| format!("{name} is left")));
    let (containers, networks) = (removed.containers + run.containers, removed.networks + run.networks);
    let end = if left.is_empty() { "nothing left".to_owned() } else { format!("{} left", left.join(", ")) };
    step.done(format_args!("removed: {containers} containers, {networks} networks, {end}"));
    story.took(story.lasted(), "in all");
    if surprises.is_empty() { Ok(()) } else { Err(DemoError::Surprise { surprises }) }
}

async fn play(
    tree: &Tree,
    story: &Story,
    interrupt: &Interrupt,
    engine: &Running,
    scene: &Scene,
) -> Result<(Run, Vec<String>), DemoError> {
    let manifest = scene.write_manifest(&scene.manifest())?;
    let host = host::Host::listen().await.map_err(DemoError::Listen)?;
    let agent = Agent { launcher: tree.launcher(), manifest, scene, host_port: host.port, engine };

    story.heading("The bottle");
    let run = Box::pin(agent.run(story, interrupt)).await?;
    story.heading("What the agent could reach, and what not (tried from inside)");
    let mut surprises = attempts::table(story, &run.attempts);
    if host.connections() > 0 {
        surprises.push("something connected to this machine".to_owned());
    }
    let last = last_commit(engine, scene).await?;
    story.line("");
    if last == agent::COMMIT {
        story.line(format_args!("  The git host's last commit is now \"{last}\"."));
    } else {
        surprises.push(format!("the git host's last commit is \"{last}\""));
    }
    if run.code != 0 {
        surprises.push(format!("claude-bottle ended with {}", run.code));
    }
    Ok((run, surprises))
}

/// The subject of the last commit that the git host has.
async fn last_commit(engine: &Running, scene: &Scene) -> Result<String, DemoError> {
    let folder = format!("/home/git/{REPOSITORY}");
    let command =
        ["git", "--git-dir", &folder, "log", "-1", "--format=%s", "main"].map(str::to_owned).to_vec();
    let spec = ExecSpec { command, user: Some("git".to_owned()), output: true, ..ExecSpec::default() };
    let exec = engine.docker.exec(&scene.git_hosts[0].container, &spec).await?;
    let streams = exec.streams.ok_or_else(|| DemoError::Read(io::ErrorKind::NotConnected.into()))?;
    Ok(agent::text(streams.output).await?.trim().to_owned())
}
