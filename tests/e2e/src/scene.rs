//! Hosts on a network of their own, and the manifest of a bottle that may use them.
//!
//! A scene belongs to one run: its objects carry [`LABEL`] with the run's name, and are removed by
//! [`Scene::remove`]. Nothing is removed on drop, since that cannot wait for the engine; a scene
//! whose process is gone is [`sweep`]'s.

mod api;
mod container;
mod git_host;
mod manifest;
mod network;
mod run;
mod teardown;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use claude_bottle::engine::{Engine, EngineError};
use tempfile::TempDir;

pub use api::Api;
pub use git_host::{GitHost, REPOSITORY};
pub use network::SceneNetwork;
pub use run::name as run_name;
pub use teardown::{Removed, labelled, sweep};

use crate::images::SceneImages;
use container::Part;

/// The label of everything that a scene creates; its value names the run.
pub const LABEL: &str = "claude-bottle.scene";

/// The name of the first git host.
pub const GIT: &str = "git.demo.internal";

/// The name of the API.
pub const API: &str = "api.demo.internal";

/// The variable from which the manifest has the API's token.
pub const TOKEN_ENV: &str = "DEMO_API_TOKEN";

/// A running scene.
#[derive(Debug)]
pub struct Scene {
    /// What its objects are labelled with.
    pub run: String,
    /// Its network.
    pub network: SceneNetwork,
    /// Its git hosts: [`GIT`], then what was added.
    pub git_hosts: Vec<GitHost>,
    /// Its API.
    pub api: Api,
    images: SceneImages,
    folder: TempDir,
}

/// Why a scene could not be set up or removed.
#[derive(Debug, thiserror::Error)]
pub enum SceneError {
    /// The engine refused.
    #[error("could not {act}")]
    Engine {
        /// What was asked of it.
        act: String,
        /// What it said.
        source: EngineError,
    },
    /// No subnet of 10.213.0.0/16 is free.
    #[error("could not find a free subnet for the scene in 10.213.0.0/16")]
    NoSubnet,
    /// An image is not in the engine.
    #[error("the engine has no image `{name}`; run `cargo xtask test` or `cargo xtask demo`")]
    ImageMissing {
        /// Its name.
        name: String,
    },
    /// A host could not be told its certificate and token.
    #[error("could not write to the stdin of {name}")]
    Tell {
        /// The host.
        name: String,
        /// What the connection said.
        source: io::Error,
    },
    /// A host ended, or did not say in time that it accepts connections.
    #[error("{name} did not become ready; it said: {said}")]
    NotReady {
        /// The host.
        name: String,
        /// The end of its output.
        said: String,
    },
    /// A git host made no key.
    #[error("the git host made no `{path}`")]
    KeyMissing {
        /// The key's place.
        path: String,
    },
    /// A file of the scene could not be written or read.
    #[error("could not use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SceneError {
    fn engine(act: &str) -> impl FnOnce(EngineError) -> Self {
        let act = act.to_owned();
        move |source| Self::Engine { act, source }
    }
}

impl Scene {
    /// Starts a git host and the API. What was created is removed again when a step fails.
    ///
    /// # Errors
    ///
    /// The engine refused a step, or a host did not become ready.
    pub async fn start<E: Engine>(engine: &E, images: &SceneImages) -> Result<Self, SceneError> {
        let run = run::name();
        let set_up = Box::pin(Self::set_up(engine, images, &run)).await;
        if set_up.is_err() {
            // The first failure is the one to tell.
            let _ = teardown::remove(engine, &run).await;
        }
        set_up
    }

    async fn set_up<E: Engine>(engine: &E, images: &SceneImages, run: &str) -> Result<Self, SceneError> {
        let folder =
            tempfile::tempdir().map_err(|source| SceneError::File { path: std::env::temp_dir(), source })?;
        let (host, api) = tokio::try_join!(image(engine, &images.host), image(engine, &images.api))?;
        let network = network::create(engine, run).await?;
        let part = |name, image, n| Part { run, image, name, network: &network.id, address: network.host(n) };
        let (git, api) = tokio::try_join!(
            git_host::start(engine, part(GIT, &host, 0), folder.path()),
            api::start(engine, part(API, &api, 1), token()?),
        )?;
        let (run, images) = (run.to_owned(), images.clone());
        Ok(Self { run, network, git_hosts: vec![git], api, images, folder })
    }

    /// Starts another git host with keys of its own, and returns it.
    ///
    /// # Errors
    ///
    /// As [`Scene::start`].
    pub async fn add_git_host<E: Engine>(&mut self, engine: &E, name: &str) -> Result<&GitHost, SceneError> {
        let image = image(engine, &self.images.host).await?;
        // After the first git host and the API.
        let n = u8::try_from(self.git_hosts.len() + 1).expect("a scene has a handful of hosts");
        let address = self.network.host(n);
        let part = Part { run: &self.run, image: &image, name, network: &self.network.id, address };
        let host = git_host::start(engine, part, self.folder.path()).await?;
        self.git_hosts.push(host);
        Ok(self.git_hosts.last().expect("one was just added"))
    }

    /// The folder of the scene's keys and manifests, which goes when the scene does.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Removes the containers and the network; what is already gone is fine.
    ///
    /// # Errors
    ///
    /// The engine refused: a container that is not the scene's is still on its network, say.
    pub async fn remove<E: Engine>(self, engine: &E) -> Result<Removed, SceneError> {
        teardown::remove(engine, &self.run).await
    }
}

/// The id of an image that must be there.
async fn image<E: Engine>(engine: &E, name: &str) -> Result<String, SceneError> {
    let found = engine.image(name).await.map_err(SceneError::engine("look for the images of the scene"))?;
    found.map(|image| image.id).ok_or_else(|| SceneError::ImageMissing { name: name.to_owned() })
}

/// A token that nobody else has, easy to find where it should not be.
fn token() -> Result<String, SceneError> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    std::fs::File::open(source)
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|cause| SceneError::File { path: source.to_path_buf(), source: cause })?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("demo-token-{digits}"))
}
