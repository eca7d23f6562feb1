//! What a launch creates, and what a failing one leaves behind: on an engine that keeps its objects
//! in memory and refuses, or forgets to answer, the nth call for every n.

use std::collections::BTreeMap;

use ::sidecar::token::Token;
use bytes::Bytes;
use zeroize::Zeroizing;

use super::*;
use crate::engine::Image;
use crate::engine::recording::{Answer, Recording};
use crate::host::Host;
use crate::host::settings::Settings;
use crate::images::{ImageSpec, Layer};
use crate::manifest::parse;
use crate::plan::{Request, plan};

const TOKEN: &str = "tok-3f9d1c-not-a-real-one";
const KEY: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";

const MANIFEST: &str = r#"{ "bottles": { "dev": { "image": "img:1",
    "ssh": [ { "Host": "github", "Hostname": "github.com", "IdentityFile": "k",
        "KnownHostKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJfzG0mGkZ9SQxHnsUJm7eNUWWgmyVVWs9PqTXhL2xPq" } ],
    "cred_proxy": { "routes": [ { "path": "/api/", "upstream": "https://api.example.com",
        "auth": { "scheme": "bearer" }, "token": { "env": "API_TOKEN" } } ] } } },
  "agents": { "dev": { "bottle": "dev", "prompt": "Be brief." } } }"#;

fn built(name: &str) -> crate::images::BuiltImage {
    ImageSpec {
        name: format!("localhost/claude-bottle/{name}"),
        arch: "x86_64".into(),
        layers: vec![Layer::executable(name, name.as_bytes())],
        ..ImageSpec::default()
    }
    .build()
}

fn engine(recording: Recording) -> Recording {
    let image = Image { id: "sha256:agent".into(), user: Some("node".into()), working_dir: None };
    recording.with_image("sha256:agent", image).with_runs(|run| {
        let answer = |stdout: &str, stderr: &str| Answer {
            stdout: stdout.as_bytes().to_vec(),
            stderr: stderr.as_bytes().to_vec(),
            exit_code: 0,
        };
        match run.spec.command.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["ssh", "-V"] => answer("", "OpenSSH_9.2p1 Debian-2"),
            [_, "relay", ..] => answer("{\"event\":\"ready\"}\n", ""),
            _ => answer("", ""),
        }
    })
}

fn made() -> (Plan, Secrets) {
    let images = ["bottle-guest", "ssh-gate", "cred-proxy"].map(|name| (name, built(name)));
    let image = Image { id: "sha256:agent".into(), user: Some("node".into()), working_dir: None };
    let host = Host {
        image: Some(image),
        images: images.into(),
        guest: Bytes::from_static(b"guest"),
        ..Host::default()
    };
    let request = Request { agent: "dev".into(), command: None, settings: Settings::read(|_| None).unwrap() };
    let plan = plan(&parse("m", MANIFEST).unwrap(), &request, &host).unwrap();
    let secrets = Secrets {
        keys: BTreeMap::from([("k".to_owned(), Zeroizing::new(KEY.as_bytes().to_vec()))]),
        tokens: BTreeMap::from([("CRED_PROXY_TOKEN_0".to_owned(), Token::parse(TOKEN.into()).unwrap())]),
        ..Secrets::default()
    };
    (plan, secrets)
}

async fn launched(engine: &Recording) -> Result<Bottle, Failed> {
    let (plan, secrets) = made();
    launch(engine, &plan, &secrets, &LauncherId::own(), &CancellationToken::new()).await
}

#[tokio::test]
async fn a_bottle_is_what_the_plan_says() {
    let engine = engine(Recording::new());
    let bottle = launched(&engine).await.unwrap();
    assert!(bottle.warnings.is_empty(), "{:?}", bottle.warnings);

    let network = engine.created_network("claude-bottle-int-dev").unwrap();
    assert!(network.internal);
    assert_eq!(network.options["com.docker.network.bridge.inhibit_ipv4"], "true");
    let gate = engine.created("claude-bottle-ssh-gate-dev").unwrap();
    assert!(gate.read_only && gate.cap_add.is_empty() && gate.env.is_empty());
    assert_eq!(gate.command[..2], ["--stdin-bundle", "--bind"]);
    let agent = engine.created("claude-bottle-dev").unwrap();
    assert_eq!(
        (agent.user.as_deref(), agent.dns.as_slice()),
        (Some("node"), ["127.0.0.1".to_owned()].as_slice())
    );
    assert!(agent.cap_add.is_empty() && !agent.stdin);

    let runs = engine.runs();
    let add = runs.iter().find(|run| run.spec.command[0] == "ssh-add").unwrap();
    assert_eq!(add.spec.command, ["ssh-add", "-q", "-H", KNOWN, "-h", "github.com", "-"]);
    assert_eq!(add.stdin, KEY.as_bytes());
    assert!(!engine.put_into("claude-bottle-dev").is_empty());

    let swept = teardown(&engine, &bottle.scope).await;
    assert!(swept.left.is_empty());
    assert_eq!((swept.containers.len(), swept.networks.len()), (3, 2));
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

const KNOWN: &str = "/etc/claude-bottle/known_hosts";

#[tokio::test]
async fn a_token_goes_to_its_proxy_over_stdin_and_nowhere_else() {
    let engine = engine(Recording::new());
    let _bottle = launched(&engine).await.unwrap();
    let told = String::from_utf8(engine.stdin_of("claude-bottle-cred-proxy-dev")).unwrap();
    assert!(told.contains(TOKEN) && told.ends_with('\n'));
    assert!(!String::from_utf8(engine.stdin_of("claude-bottle-ssh-gate-dev")).unwrap().contains(TOKEN));
    for name in ["claude-bottle-dev", "claude-bottle-cred-proxy-dev", "claude-bottle-ssh-gate-dev"] {
        assert!(!format!("{:?}", engine.created(name)).contains(TOKEN), "{name}");
    }
    assert!(!format!("{:?} {:?}", engine.runs(), engine.calls()).contains(TOKEN));
}

/// Launches, and tears down what was launched, on an engine whose nth call fails; says whether the
/// whole took more than n calls.
async fn leaves_nothing(recording: Recording, n: usize) -> bool {
    let engine = engine(recording);
    match launched(&engine).await {
        Ok(bottle) => {
            let swept = teardown(&engine, &bottle.scope).await;
            assert!(swept.left.is_empty(), "call {n}: {:?}", swept.left);
        }
        Err(failed) => assert!(failed.swept.left.is_empty(), "call {n}: {:?}", failed.swept.left),
    }
    let calls = engine.calls();
    assert_eq!(engine.leftovers(), Vec::<String>::new(), "call {n}: {:?}", calls.get(n));
    calls.len() > n
}

#[tokio::test]
async fn refusing_any_call_leaves_nothing_behind() {
    let mut n = 0;
    while leaves_nothing(Recording::refusing(n), n).await {
        n += 1;
    }
    assert!(n > 30, "a launch and its teardown are more than {n} calls");
}

#[tokio::test]
async fn losing_any_answer_leaves_nothing_behind() {
    let mut n = 0;
    while leaves_nothing(Recording::losing(n), n).await {
        n += 1;
    }
    assert!(n > 30, "a launch and its teardown are more than {n} calls");
}

#[tokio::test]
async fn a_sidecar_that_is_not_ready_is_walked_back_with_its_words() {
    let said = Answer { stdout: Vec::new(), stderr: b"ssh-gate: no table\n".to_vec(), exit_code: 78 };
    let engine = engine(Recording::new().with_failing("ssh-gate", said));
    let failed = launched(&engine).await.unwrap_err();
    assert_eq!(failed.error.to_string(), "the sidecar ssh-gate did not become ready: ssh-gate: no table");
    assert_eq!(Failure::from(failed.error).kind, Kind::NotReady);
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

#[tokio::test]
async fn another_launchers_bottle_of_the_same_name_is_not_touched() {
    let engine = engine(Recording::new());
    let _theirs = launched(&engine).await.unwrap();
    let (plan, secrets) = made();
    let ours = LauncherId { host: "elsewhere".into(), pid: 1, start: 1 };
    let failed = launch(&engine, &plan, &secrets, &ours, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(failed.error.race(), Some(Race::Name(_))), "{}", failed.error);
    assert_eq!(engine.leftovers().len(), 5, "{:?}", engine.leftovers());
}

#[tokio::test]
async fn an_interrupted_launch_is_walked_back() {
    let engine = engine(Recording::new());
    let (plan, secrets) = made();
    let interrupt = CancellationToken::new();
    interrupt.cancel();
    let failed = launch(&engine, &plan, &secrets, &LauncherId::own(), &interrupt).await.unwrap_err();
    assert!(matches!(failed.error, LaunchError::Interrupted));
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}
