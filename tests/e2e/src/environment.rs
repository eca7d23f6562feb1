//! What the end-to-end tests were handed by `cargo xtask test`.

use std::path::PathBuf;

use crate::images::SceneImages;

/// The launcher to test.
pub const BIN: &str = "CLAUDE_BOTTLE_BIN";
/// The folder of the sidecars that the launcher carries, `target/<arch>-unknown-linux-musl/release`.
pub const SIDECAR_DIR: &str = "CLAUDE_BOTTLE_SIDECAR_DIR";
/// The image of the agent.
pub const AGENT_IMAGE: &str = "CLAUDE_BOTTLE_E2E_AGENT_IMAGE";
/// The image of the git hosts.
pub const HOST_IMAGE: &str = "CLAUDE_BOTTLE_E2E_HOST_IMAGE";
/// The image of the API.
pub const API_IMAGE: &str = "CLAUDE_BOTTLE_E2E_API_IMAGE";

/// The built things that an end-to-end test runs.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The launcher.
    pub bin: PathBuf,
    /// The folder of the built sidecars.
    pub sidecars: PathBuf,
    /// The images of the scene, in the engine.
    pub images: SceneImages,
}

/// A variable that only `cargo xtask test` sets is not set.
#[derive(Debug, thiserror::Error)]
#[error(
    "{variable} is not set: the end-to-end tests need the built programs and images; run `cargo xtask test`"
)]
pub struct NotPrepared {
    variable: &'static str,
}

/// What `cargo xtask test` built.
///
/// # Errors
///
/// A variable is not set: the tests were started in another way.
pub fn environment() -> Result<Environment, NotPrepared> {
    Ok(Environment {
        bin: PathBuf::from(variable(BIN)?),
        sidecars: PathBuf::from(variable(SIDECAR_DIR)?),
        images: SceneImages {
            agent: variable(AGENT_IMAGE)?,
            host: variable(HOST_IMAGE)?,
            api: variable(API_IMAGE)?,
        },
    })
}

impl Environment {
    /// The variables that [`environment`] reads, for the process that runs the tests.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        [
            (BIN, self.bin.display().to_string()),
            (SIDECAR_DIR, self.sidecars.display().to_string()),
            (AGENT_IMAGE, self.images.agent.clone()),
            (HOST_IMAGE, self.images.host.clone()),
            (API_IMAGE, self.images.api.clone()),
        ]
    }
}

fn variable(variable: &'static str) -> Result<String, NotPrepared> {
    std::env::var(variable).ok().filter(|value| !value.is_empty()).ok_or(NotPrepared { variable })
}
