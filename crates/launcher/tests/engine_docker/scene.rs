//! What every test of the engine starts from and leaves behind: nothing.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{
    ContainerId, ContainerSpec, Engine, EngineError, NetworkId, NetworkSpec, Output, OutputStream,
};
use claude_bottle::images::{BuiltImage, ImageSpec, Layer, ensure_loaded};
use futures_util::{FutureExt, StreamExt};
use ipnet::Ipv4Net;

/// One test's engine, image and label.
pub(crate) struct Scene {
    name: String,
    pub(crate) engine: Docker,
    pub(crate) built: BuiltImage,
    pub(crate) image: String,
    next: AtomicU8,
}

/// Runs a test, removes all that carries its label, also after a failure, and looks for leftovers.
pub(crate) async fn scene(name: &str, body: impl AsyncFnOnce(&Scene)) {
    let engine = Docker::connect(None, false).expect("these tests need a running container engine");
    let name = format!("claude-bottle-test-{name}-{}", std::process::id());
    let built = image(&name);
    let image = ensure_loaded(&engine, &built).await.expect("the image can be loaded");
    let scene = Scene { name, engine, built, image, next: AtomicU8::new(0) };

    let outcome = AssertUnwindSafe(body(&scene)).catch_unwind().await;
    let (engine, label) = (&scene.engine, scene.label());
    for container in engine.containers(Some(&label)).await.unwrap() {
        engine.remove_container(&container.id).await.unwrap();
    }
    for network in engine.networks(Some(&label)).await.unwrap() {
        engine.remove_network(&network.id).await.unwrap();
    }
    engine.remove_image(&scene.image).await.unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    assert_eq!(engine.containers(Some(&label)).await.unwrap(), []);
    assert_eq!(engine.networks(Some(&label)).await.unwrap(), []);
    assert_eq!(engine.image(&scene.built.tag).await.unwrap(), None);
}

impl Scene {
    pub(crate) fn label(&self) -> String {
        format!("claude-bottle.test={}", self.name)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([("claude-bottle.test".to_owned(), self.name.clone())])
    }

    pub(crate) fn container(&self, role: &str, does: &str) -> ContainerSpec {
        ContainerSpec {
            command: vec![does.to_owned()],
            labels: self.labels(),
            bounded_logs: false,
            ..ContainerSpec::new(&format!("{}-{role}", self.name), &self.image)
        }
    }

    /// A container that runs and does nothing.
    pub(crate) async fn idle(&self, role: &str) -> ContainerId {
        let id = self.engine.create_container(&self.container(role, "idle")).await.unwrap();
        self.engine.start(&id).await.unwrap();
        id
    }

    pub(crate) fn network_spec(&self, role: &str, subnet: Ipv4Net) -> NetworkSpec {
        let option =
            |name: &str, value: &str| (format!("com.docker.network.bridge.{name}"), value.to_owned());
        NetworkSpec {
            name: format!("{}-{role}", self.name),
            internal: true,
            subnet,
            options: BTreeMap::from([
                option("inhibit_ipv4", "true"),
                option("gateway_mode_ipv4", "isolated"),
                option("gateway_mode_ipv6", "isolated"),
            ]),
            labels: self.labels(),
        }
    }

    /// Small subnets, other ones for each process and call.
    pub(crate) fn subnets(&self) -> impl Iterator<Item = Ipv4Net> {
        let third = (std::process::id() % 250) as u8;
        std::iter::repeat_with(move || {
            let nth = self.next.fetch_add(1, Ordering::Relaxed);
            Ipv4Net::new([10, 213, third.wrapping_add(nth / 16), nth % 16 * 16].into(), 28).unwrap()
        })
    }

    /// An internal network, in the first subnet that is free.
    pub(crate) async fn network(&self, role: &str) -> (NetworkId, Ipv4Net) {
        for subnet in self.subnets().take(64) {
            match self.engine.create_network(&self.network_spec(role, subnet)).await {
                Ok(created) => return (created.id, subnet),
                Err(EngineError::SubnetTaken { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("64 subnets are taken");
    }
}

/// An image of the probe, with a label of this test's own, so that no two tests share an id.
fn image(name: &str) -> BuiltImage {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("probe");
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let compiled = Command::new("rustc")
        .args(["--edition", "2024", "--target", &target, "-o"])
        .arg(&binary)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine_docker/probe.rs"))
        .output()
        .expect("these tests need rustc");
    let errors = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "these tests need `rustup target add {target}`: {errors}");
    ImageSpec {
        name: format!("localhost/{name}"),
        arch: std::env::consts::ARCH.to_owned(),
        entrypoint: vec!["/probe".to_owned()],
        user: Some("65532:65532".to_owned()),
        labels: BTreeMap::from([("claude-bottle.test".to_owned(), name.to_owned())]),
        layers: vec![Layer::executable("probe", &std::fs::read(binary).unwrap())],
        ..ImageSpec::default()
    }
    .build()
}

/// What `docker inspect` tells, for what the trait has no word.
pub(crate) fn inspect(id: &ContainerId) -> serde_json::Value {
    let inspected = Command::new("docker")
        .args(["inspect", &id.0])
        .output()
        .expect("these tests look over the engine's shoulder with the docker command");
    serde_json::from_slice::<serde_json::Value>(&inspected.stdout).unwrap()[0].clone()
}

pub(crate) async fn all(mut output: OutputStream) -> (String, String) {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(piece) = output.next().await {
        match piece.unwrap() {
            Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
            Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
        }
    }
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it comes within 20 s")
}

/// Within this time everything happens that happens at all.
pub(crate) const SOON: Duration = Duration::from_secs(20);
