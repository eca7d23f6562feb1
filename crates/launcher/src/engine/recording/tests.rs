use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::engine::{Endpoint, Engine, ExecSpec, NetworkId, NetworkMode, ObjectKind, Output, OutputStream};

const IMAGE: &str = "sha256:aa";
const SOON: Duration = Duration::from_secs(10);

fn image() -> Image {
    Image { id: IMAGE.into(), user: Some("node".into()), working_dir: None }
}

fn recording() -> Recording {
    Recording::new().with_image("agent:latest", image())
}

fn container(name: &str, role: &str, network: NetworkMode) -> ContainerSpec {
    ContainerSpec {
        command: vec!["work".into()],
        labels: BTreeMap::from([("claude-bottle.role".into(), role.into())]),
        network,
        stdin: role != "agent",
        bounded_logs: false,
        ..ContainerSpec::new(name, IMAGE)
    }
}

fn network(name: &str, subnet: &str) -> NetworkSpec {
    NetworkSpec {
        name: name.into(),
        internal: true,
        subnet: subnet.parse().unwrap(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

async fn all(mut output: OutputStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = output.next().await {
        let (Output::Stdout(piece) | Output::Stderr(piece)) = piece.unwrap();
        bytes.extend_from_slice(&piece);
    }
    bytes
}

#[tokio::test]
async fn a_sidecar_is_ready_once_its_bundle_is_written_and_ends_with_its_lifeline() {
    let engine = recording();
    let id = engine.create_container(&container("gate", "ssh-gate", NetworkMode::None)).await.unwrap();
    let mut streams = engine.attach(&id).await.unwrap();
    engine.start(&id).await.unwrap();
    streams.input.write_all(b"{\"lifeline\":true").await.unwrap();
    tokio::time::timeout(Duration::from_millis(1), streams.output.next())
        .await
        .expect_err("the line has not ended");
    streams.input.write_all(b"}\n").await.unwrap();
    let Some(Ok(Output::Stdout(line))) = streams.output.next().await else { panic!("no readiness") };
    let line = String::from_utf8(line.to_vec()).unwrap();
    assert!(line.starts_with(r#"{"event":"ready","name":"ssh-gate","#) && line.ends_with('\n'), "{line}");
    assert_eq!(engine.stdin_of("gate"), b"{\"lifeline\":true}\n");

    let ended = tokio::spawn({
        let (engine, id) = (engine.clone(), id.clone());
        async move { engine.wait(&id, SOON).await.unwrap() }
    });
    streams.input.shutdown().await.unwrap();
    assert_eq!(ended.await.unwrap(), 0);
    assert!(streams.output.next().await.is_none());
    assert_eq!(engine.container("gate").await.unwrap().unwrap().status, "exited");
}

#[tokio::test]
async fn a_network_stays_while_a_container_runs_on_it() {
    let engine = recording();
    let id = engine.create_network(&network("int", "10.0.0.0/28")).await.unwrap().id;
    let overlap = engine.create_network(&network("other", "10.0.0.8/29")).await;
    assert!(matches!(overlap, Err(EngineError::SubnetTaken { .. })));
    let address = |last| Endpoint { address: Some([10, 0, 0, last].into()), ..Endpoint::default() };
    let spec = container("agent", "agent", NetworkMode::Network(id.clone(), address(3)));
    let agent = engine.create_container(&spec).await.unwrap();
    assert!(matches!(engine.create_container(&spec).await, Err(EngineError::NameTaken { .. })));
    let same = container("twin", "agent", NetworkMode::Network(id.clone(), address(3)));
    assert!(matches!(engine.create_container(&same).await, Err(EngineError::Refused { .. })));
    engine.start(&agent).await.unwrap();
    assert!(matches!(engine.remove_network(&id).await, Err(EngineError::Refused { status: 403, .. })));
    assert_eq!(engine.leftovers(), ["agent", "int"]);

    engine.remove_container(&agent).await.unwrap();
    engine.remove_container(&agent).await.unwrap();
    engine.remove_network(&id).await.unwrap();
    engine.remove_network(&id).await.unwrap();
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn a_command_answers_what_the_test_says_to_what_it_read() {
    let engine = recording().with_runs(|run| {
        let exit_code = i64::from(run.spec.command[0] == "false");
        Answer { stdout: run.stdin.to_ascii_uppercase(), exit_code, ..Answer::default() }
    });
    let agent = engine.create_container(&container("agent", "agent", NetworkMode::None)).await.unwrap();
    let spec = ExecSpec { command: vec!["false".into()], stdin: true, output: true, ..ExecSpec::default() };
    assert!(
        matches!(engine.exec(&agent, &spec).await, Err(EngineError::Refused { status: 409, .. })),
        "not started"
    );
    engine.start(&agent).await.unwrap();

    let exec = engine.exec(&agent, &spec).await.unwrap();
    let mut streams = exec.streams.unwrap();
    streams.input.write_all(b"hello").await.unwrap();
    streams.input.shutdown().await.unwrap();
    assert_eq!(all(streams.output).await, b"HELLO");
    assert_eq!(engine.exec_exit_code(&exec.id).await.unwrap(), 1);
    assert_eq!(engine.runs()[0].stdin, b"hello");

    let mut seal = container("seal", "seal", NetworkMode::Container(agent));
    seal.stdin = false;
    let seal = engine.create_container(&seal).await.unwrap();
    engine.start(&seal).await.unwrap();
    assert_eq!(engine.wait(&seal, SOON).await.unwrap(), 0);
}

#[tokio::test]
async fn the_nth_call_is_refused_or_its_answer_lost() {
    let refusing = Recording::refusing(1);
    refusing.info().await.unwrap();
    let spec = network("int", "10.0.0.0/28");
    assert!(matches!(refusing.create_network(&spec).await, Err(EngineError::Refused { .. })));
    assert_eq!(refusing.leftovers(), Vec::<String>::new());
    assert_eq!(refusing.calls(), ["info", "create network int"]);

    let losing = Recording::losing(0);
    assert!(matches!(losing.create_network(&spec).await, Err(EngineError::Broken { .. })));
    assert_eq!(losing.leftovers(), ["int"]);
}

#[tokio::test]
async fn a_failing_sidecar_reports_its_cause_and_ends() {
    let answer = Answer { stderr: b"cred-proxy: no token\n".to_vec(), exit_code: 78, ..Answer::default() };
    let engine = recording().with_failing("cred-proxy", answer);
    let id = engine.create_container(&container("proxy", "cred-proxy", NetworkMode::None)).await.unwrap();
    let mut streams = engine.attach(&id).await.unwrap();
    engine.start(&id).await.unwrap();
    streams.input.write_all(b"{}\n").await.unwrap();
    assert_eq!(all(streams.output).await, b"cred-proxy: no token\n");
    assert_eq!(engine.wait(&id, SOON).await.unwrap(), 78);
    assert_eq!(engine.logs(&id, 5).await.unwrap(), "cred-proxy: no token\n");
}

#[tokio::test(start_paused = true)]
async fn a_stalled_call_never_returns_and_does_nothing() {
    let engine = Recording::stalling(1);
    engine.info().await.unwrap();
    let spec = network("int", "10.0.0.0/28");
    let day = Duration::from_secs(24 * 60 * 60);
    tokio::time::timeout(day, engine.create_network(&spec)).await.expect_err("it never returns");
    assert_eq!(engine.calls(), ["info", "create network int"]);
    engine.networks(None).await.unwrap();
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_late_call_times_out_and_its_object_appears_afterwards() {
    let engine = Recording::late(0, Duration::from_secs(33));
    let error = engine.create_network(&network("int", "10.0.0.0/28")).await.unwrap_err();
    assert!(matches!(error, EngineError::Timeout { .. }), "{error:?}");
    tokio::time::sleep(Duration::from_secs(32)).await;
    assert_eq!(engine.leftovers(), Vec::<String>::new());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(engine.leftovers(), ["int"]);
}

#[tokio::test]
async fn containers_that_do_not_run_vanish_before_the_nth_call() {
    let engine = Recording::vanishing(4).with_image("agent:latest", image());
    let created = engine.create_container(&container("created", "agent", NetworkMode::None)).await.unwrap();
    let running = engine.create_container(&container("running", "agent", NetworkMode::None)).await.unwrap();
    engine.start(&running).await.unwrap();
    engine.put(&created, Bytes::from_static(&[0; 1024])).await.unwrap();
    let error = engine.start(&created).await.unwrap_err();
    assert!(matches!(error, EngineError::NotFound { kind: ObjectKind::Container, .. }), "{error:?}");
    assert_eq!(engine.calls().last().unwrap(), "start created");
    assert_eq!(engine.leftovers(), ["running"]);
}

#[tokio::test]
async fn networks_that_nothing_runs_on_vanish_before_the_nth_call() {
    let engine = Recording::vanishing_networks(2).with_image("agent:latest", image()).with_network(
        "mine",
        false,
        "10.1.0.0/28".parse().unwrap(),
    );
    let id = engine.create_network(&network("int", "10.0.0.0/28")).await.unwrap().id;
    let mode = NetworkMode::Network(id, Endpoint::default());
    let agent = engine.create_container(&container("agent", "agent", mode)).await.unwrap();
    let error = engine.start(&agent).await.unwrap_err();
    assert!(matches!(error, EngineError::NotFound { kind: ObjectKind::Network, .. }), "{error:?}");
    assert_eq!(engine.leftovers(), ["agent"]);
    assert!(engine.network("mine").await.unwrap().is_some());
}

#[tokio::test]
async fn a_network_is_created_with_the_warning_of_the_engine() {
    let engine = Recording::new().with_network_warning("not a recognized option");
    let created = engine.create_network(&network("int", "10.0.0.0/28")).await.unwrap();
    assert_eq!(created.warning.as_deref(), Some("not a recognized option"));
}

#[tokio::test]
async fn a_container_on_a_network_that_is_gone_fails_when_it_starts() {
    let engine = recording();
    let gone = NetworkId("0".repeat(64));
    let mode = NetworkMode::Network(gone.clone(), Endpoint::default());
    let agent = engine.create_container(&container("agent", "agent", mode)).await.unwrap();
    assert_eq!(engine.start(&agent).await.unwrap_err().missing(), Some(ObjectKind::Network));
    let other = engine.create_container(&container("other", "agent", NetworkMode::None)).await.unwrap();
    engine.connect(&gone, &other, &Endpoint::default()).await.unwrap();
    assert_eq!(engine.start(&other).await.unwrap_err().missing(), Some(ObjectKind::Network));
}
