//! Images that need no registry: built in memory, the same bytes every time, and loaded by an id
//! that is known beforehand.
//!
//! [`ImageSpec::build`] makes an archive that is a docker-archive and an OCI layout at once, which
//! Docker 20.10, newer Dockers with either image store, and podman all load. [`Sidecar`] finds the
//! binaries that go into the launcher's own images.

mod archive;
mod elf;
mod layer;
mod sidecars;
mod spec;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::archive::Pieces;
pub use self::elf::is_static;
pub use self::layer::Layer;
pub use self::sidecars::{Binary, Sidecar, Source};
pub use self::spec::{Healthcheck, ImageSpec};
use crate::engine::{Engine, EngineError};

/// An image, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// `sha256:...` of the configuration: the image's id, except with the containerd store.
    pub config_digest: String,
    /// `sha256:...` of the OCI manifest: the image's id with the containerd store.
    pub manifest_digest: String,
    /// Its name with its tag, which holds the first 12 digits of `config_digest`.
    pub tag: String,
    pub(crate) pieces: Arc<Pieces>,
}

impl BuiltImage {
    /// What `docker load` takes: a copy, which most launches do not need.
    pub fn archive(&self) -> Bytes {
        archive::archive(std::slice::from_ref(&*self.pieces))
    }

    /// Whether an engine's id is this image's.
    pub(crate) fn is(&self, id: &str) -> bool {
        id == self.config_digest || id == self.manifest_digest
    }
}

/// Loads the image unless the engine has it, and returns the id to create containers by.
///
/// # Security
///
/// Only the two ids that follow from the archive's bytes are accepted: an image of the same name
/// that came from elsewhere is never used.
///
/// # Errors
///
/// [`ImagesError::Foreign`] when the engine has something else under the image's name after
/// loading; [`ImagesError::Engine`] when it could not be asked or refused.
pub async fn ensure_loaded(engine: &impl Engine, built: &BuiltImage) -> Result<String, ImagesError> {
    for id in [&built.config_digest, &built.manifest_digest] {
        match engine.image(id).await? {
            Some(image) if built.is(&image.id) => return Ok(image.id),
            _ => {}
        }
    }
    engine.load_image(built.archive()).await?;
    match engine.image(&built.tag).await? {
        Some(image) if built.is(&image.id) => Ok(image.id),
        found => Err(ImagesError::Foreign {
            tag: built.tag.clone(),
            expected: built.config_digest.clone(),
            found: found.map_or_else(|| "nothing".to_owned(), |image| image.id),
        }),
    }
}

/// Why an image could not be made or loaded.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// No such sidecar exists.
    #[error("expected one of ssh-gate, cred-proxy and bottle-guest, found {name:?}")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The launcher does not carry the binary, and it lies nowhere it may lie.
    #[error("could not find the sidecar {name} for {arch}: not embedded, and no static binary at {}", places(.tried))]
    Missing {
        /// The sidecar.
        name: &'static str,
        /// The architecture, in Rust's words.
        arch: String,
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The engine did not do as asked.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// After loading, the image's name leads elsewhere.
    #[error("loaded the image {tag} as {expected}, but the engine has {found} under that name")]
    Foreign {
        /// The name.
        tag: String,
        /// The id that follows from the bytes.
        expected: String,
        /// The id that the engine told.
        found: String,
    },
}

impl ImagesError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            ImagesError::Unknown { .. } => None,
            ImagesError::Missing { .. } => {
                Some("build the launcher with `cargo xtask build`, which embeds the sidecars".to_owned())
            }
            ImagesError::Engine(error) => error.hint(),
            ImagesError::Foreign { tag, .. } => Some(format!("remove that image with `docker rmi {tag}`")),
        }
    }
}

fn places(tried: &[PathBuf]) -> String {
    tried.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" or ")
}
