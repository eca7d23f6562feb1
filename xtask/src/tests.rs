//! Every test of the project: unit, integration, and end to end on a real engine.

use std::io::Write;
use std::process::{ExitCode, Stdio};

use e2e::Environment;
use e2e::images::{ImagesError, SceneImages, Sources};
use tokio::process::Command;

use crate::build::{self, Tree};
use crate::engine::{self, NoEngine, Running};
use crate::prerequisites::{self, Consent, PrerequisiteError};
use crate::process::{Interrupt, ProcessError};
use crate::python::{self, PythonError};
use crate::story::Story;

/// Why the tests could not be run.
#[derive(Debug, thiserror::Error)]
pub enum TestsError {
    /// Something is missing on this machine.
    #[error(transparent)]
    Prerequisite(#[from] PrerequisiteError),
    /// The Python packages of the tests are missing.
    #[error(transparent)]
    Python(#[from] PythonError),
    /// A program could not be run, or we were interrupted.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] NoEngine),
    /// The images of the scene could not be made.
    #[error("could not make the images of the scene")]
    Images(#[from] ImagesError),
    /// What a killed run left could not be removed.
    #[error("could not remove what an earlier run left")]
    Sweep(#[from] e2e::scene::SceneError),
}

/// Builds everything, and runs the tests, with `arguments` for their runner.
///
/// # Errors
///
/// The tests could not be run; a failed one is a code that is not 0.
pub async fn tests(
    tree: &Tree,
    consent: Consent,
    arguments: &[String],
    story: &Story,
    interrupt: &Interrupt,
) -> Result<ExitCode, TestsError> {
    prerequisites::for_building(tree, consent, interrupt).await?;
    prerequisites::for_testing(consent, interrupt).await?;
    python::environment(tree, consent, interrupt).await?;
    build::everything(tree, interrupt).await?;
    story.took(story.lasted(), "built the sidecars, the launcher and the scene's API");
    let engine = engine::running(tree, consent, interrupt).await?;
    let ended = Box::pin(on_engine(tree, arguments, story, interrupt, &engine)).await;
    engine.end().await;
    ended
}

async fn on_engine(
    tree: &Tree,
    arguments: &[String],
    story: &Story,
    interrupt: &Interrupt,
    engine: &Running,
) -> Result<ExitCode, TestsError> {
    let images = scene_images(tree, story, interrupt, engine).await?;
    let environment = environment(tree, images);
    let swept = e2e::sweep(&engine.docker).await?;
    if swept != e2e::scene::Removed::default() {
        story.line(format_args!(
            "removed what an earlier run left: {} containers, {} networks",
            swept.containers, swept.networks
        ));
    }
    let mut runs = vec![runner(tree, arguments, interrupt).await?];
    if arguments.is_empty() {
        // Which nextest does not run.
        let mut doc = tree.cargo(&["test"]);
        doc.args(["--workspace", "--doc"]);
        runs.push(doc);
    }
    let mut code = ExitCode::SUCCESS;
    for mut run in runs {
        let status = interrupt.status(run.envs(environment.variables())).await?;
        if !status.success() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Prints the variables that the end-to-end tests read, for a shell, so that one test can be run
/// by itself. First builds what they name from the current sources; cargo prints its progress on stderr.
///
/// # Errors
///
/// The programs or the images could not be made.
pub async fn variables(tree: &Tree, consent: Consent, interrupt: &Interrupt) -> Result<(), TestsError> {
    prerequisites::for_building(tree, consent, interrupt).await?;
    build::everything(tree, interrupt).await?;
    let engine = engine::running(tree, consent, interrupt).await?;
    let images = images(tree, interrupt, &engine).await;
    engine.end().await;
    for (name, value) in environment(tree, images?).variables() {
        // Whoever closed our stdout wants no more lines.
        let _ = writeln!(std::io::stdout(), "export {name}='{value}'");
    }
    Ok(())
}

/// The images of the scene, made unless the engine has them, and told as a step.
///
/// # Errors
///
/// They could not be made, or we were interrupted.
pub async fn scene_images(
    tree: &Tree,
    story: &Story,
    interrupt: &Interrupt,
    engine: &Running,
) -> Result<SceneImages, TestsError> {
    let step = story.step();
    let images = images(tree, interrupt, engine).await?;
    let made = if e2e::debian::is_debian() {
        "straight from Debian packages"
    } else {
        "from images/agent/Dockerfile"
    };
    step.done(format_args!("the engine has the images of the agent and of the hosts, {made}"));
    Ok(images)
}

async fn images(tree: &Tree, interrupt: &Interrupt, engine: &Running) -> Result<SceneImages, TestsError> {
    let sources = Sources {
        cache: tree.target.join("debian"),
        dockerfile: tree.root.join("images/agent"),
        demo_api: tree.sidecar("demo-api"),
    };
    Ok(interrupt.or(Box::pin(e2e::images::ensure(&engine.docker, &sources))).await??)
}

/// What was built, for the tests and for a launcher.
pub(crate) fn environment(tree: &Tree, images: SceneImages) -> Environment {
    Environment { bin: tree.launcher(), sidecars: tree.sidecar_folder(), images }
}

/// nextest where it is installed, else `cargo test`.
async fn runner(tree: &Tree, arguments: &[String], interrupt: &Interrupt) -> Result<Command, TestsError> {
    let mut asked = tree.cargo(&["nextest", "--version"]);
    let asked = asked.stdout(Stdio::null()).stderr(Stdio::null());
    let mut command = if interrupt.status(asked).await?.success() {
        tree.cargo(&["nextest", "run"])
    } else {
        let mut command = tree.cargo(&["test"]);
        command.args(["--lib", "--bins", "--tests"]);
        command
    };
    let narrowed =
        arguments.iter().any(|argument| argument.starts_with("-p") || argument.starts_with("--package"));
    if !narrowed {
        command.arg("--workspace");
    }
    command.args(arguments);
    Ok(command)
}
