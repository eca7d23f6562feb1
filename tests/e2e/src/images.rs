//! The images of the scene: the agent's, the git hosts', the API's. Made here, from no registry.
//!
//! On a Debian host the first two are made of Debian packages; elsewhere of `images/agent/Dockerfile`.
//! They are called `localhost/claude-bottle/demo-<name>`, which can be pulled from nowhere.

mod recipe;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use claude_bottle::engine::{Engine, EngineError};
use claude_bottle::images::{ImageSpec, Layer, ensure_loaded};
use sha2::{Digest, Sha256};

use crate::debian::layer::{ROOT, Tree};
use crate::debian::{self, Apt, DebianError};

/// The names of the scene's images, by which the engine has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SceneImages {
    /// The agent: bash, git, curl, OpenSSH's client, and a user `node`.
    pub agent: String,
    /// A git host: the agent's image with OpenSSH's server and a user `git`.
    pub host: String,
    /// The API: `demo-api` and nothing else.
    pub api: String,
}

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The engine could not be asked.
    #[error("could not look for {name}")]
    Look {
        /// The image.
        name: String,
        /// What the engine said.
        source: EngineError,
    },
    /// The engine did not take an image.
    #[error("could not load {name}")]
    Load {
        /// The image.
        name: String,
        /// What the engine said.
        source: claude_bottle::images::ImagesError,
    },
    /// The packages could not be had.
    #[error("could not make an image of Debian packages")]
    Debian(#[from] DebianError),
    /// A file could not be read or written.
    #[error("could not use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `docker build` could not be run.
    #[error("could not run `docker build`, which is needed where there is no apt-get and dpkg-deb")]
    RunBuild(#[source] io::Error),
    /// `docker build` failed, and has said why.
    #[error("`docker build` of {name} failed")]
    Build {
        /// The image.
        name: String,
    },
}

/// What the images are made of.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Where packages are kept for the next time.
    pub cache: PathBuf,
    /// The folder of the agent's Dockerfile.
    pub dockerfile: PathBuf,
    /// The static binary of the API.
    pub demo_api: PathBuf,
}

/// Sees to it that the engine has the images, and returns their names.
///
/// # Errors
///
/// The packages could not be fetched, or the engine refused.
pub async fn ensure<E: Engine>(engine: &E, sources: &Sources) -> Result<SceneImages, ImagesError> {
    let api = ensure_api(engine, &sources.demo_api).await?;
    let (agent, host) = if debian::is_debian() {
        ensure_from_packages(engine, &sources.cache).await?
    } else {
        (build(&sources.dockerfile, "agent").await?, build(&sources.dockerfile, "host").await?)
    };
    Ok(SceneImages { agent, host, api })
}

async fn ensure_from_packages<E: Engine>(engine: &E, cache: &Path) -> Result<(String, String), ImagesError> {
    // What was made of these packages the last time, so that neither apt nor a mirror is asked again.
    let all = [recipe::AGENT_PACKAGES, recipe::HOST_PACKAGES].concat();
    let note = cache.join(format!("made-of-{}", made_of(&all)));
    let made = fs::read_to_string(&note).unwrap_or_default();
    if let Some((agent, host)) = made.split_once(' ')
        && has(engine, agent).await?
        && has(engine, host).await?
    {
        return Ok((agent.to_owned(), host.to_owned()));
    }
    let apt = Apt::new(cache)?;
    let for_agent = apt.fetch(recipe::AGENT_PACKAGES)?;
    let for_host = apt.fetch(&all)?;
    let added: Vec<PathBuf> = for_host.into_iter().filter(|deb| !for_agent.contains(deb)).collect();
    let lower = Layer(recipe::agent(&for_agent)?.to_layer()?.into());
    let upper = Layer(recipe::host(&added)?.to_layer()?.into());
    let command = vec!["sleep".to_owned(), "infinity".to_owned()];
    let agent = ImageSpec {
        user: Some("node".to_owned()),
        working_dir: Some("/home/node".to_owned()),
        command: command.clone(),
        layers: vec![lower.clone()],
        ..spec("agent")
    };
    let host = ImageSpec { command, layers: vec![lower, upper], ..spec("host") };
    let (agent, host) = (load(engine, &agent).await?, load(engine, &host).await?);
    fs::write(&note, format!("{agent} {host}")).map_err(using(&note))?;
    Ok((agent, host))
}

async fn ensure_api<E: Engine>(engine: &E, binary: &Path) -> Result<String, ImagesError> {
    let mut tree = Tree::default();
    tree.file("demo-api", 0o755, ROOT, fs::read(binary).map_err(using(binary))?);
    let layers = vec![Layer(tree.to_layer()?.into())];
    load(engine, &ImageSpec { entrypoint: vec!["/demo-api".to_owned()], layers, ..spec("api") }).await
}

fn spec(image: &str) -> ImageSpec {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ImageSpec {
        name: format!("{PREFIX}{image}"),
        arch: std::env::consts::ARCH.to_owned(),
        env: BTreeMap::from([("PATH".to_owned(), path.to_owned())]),
        ..ImageSpec::default()
    }
}

async fn load<E: Engine>(engine: &E, image: &ImageSpec) -> Result<String, ImagesError> {
    let built = image.build();
    ensure_loaded(engine, &built)
        .await
        .map_err(|source| ImagesError::Load { name: built.tag.clone(), source })?;
    Ok(built.tag)
}

async fn has<E: Engine>(engine: &E, name: &str) -> Result<bool, ImagesError> {
    let found = engine.image(name).await;
    Ok(found.map_err(|source| ImagesError::Look { name: name.to_owned(), source })?.is_some())
}

/// Builds one stage of the agent's Dockerfile, by the docker CLI and with what it can pull.
async fn build(dockerfile: &Path, stage: &str) -> Result<String, ImagesError> {
    let name = format!("{PREFIX}{stage}:demo");
    let status = tokio::process::Command::new("docker")
        .args(["build", "--quiet", "--target", stage, "--tag", &name])
        .arg(dockerfile)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .await
        .map_err(ImagesError::RunBuild)?;
    if status.success() { Ok(name) } else { Err(ImagesError::Build { name }) }
}

/// What every image of the scene is called by; nothing of that name can be pulled from anywhere.
const PREFIX: &str = "localhost/claude-bottle/demo-";

/// A digest of the packages' names and of what is done with them.
fn made_of(packages: &[&str]) -> String {
    let mut digest = Sha256::new();
    for source in
        [include_str!("debian/layer.rs"), include_str!("images/recipe.rs"), include_str!("images.rs")]
    {
        digest.update(source);
    }
    digest.update(packages.join(" "));
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn using(path: &Path) -> impl FnOnce(io::Error) -> ImagesError {
    let path = path.to_path_buf();
    move |source| ImagesError::File { path, source }
}
