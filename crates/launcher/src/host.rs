//! What a plan must know of this machine and its engine, read once, so that planning does no I/O.

mod ground;
mod proxy;
pub(crate) mod settings;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::engine::{Container, Engine, EngineError, EngineInfo, Image, Network, ObjectKind};
use crate::images::{Binary, BuiltImage, ImagesError, Sidecar};
use crate::labels;
use crate::proc::Routes;

pub(crate) use ground::Ground;
pub(crate) use proxy::{Proxy, ProxyError, proxy};
use settings::Settings;

/// The facts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// The engine, when one answers.
    pub engine: Option<EngineInfo>,
    /// The agent's image, when the engine has it.
    pub image: Option<Image>,
    /// Names of containers and networks that are in use.
    pub taken: Taken,
    /// The launcher's own images for the engine's architecture.
    pub images: BTreeMap<Binary, BuiltImage>,
    /// The guest's binary for the agent's container.
    pub guest: Bytes,
    /// The network that the manifest names as `egress_network`, when the engine has it.
    pub egress_network: Option<Network>,
    /// Where networks may lie.
    pub ground: Ground,
    /// The CONNECT proxy that leads to the upstreams.
    pub proxy: Option<Proxy>,
    /// The names that this machine's /etc/hosts has.
    pub known_names: BTreeSet<String>,
}

/// The names in use.
pub(crate) type Taken = BTreeMap<String, TakenBy>;

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TakenBy {
    /// Its kind.
    pub kind: ObjectKind,
    /// Whether it carries our label.
    pub ours: bool,
}

/// What is to be found out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Needs {
    /// The agent's image.
    pub image: String,
    /// An existing network.
    pub egress_network: Option<String>,
    /// The binaries whose images are needed.
    pub binaries: Vec<Binary>,
}

/// Finds the binary that this launcher carries for an architecture: [`Sidecar::find`].
pub(crate) type Carried = fn(Binary, &str) -> Result<Sidecar, ImagesError>;

/// Why the facts are not available.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// The engine did not answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The launcher lacks a sidecar.
    #[error(transparent)]
    Images(#[from] ImagesError),
}

impl Host {
    /// Asks the engine, if there is one, and this machine.
    ///
    /// # Errors
    /// [`HostError`].
    pub(crate) async fn survey(
        engine: Option<&impl Engine>,
        needs: &Needs,
        settings: &Settings,
        carried: Carried,
    ) -> Result<Self, HostError> {
        // Hashing the images takes longer than the engine's answers: both at once.
        let binaries = needs.binaries.clone();
        let expected = std::env::consts::ARCH;
        let built = tokio::task::spawn_blocking(move || build(&binaries, expected, carried));
        let mut host = Self::default();
        let mut networks = Vec::new();
        if let Some(engine) = engine {
            let external = async {
                match &needs.egress_network {
                    Some(name) => engine.network(name).await,
                    None => Ok(None),
                }
            };
            let (info, image, containers, found, external) = tokio::join!(
                engine.info(),
                engine.image(&needs.image),
                engine.containers(None),
                engine.networks(None),
                external,
            );
            host.engine = Some(info?);
            host.image = image?;
            host.egress_network = external?;
            networks = found?;
            host.taken = names(&containers?, &networks);
        }
        let arch = host.engine.as_ref().map_or(expected, |engine| engine.arch.as_str());
        (host.images, host.guest) = match built.await {
            Ok(built) if arch == expected => built?,
            _ => build(&needs.binaries, arch, carried)?,
        };
        let local = host.engine.as_ref().is_some_and(|engine| engine.local);
        let routes = if local { Routes::read() } else { Routes::default() };
        host.ground = Ground::new(settings.subnets.as_deref(), &networks, &routes);
        host.known_names = known_names(&std::fs::read_to_string("/etc/hosts").unwrap_or_default());
        Ok(host)
    }
}

/// The names of all containers and networks of an engine.
///
/// # Errors
/// The engine's.
pub(crate) async fn taken(engine: &impl Engine) -> Result<Taken, EngineError> {
    let (containers, networks) = tokio::join!(engine.containers(None), engine.networks(None));
    Ok(names(&containers?, &networks?))
}

fn names(containers: &[Container], networks: &[Network]) -> Taken {
    let by = |kind, found: &labels::Labels| TakenBy { kind, ours: found.contains_key(labels::INSTANCE) };
    let containers = containers.iter().map(|one| (one.name.clone(), by(ObjectKind::Container, &one.labels)));
    let networks = networks.iter().map(|one| (one.name.clone(), by(ObjectKind::Network, &one.labels)));
    containers.chain(networks).collect()
}

impl Host {
    /// Whether the engine can start containers with that runtime.
    pub(crate) fn has_runtime(&self, name: &str) -> bool {
        self.engine.as_ref().is_some_and(|engine| engine.runtimes.iter().any(|runtime| runtime == name))
    }
}

type Built = (BTreeMap<Binary, BuiltImage>, Bytes);

fn build(binaries: &[Binary], arch: &str, carried: Carried) -> Result<Built, ImagesError> {
    let (mut images, mut guest) = (BTreeMap::new(), Bytes::new());
    for &binary in binaries {
        let sidecar = carried(binary, arch)?;
        images.insert(binary, sidecar.image().build());
        if binary == Binary::Guest {
            guest = sidecar.into_bytes();
        }
    }
    Ok((images, guest))
}

/// The names in a hosts(5) file, in lower case.
fn known_names(hosts: &str) -> BTreeSet<String> {
    let names = hosts.lines().flat_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        line.split_whitespace().skip(1).map(str::to_ascii_lowercase)
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hosts_file_are_read_without_comments_and_addresses() {
        let names =
            known_names("127.0.0.1 localhost # mine\n# 10.0.0.1 gone\n10.1.2.3\tGit.Corp.Example git\n");
        assert_eq!(names, ["git", "git.corp.example", "localhost"].map(str::to_owned).into());
    }
}
