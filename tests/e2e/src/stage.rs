//! What most end-to-end tests begin and end with: an engine, a scene, bottles on it, nothing left.

use std::net::Ipv4Addr;
use std::sync::Mutex;

use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{ContainerId, ContainerSpec, Endpoint, Engine, NetworkMode};
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::bottle::{Done, Launcher, Ran, Running, exec, names, nothing_left};
use crate::scene::{LABEL, TOKEN_ENV, labelled};
use crate::{Environment, Scene, environment};

/// A scene, and the bottles that a test launches on it. Its functions panic when they fail: they
/// are a test's set-up.
#[derive(Debug)]
pub struct Stage {
    /// What was built.
    pub environment: Environment,
    /// The engine.
    pub engine: Docker,
    /// The scene.
    pub scene: Scene,
    instances: Mutex<Vec<String>>,
    /// Last, since fields are dropped in order.
    _failed: RemovedOnFailure,
}

/// The run of a scene, which goes also when its test fails; what is killed is [`crate::sweep`]'s.
#[derive(Debug)]
struct RemovedOnFailure(String);

/// A bottle whose CMD does nothing until it is told to end.
#[derive(Debug)]
pub struct Idle {
    /// The agent's container.
    pub container: String,
    /// Its instance.
    pub instance: String,
    launcher: Running,
}

/// Where a container stands on the scene's network, or that it has none of its own.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// On the scene's network, where the engine picks its address.
    Scene,
    /// In the network namespace of this container.
    Inside(&'a str),
}

impl Stage {
    /// Connects to the engine and starts a scene.
    ///
    /// # Panics
    ///
    /// Nothing was built, there is no engine, or the scene cannot be started.
    pub async fn set() -> Self {
        let environment = environment().unwrap_or_else(|error| panic!("{error}"));
        let engine = Docker::connect(None, false).unwrap_or_else(|error| panic!("{error}"));
        let scene = Box::pin(Scene::start(&engine, &environment.images)).await;
        let scene = scene.unwrap_or_else(|error| panic!("{error:?}"));
        let failed = RemovedOnFailure(scene.run.clone());
        Self { environment, engine, scene, instances: Mutex::default(), _failed: failed }
    }

    /// `start demo -- bash -c SCRIPT` by this manifest, and the container's name, which begins with `what`.
    ///
    /// # Panics
    ///
    /// The manifest cannot be written.
    pub fn launcher(&self, manifest: &Value, what: &str, script: &str) -> (Launcher, String) {
        let (container, instance) = names(what);
        self.instances.lock().expect("no test panics while it holds this").push(instance);
        let manifest = self.scene.write_manifest(manifest).unwrap_or_else(|error| panic!("{error:?}"));
        let launcher = Launcher::start(&self.environment, &manifest, "demo", &container, script)
            .env(TOKEN_ENV, &self.scene.api.token);
        (launcher, container)
    }

    /// Runs a script in a bottle by this manifest, from launch to teardown.
    pub async fn run(&self, manifest: &Value, what: &str, script: &str, stdin: &[u8]) -> Ran {
        self.launcher(manifest, what, script).0.stdin(stdin).run().await
    }

    /// Launches a bottle that stays until [`Idle::end`].
    ///
    /// # Panics
    ///
    /// The bottle did not come up.
    pub async fn idle(&self, manifest: &Value, what: &str) -> Idle {
        let (launcher, container) = self.launcher(manifest, what, "echo launched; cat >/dev/null");
        let launcher = launcher.spawn();
        launcher.says("launched").await;
        let instance = container.trim_start_matches("claude-bottle-").to_owned();
        Idle { container, instance, launcher }
    }

    /// Runs a script in a container as a user, to its end.
    ///
    /// # Panics
    ///
    /// The engine refused.
    pub async fn exec(&self, container: &str, user: &str, script: &str, stdin: &[u8]) -> Done {
        let done = exec(&self.engine, container, user, script, stdin).await;
        done.unwrap_or_else(|error| panic!("{container}: {error}"))
    }

    /// Starts an idle container of the git hosts' image, without a bottle's hardening: its root has
    /// `capabilities`. It goes with the scene.
    ///
    /// # Panics
    ///
    /// The engine refused.
    pub async fn neighbour(&self, name: &str, place: Place<'_>, capabilities: &[&str]) -> String {
        let network = match place {
            Place::Scene => NetworkMode::Network(self.scene.network.id.clone(), Endpoint::default()),
            Place::Inside(container) => NetworkMode::Container(self.id(container).await),
        };
        let image = self.engine.image(&self.environment.images.host).await;
        let image = image.unwrap_or_else(|error| panic!("{error}")).expect("the scene was started with it");
        let spec = ContainerSpec {
            entrypoint: ["sleep", "infinity"].map(String::from).to_vec(),
            user: Some("0:0".to_owned()),
            labels: [(LABEL.to_owned(), self.scene.run.clone())].into(),
            network,
            cap_add: capabilities.iter().map(|&one| one.to_owned()).collect(),
            pids: Some(128),
            memory: Some(128 << 20),
            ..ContainerSpec::new(&format!("scene-{}-{name}", self.scene.run), &image.id)
        };
        let id = self.engine.create_container(&spec).await.unwrap_or_else(|error| panic!("{error}"));
        self.engine.start(&id).await.unwrap_or_else(|error| panic!("{error}"));
        id.0
    }

    /// The IPv4 addresses of a container but loopback's, as a shell in it sees them.
    pub async fn addresses(&self, container: &str) -> Vec<Ipv4Addr> {
        local_addresses(&self.exec(container, "0:0", "cat /proc/net/fib_trie", b"").await.said)
    }

    async fn id(&self, container: &str) -> ContainerId {
        let found = self.engine.container(container).await.unwrap_or_else(|error| panic!("{error}"));
        found.unwrap_or_else(|| panic!("there is no container {container}")).id
    }

    /// Removes the scene, and asserts that nothing of it and of its bottles is left.
    ///
    /// # Panics
    ///
    /// Something is left, or the engine refused.
    pub async fn clear(self) {
        let instances = self.instances.into_inner().expect("no test panics while it holds this");
        let label = format!("{LABEL}={}", self.scene.run);
        for instance in &instances {
            nothing_left(&self.engine, instance).await.unwrap_or_else(|error| panic!("{error:?}"));
        }
        self.scene.remove(&self.engine).await.unwrap_or_else(|error| panic!("{error:?}"));
        let left = labelled(&self.engine, &label).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(left, Vec::<String>::new(), "left of the scene");
    }
}

impl Drop for RemovedOnFailure {
    fn drop(&mut self) {
        let runtime =
            Handle::try_current().ok().filter(|it| it.runtime_flavor() == RuntimeFlavor::MultiThread);
        let (true, Some(runtime)) = (std::thread::panicking(), runtime) else { return };
        // The first failure is the one to tell.
        let remove = async {
            let Ok(engine) = Docker::connect(None, false) else { return };
            let label = format!("{LABEL}={}", self.0);
            for container in engine.containers(Some(&label)).await.unwrap_or_default() {
                let _ = engine.remove_container(&container.id).await;
            }
            for network in engine.networks(Some(&label)).await.unwrap_or_default() {
                let _ = engine.remove_network(&network.id).await;
            }
        };
        tokio::task::block_in_place(|| runtime.block_on(remove));
    }
}

impl Idle {
    /// The name of a sidecar's container: `ssh-gate`, `cred-proxy`.
    pub fn sidecar(&self, role: &str) -> String {
        format!("claude-bottle-{role}-{}", self.instance)
    }

    /// Ends the CMD, and with it the bottle.
    ///
    /// # Panics
    ///
    /// The launcher's exit code was not 0.
    pub async fn end(self) {
        let _ = self.launcher.end().await.expect_code(0);
    }
}

/// The addresses but loopback's that a `/proc/net/fib_trie` calls local: `|-- ADDRESS`, then
/// `/32 host LOCAL`.
pub fn local_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in trie.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = last.filter(|address| !address.is_loopback())
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}
