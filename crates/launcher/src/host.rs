//! What a plan must know of this machine and its engine, asked once, so that planning itself is silent.

pub(crate) mod settings;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::engine::{Engine, EngineError, EngineInfo, Image, Network};
use crate::host::settings::Settings;
use crate::images::{BuiltImage, ImagesError, Sidecar};
use crate::manifest::{Bottle, TokenRef};

/// The facts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// The engine, when one answers.
    pub engine: Option<EngineInfo>,
    /// The agent's image, when the engine has it.
    pub image: Option<Image>,
    /// Names of containers and networks that are in use.
    pub taken: BTreeSet<String>,
    /// The launcher's own images for the engine's architecture, by the name of their binary.
    pub images: BTreeMap<&'static str, BuiltImage>,
    /// The guest's binary for the agent's container.
    pub guest: Bytes,
    /// The network that the manifest names as `egress_network`, when the engine has it.
    pub egress_network: Option<Network>,
    /// The tokens that are there to be read.
    pub present: BTreeSet<String>,
}

/// Why the facts could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// The engine did not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The launcher lacks a sidecar.
    #[error(transparent)]
    Images(#[from] ImagesError),
}

/// The name that the plan gives the agent's image by default.
pub(crate) const DEFAULT_IMAGE: &str = "claude-bottle:latest";

/// The image's name: of the environment, else of the manifest, else the default.
pub(crate) fn image_name(settings: &Settings, bottle: &Bottle) -> String {
    settings.image.clone().or_else(|| bottle.image.clone()).unwrap_or_else(|| DEFAULT_IMAGE.to_owned())
}

impl Host {
    /// Asks the engine, if there is one, and this machine.
    ///
    /// # Errors
    /// [`HostError`].
    pub(crate) async fn survey(
        engine: Option<&impl Engine>,
        bottle: &Bottle,
        settings: &Settings,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, HostError> {
        let mut host = Self::default();
        if let Some(engine) = engine {
            let name = image_name(settings, bottle);
            let external = bottle.egress_network.as_deref();
            let (info, image, containers, networks, egress) = tokio::join!(
                engine.info(),
                engine.image(&name),
                engine.containers(None),
                engine.networks(None),
                async {
                    match external {
                        Some(name) => engine.network(name).await,
                        None => Ok(None),
                    }
                },
            );
            host.engine = Some(info?);
            host.image = image?;
            host.egress_network = egress?;
            host.taken.extend(containers?.into_iter().map(|container| container.name));
            host.taken.extend(networks?.into_iter().map(|network| network.name));
        }
        let arch = host.engine.as_ref().map_or(std::env::consts::ARCH, |engine| engine.arch.as_str());
        let mut needed = vec!["bottle-guest"];
        needed.extend((!bottle.ssh.is_empty()).then_some("ssh-gate"));
        needed.extend((!bottle.cred_proxy.routes.is_empty()).then_some("cred-proxy"));
        for name in needed {
            let sidecar = Sidecar::find(name, arch)?;
            host.images.insert(name, sidecar.image().build());
            if name == "bottle-guest" {
                host.guest = sidecar.into_binary();
            }
        }
        for route in &bottle.cred_proxy.routes {
            let there = match &route.token {
                TokenRef::Env(name) => variable(name).is_some_and(|value| !value.is_empty()),
                TokenRef::File(path) => path.is_file(),
            };
            if there {
                host.present.insert(route.token.to_string());
            }
        }
        Ok(host)
    }
}
