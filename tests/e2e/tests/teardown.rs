//! Whatever ends a bottle, a failure, `kill -9` or another's doing, nothing of it remains, and
//! nothing of anybody else is touched.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::Duration;

use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{
    ContainerId, ContainerSpec, Endpoint, Engine, EngineError, NetworkId, NetworkMode, NetworkSpec,
};
use claude_bottle::images::{ImageSpec, Layer, ensure_loaded};
use e2e::Environment;
use e2e::bottle::{Launcher, Ran};
use e2e::lone::{Lone, among_orphans, begin, nothing_remains};
use e2e::raw::Events;
use e2e::scene::labelled;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

/// Longer than a launch and its teardown take on a busy machine.
const LAUNCH: Duration = Duration::from_secs(20);

/// How many moments of a launch are tried.
const MOMENTS: usize = 14;

/// Of what a test itself puts beside its bottle.
const LABEL: &str = "claude-bottle.e2e-foreign";

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_at_any_moment_and_cleanup_leaves_nothing() {
    let (environment, engine) = begin();
    let _turn = among_orphans().await;
    let lone = Lone::new(&environment, "killed");
    let cleanup = || lone.launcher().args(["cleanup"]).run();

    // A whole life, for its events; its last is the removal of a network.
    let mut events = Events::listen().await;
    lone.bash("true").run().await.expect_code(0);
    let mut all = Vec::new();
    while let Some(event) = events.next(&lone.agent, Duration::from_secs(1)).await {
        all.push(event);
    }
    assert!(all.len() > MOMENTS, "{all:?}");

    let step = all.len().div_ceil(MOMENTS);
    for nth in (0..all.len()).step_by(step) {
        let mut events = Events::listen().await;
        let running = lone.bash("true").spawn();
        let mut last = String::from("its start");
        for _ in 0..nth {
            // Of two lives one may have fewer events.
            let Some(event) = events.next(&lone.agent, LAUNCH).await else { break };
            last = event;
        }
        running.signal("KILL");
        running.end().await;
        cleanup().await.expect_code(0);
        let left = labelled(&engine, &lone.label()).await.unwrap();
        assert_eq!(left, Vec::<String>::new(), "after event {nth}: {last}");
    }
    // What the engine finished only after we had looked would be here now.
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_removes_the_dead_and_leaves_the_living() {
    let (environment, engine) = begin();
    let _turn = among_orphans().await;
    let (living, dead) = (Lone::new(&environment, "living"), Lone::new(&environment, "dead"));
    let alive = living.bash("echo ready; cat").spawn();
    let killed = dead.bash("echo ready; cat").spawn();
    alive.says("ready").await;
    killed.says("ready").await;
    killed.signal("KILL");
    killed.end().await;

    let name = |part: &str| format!("claude-bottle-{part}{}", dead.agent);
    let expected = (
        BTreeSet::from([name(""), name("ssh-gate-"), name("cred-proxy-")]),
        BTreeSet::from([name("int-"), name("egr-")]),
    );
    let cleanup = async |more: &'static [&'static str]| {
        let ran = dead.launcher().args(["cleanup", "--format", "json"]).args(more).run().await;
        let cleaned: Value = serde_json::from_str(&ran.expect_code(0).stdout).unwrap();
        let keys: BTreeSet<_> = cleaned.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(
            keys,
            BTreeSet::from(["containers", "networks", "images", "volumes", "folders", "rescued"])
        );
        let names = |key: &str| -> BTreeSet<String> {
            let names = cleaned[key].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned());
            // Another's, of a run that was killed.
            let names: BTreeSet<_> = names.collect();
            assert!(!names.iter().any(|name| name.ends_with(&living.agent)), "{names:?}");
            names.into_iter().filter(|name| name.ends_with(&dead.agent)).collect()
        };
        (names("containers"), names("networks"))
    };
    // The engine lists networks in any order.
    let labelled_dead =
        async || -> BTreeSet<_> { labelled(&engine, &dead.label()).await.unwrap().into_iter().collect() };
    let before = labelled_dead().await;
    assert_eq!(cleanup(&["--dry-run"]).await, expected);
    assert_eq!(cleanup(&["--dry-run"]).await, expected);
    assert_eq!(labelled_dead().await, before, "a dry run removes nothing");
    let text = dead.launcher().args(["cleanup", "--dry-run"]).run().await.expect_code(0);
    assert!(text.stdout.contains(&format!("would remove network {}\n", name("int-"))), "{}", text.stdout);

    assert_eq!(cleanup(&[]).await, expected);
    nothing_remains(&engine, &dead).await;
    assert_eq!(cleanup(&[]).await, (BTreeSet::new(), BTreeSet::new()), "once more is nothing more");
    assert_eq!(labelled(&engine, &living.label()).await.unwrap().len(), 5);
    let ran = alive.end().await.expect_code(0);
    assert_eq!(ran.stderr, "");
    nothing_remains(&engine, &living).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_missing_is_69_and_nothing_is_created() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "noimage");
    let mut manifest = lone.manifest();
    manifest["bottles"]["lone"]["image"] = json!("localhost/claude-bottle/nobody-has:this");
    lone.write(&manifest);
    let by_manifest = lone.bash("true").run().await;
    let by_variable =
        lone.bash("true").env("CLAUDE_BOTTLE_IMAGE", "localhost/claude-bottle/nor:this").run().await;
    for (ran, image) in [(by_manifest, "nobody-has:this"), (by_variable, "nor:this")] {
        refused(&ran, 69, image);
        assert!(ran.stderr.contains("\nhint: build it with `docker build"), "{}", ran.stderr);
    }
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_vanishes_before_the_launch_is_69_and_all_is_removed() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "vanish");
    let image = ImageSpec {
        name: format!("localhost/claude-bottle/{}", lone.agent),
        arch: std::env::consts::ARCH.to_owned(),
        user: Some("node".to_owned()),
        layers: vec![Layer::executable("program", lone.agent.as_bytes())],
        ..ImageSpec::default()
    }
    .build();
    ensure_loaded(&engine, &image).await.unwrap();
    let start = ask(&lone).env("CLAUDE_BOTTLE_IMAGE", &image.tag);
    let ran = after(start, async { engine.remove_image(&image.tag).await.unwrap() }).await;
    assert_eq!(ran.code(), Some(69), "{}", ran.stdout);
    assert!(ran.stdout.contains("error: the engine does not have the image"), "{}", ran.stdout);
    assert!(ran.stdout.contains("hint: build it with `docker build"), "{}", ran.stdout);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_egress_network_that_is_missing_or_vanishes_is_69_and_all_is_removed() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "nonet");
    let name = format!("foreign-{}", lone.agent);
    let mut manifest = lone.manifest();
    manifest["bottles"]["lone"]["egress_network"] = json!(name);
    lone.write(&manifest);
    let ran = lone.bash("true").run().await;
    refused(&ran, 69, &name);
    assert!(ran.stderr.contains(&format!("hint: create it with `docker network create {name}`")), "{ran:?}");

    let network = foreign_network(&engine, &lone, &name, 28).await;
    let ran = after(ask(&lone), async { engine.remove_network(&network).await.unwrap() }).await;
    assert_eq!(ran.code(), Some(69), "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("hint: create it with `docker network create {name}`")), "{ran:?}");
    nothing_remains(&engine, &lone).await;

    // The user's own is joined, and left.
    let network = foreign_network(&engine, &lone, &name, 28).await;
    lone.bash("true").run().await.expect_code(0);
    nothing_remains(&engine, &lone).await;
    assert!(engine.network(&network.0).await.unwrap().is_some());
    engine.remove_network(&network).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_taken_before_the_launch_is_left_and_the_next_one_taken() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "taken");
    let name = format!("claude-bottle-{}", lone.agent);
    let take = |name: String| foreign_container(&engine, &environment, &lone, name, NetworkMode::None);
    let mut taken = None;
    let start = lone.launcher().args(["start", &lone.agent, "--", "bash", "-c", "echo it ran; sleep 2"]);
    let ran = after(start, async { taken = Some(take(name.clone()).await) }).await;
    assert_eq!(ran.code(), Some(0), "{}", ran.stdout);
    assert!(ran.stdout.contains("it ran"), "{}", ran.stdout);
    assert_eq!(labelled(&engine, &lone.label()).await.unwrap(), Vec::<String>::new());

    // A pinned name has no next one.
    let pinned = format!("{name}-pinned");
    let mut other = None;
    let start = ask(&lone).env("CLAUDE_BOTTLE_CONTAINER", &pinned);
    let ran = after(start, async { other = Some(take(pinned.clone()).await) }).await;
    assert_eq!(ran.code(), Some(69), "{}", ran.stdout);
    assert!(
        ran.stdout
            .contains(&format!("error: CLAUDE_BOTTLE_CONTAINER: the container {pinned} exists already")),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("unset the override") && !ran.stdout.contains("docker rm"), "{}", ran.stdout);
    assert_eq!(labelled(&engine, &lone.label()).await.unwrap(), Vec::<String>::new());
    for foreign in [taken, other] {
        let foreign = foreign.unwrap();
        assert!(engine.container(&foreign.0).await.unwrap().is_some(), "a foreign container is not touched");
        engine.remove_container(&foreign).await.unwrap();
    }
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_that_cannot_become_ready_is_75_in_its_own_words() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "unready");
    let ca = lone.folder().join("ca.pem");
    // Laid out as a certificate, which is all that the launcher can see, of a version that TLS lacks.
    let pem =
        "-----BEGIN CERTIFICATE-----\nMBkwEqADAgEFAgEBMAAwADAAMAAwADAAAwEA\n-----END CERTIFICATE-----\n";
    std::fs::write(&ca, pem).unwrap();
    let mut manifest = lone.manifest();
    manifest["bottles"]["lone"]["cred_proxy"]["routes"][0]["ca_file"] = json!(ca);
    lone.write(&manifest);
    let ran = lone.bash("true").run().await;
    refused(&ran, 75, "the sidecar cred-proxy did not become ready: cred-proxy: ");
    assert!(ran.stderr.to_lowercase().contains("ca"), "{}", ran.stderr);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_hold_is_74_and_named_with_what_removes_it() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "held");
    for (code, expected) in [(0, 74), (7, 74)] {
        let script = format!("echo ready; cat; exit {code}");
        let running = lone.bash(&script).spawn();
        running.says("ready").await;
        let network = format!("claude-bottle-egr-{}", lone.agent);
        let id = engine.network(&network).await.unwrap().unwrap().id;
        let mode = NetworkMode::Network(id, Endpoint::default());
        let name = format!("foreign-{}", lone.agent);
        let foreign = foreign_container(&engine, &environment, &lone, name, mode).await;
        engine.start(&foreign).await.unwrap();
        let ran = running.end().await.expect_code(expected);
        refused(&ran, 74, &format!("could not remove the network {network}"));
        assert!(
            ran.stderr.contains(&format!("hint: remove it with `docker network rm {network}`")),
            "{ran:?}"
        );
        let left = labelled(&engine, &lone.label()).await.unwrap();
        assert_eq!(left, [format!("network {network}")]);
        engine.remove_container(&foreign).await.unwrap();
        // Its launcher is gone, so cleanup may; others' turns are respected.
        let _turn = among_orphans().await;
        lone.launcher().args(["cleanup"]).run().await.expect_code(0);
        nothing_remains(&engine, &lone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subnets_that_others_use_are_passed_over() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "subnet");
    let name = format!("foreign-{}", lone.agent);
    // The largest part of the launcher's pool that no other test's bottle is in now.
    let network = foreign_network(&engine, &lone, &name, 17).await;
    let taken = engine.network(&network.0).await.unwrap().unwrap().subnets[0];
    for _ in 0..3 {
        let running = lone.bash("echo ready; cat").spawn();
        running.says("ready").await;
        let networks = engine.networks(Some(&lone.label())).await.unwrap();
        let subnets: Vec<_> = networks.iter().flat_map(|network| &network.subnets).collect();
        assert_eq!(subnets.len(), 2);
        assert!(subnets.iter().all(|subnet| !taken.contains(&subnet.network())), "{taken}: {subnets:?}");
        running.end().await.expect_code(0);
    }
    engine.remove_network(&network).await.unwrap();
    nothing_remains(&engine, &lone).await;
}

/// A start that will ask.
fn ask(lone: &Lone) -> Launcher {
    lone.launcher().args(["start", "-q", &lone.agent, "--", "true"])
}

/// Lets `act` happen between plan and launch: at the question, which is then answered yes.
async fn after(launcher: Launcher, act: impl Future<Output = ()>) -> Ran {
    let mut running = launcher.on_terminal().spawn();
    running.says("launch this bottle? [y/N]").await;
    act.await;
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(b"y\n").await.unwrap();
    let ran = running.end().await;
    drop(stdin);
    ran
}

/// Somebody else's container, not started.
async fn foreign_container(
    engine: &Docker,
    environment: &Environment,
    lone: &Lone,
    name: String,
    network: NetworkMode,
) -> ContainerId {
    let spec = ContainerSpec {
        command: vec!["sleep".to_owned(), "600".to_owned()],
        labels: BTreeMap::from([(LABEL.to_owned(), lone.agent.clone())]),
        network,
        ..ContainerSpec::new(&name, &environment.images.agent)
    };
    engine.create_container(&spec).await.unwrap()
}

/// Somebody else's network, on the first part of the launcher's pool that is free and at most that large.
async fn foreign_network(engine: &Docker, lone: &Lone, name: &str, largest: u8) -> NetworkId {
    for length in largest..=28 {
        let size = 1_u32 << (32 - length);
        for n in 0..(65536 / size).min(64) {
            let first =
                std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(10, 201, 0, 0)) + n * size);
            let spec = NetworkSpec {
                name: name.to_owned(),
                internal: false,
                subnet: format!("{first}/{length}").parse().unwrap(),
                options: BTreeMap::new(),
                labels: BTreeMap::from([(LABEL.to_owned(), lone.agent.clone())]),
            };
            match engine.create_network(&spec).await {
                Ok(created) => return created.id,
                Err(EngineError::SubnetTaken { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    }
    panic!("10.201.0.0/16 is full")
}

/// One `error:` line with these words.
#[track_caller]
fn refused(ran: &Ran, code: i32, error: &str) {
    assert_eq!(ran.code(), Some(code), "{ran:?}");
    let errors: Vec<_> = ran.stderr.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(error), "{error}: {}", ran.stderr);
}
