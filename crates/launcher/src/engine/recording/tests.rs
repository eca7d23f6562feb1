use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::*;
use crate::engine::{NetworkMode, Output, OutputStream};
use crate::images::{ImageSpec, Layer, ensure_loaded};

const IMAGE: &str = "sha256:aa";

fn recording() -> Recording {
    let image = Image { id: IMAGE.into(), user: Some("node".into()), working_dir: None };
    Recording::new().with_image("agent:latest", image)
}

fn container(name: &str, role: &str, network: NetworkMode) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: IMAGE.into(),
        entrypoint: Vec::new(),
        command: vec!["work".into()],
        env: BTreeMap::new(),
        user: None,
        labels: BTreeMap::from([("claude-bottle.role".into(), role.into())]),
        network,
        dns: Vec::new(),
        dns_options: Vec::new(),
        read_only: false,
        cap_add: Vec::new(),
        sysctls: BTreeMap::new(),
        pids: None,
        memory: None,
        nano_cpus: None,
        runtime: None,
        stdin: role != "agent",
        bounded_logs: false,
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
        async move { engine.wait(&id).await.unwrap() }
    });
    streams.input.shutdown().await.unwrap();
    assert_eq!(ended.await.unwrap(), 0);
    assert!(streams.output.next().await.is_none());
    assert_eq!(engine.container("gate").await.unwrap().unwrap().status, "exited");
}

#[tokio::test]
async fn a_network_stays_while_a_container_is_on_it() {
    let engine = recording();
    let id = engine.create_network(&network("int", "10.0.0.0/28")).await.unwrap();
    let overlap = engine.create_network(&network("other", "10.0.0.8/29")).await;
    assert!(matches!(overlap, Err(EngineError::SubnetTaken { .. })));
    let address = |last| Endpoint { address: Some([10, 0, 0, last].into()), ..Endpoint::default() };
    let spec = container("agent", "agent", NetworkMode::Network(id.clone(), address(3)));
    let agent = engine.create_container(&spec).await.unwrap();
    assert!(matches!(engine.create_container(&spec).await, Err(EngineError::NameTaken { .. })));
    let same = container("twin", "agent", NetworkMode::Network(id.clone(), address(3)));
    assert!(matches!(engine.create_container(&same).await, Err(EngineError::Refused { .. })));
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
    assert_eq!(engine.wait(&seal).await.unwrap(), 0);
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
async fn a_built_image_is_loaded_once_under_its_own_id() {
    let built = ImageSpec {
        name: "localhost/claude-bottle/x".into(),
        arch: "x86_64".into(),
        user: Some("1:1".into()),
        layers: vec![Layer::executable("x", b"x")],
        ..ImageSpec::default()
    }
    .build();
    let engine = Recording::new();
    assert_eq!(ensure_loaded(&engine, &built).await.unwrap(), built.config_digest);
    assert_eq!(ensure_loaded(&engine, &built).await.unwrap(), built.config_digest);
    assert_eq!(engine.calls().iter().filter(|call| *call == "load image").count(), 1);
    assert_eq!(engine.image(&built.tag).await.unwrap().unwrap().user.as_deref(), Some("1:1"));
    engine.remove_image(&built.tag).await.unwrap();
    assert_eq!(engine.images().len(), 0);
}

#[tokio::test]
async fn a_failing_sidecar_says_why_and_ends() {
    let answer = Answer { stderr: b"cred-proxy: no token\n".to_vec(), exit_code: 78, ..Answer::default() };
    let engine = recording().with_failing("cred-proxy", answer);
    let id = engine.create_container(&container("proxy", "cred-proxy", NetworkMode::None)).await.unwrap();
    let mut streams = engine.attach(&id).await.unwrap();
    engine.start(&id).await.unwrap();
    streams.input.write_all(b"{}\n").await.unwrap();
    assert_eq!(all(streams.output).await, b"cred-proxy: no token\n");
    assert_eq!(engine.wait(&id).await.unwrap(), 78);
    assert_eq!(engine.logs(&id, 5).await.unwrap(), "cred-proxy: no token\n");
}
