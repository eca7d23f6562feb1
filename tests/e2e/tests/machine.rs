//! Machines as people have them: with a proxy, a small MTU, names of their own, full address ranges,
//! launchers in containers, and a disk that is full.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{Engine, NetworkSpec};
use e2e::Stage;
use e2e::bottle::Launcher;
use e2e::lone::{Lone, TOKEN_ENV, among_orphans, begin, nothing_remains};
use e2e::scene::labelled;
use serde_json::{Value, json};
use testbed::connect_proxy::ConnectProxy;
use tokio::net::TcpListener;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_proxy_leads_to_the_upstreams() {
    let stage = Stage::set().await;
    let listener = TcpListener::bind((stage.scene.network.gateway, 0)).await.unwrap();
    let api = SocketAddr::new(stage.scene.api.address.into(), 443);
    let proxy = ConnectProxy::serve(listener, api, "HTTP/1.1 200 OK\r\n\r\n");
    let mut manifest = stage.scene.manifest();
    let route = &mut manifest["bottles"]["dev"]["cred_proxy"]["routes"][0];
    route.as_object_mut().unwrap().remove("allow_private_upstream");
    let ask = "curl --silent --max-time 10 http://cred-proxy:9099/api/whoami";
    let through = |variable: &str| {
        let (launcher, _) = stage.launcher(&manifest, "proxied", ask);
        launcher.env(variable, &format!("http://ada:secret@{}", proxy.addr()))
    };

    let without = stage.run(&manifest, "direct", ask, b"").await.expect_code(0);
    assert!(!without.stdout.contains("authorized"), "its address is private: {}", without.stdout);
    let ran = through("HTTPS_PROXY").run().await.expect_code(0);
    assert!(ran.stdout.contains(r#""authorized":true"#), "{}", ran.stdout);
    let plan = format!("proxy      upstreams through http://{}", proxy.addr());
    assert!(ran.stderr.contains(&plan), "{}", ran.stderr);
    assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);
    let heads = proxy.heads();
    assert!(heads.len() == 1 && heads[0].starts_with("CONNECT api.demo.internal:443"), "{heads:?}");
    assert!(heads[0].contains("YWRhOnNlY3JldA=="), "{heads:?}");

    let mut off = manifest.clone();
    off["bottles"]["dev"]["upstream_proxy"] = json!(false);
    let (launcher, _) = stage.launcher(&off, "off", ask);
    let ran = launcher.env("HTTPS_PROXY", &format!("http://{}", proxy.addr())).run().await.expect_code(0);
    assert!(!ran.stdout.contains("authorized") && proxy.heads().len() == 1, "{}", ran.stdout);
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_hosts_is_known_to_the_sidecars() {
    let stage = Stage::set().await;
    let mut manifest = stage.scene.manifest();
    let bottle = &mut manifest["bottles"]["dev"];
    bottle["ssh"][0]["Hostname"] = json!("git.corp.invalid");
    let script = "cd; git ls-remote git:demo.git >/dev/null && echo reached; true";
    let unknown = stage.run(&manifest, "unknown", script, b"").await.expect_code(0);
    assert!(!unknown.stdout.contains("reached"));
    manifest["bottles"]["dev"]["hosts"] = json!({ "git.corp.invalid": stage.scene.git_hosts[0].address });
    let known = stage.run(&manifest, "known", script, b"").await.expect_code(0);
    assert!(known.stdout.contains("reached"), "{}", known.stderr);
    assert!(known.stderr.contains("host       git.corp.invalid is "), "{}", known.stderr);
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_have_the_mtu_of_the_machines_way_out() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "mtu");
    let ran = lone.bash("cat /sys/class/net/eth0/mtu").run().await.expect_code(0);
    assert_eq!(ran.stdout.trim().parse::<u32>().unwrap(), mtu_of_default_route());
    nothing_remains(&engine, &lone).await;
}

/// What ip(8) knows of the default route, else Ethernet's.
fn mtu_of_default_route() -> u32 {
    let ip = |arguments: &[&str]| {
        let output = std::process::Command::new("ip").args(arguments).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default()
    };
    let route = ip(&["-j", "-4", "route", "show", "default"]);
    let Some(device) = route[0]["dev"].as_str() else { return 1500 };
    let device = ip(&["-j", "link", "show", "dev", device])[0]["mtu"].as_u64();
    let own = route[0]["metrics"][0]["mtu"].as_u64();
    own.into_iter().chain(device).min().map_or(1500, |mtu| u32::try_from(mtu).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn when_no_subnet_is_free_the_error_names_what_is_in_the_way() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "full");
    let label = BTreeMap::from([("claude-bottle.e2e-foreign".to_owned(), lone.agent.clone())]);
    let name = format!("foreign-{}", lone.agent);
    let taken = foreign_network(&engine, &name, label).await;
    let ran = lone.bash("true").env("CLAUDE_BOTTLE_SUBNETS", &taken).run().await;
    engine.remove_network(&engine.network(&name).await.unwrap().unwrap().id).await.unwrap();
    let ran = ran.expect_code(69);
    assert!(ran.stderr.contains(&format!("network {name}")) && ran.stderr.contains(&taken), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: set CLAUDE_BOTTLE_SUBNETS"), "{}", ran.stderr);
    nothing_remains(&engine, &lone).await;
}

/// A network of someone else's on a /26 that is free; its subnet.
async fn foreign_network(engine: &Docker, name: &str, labels: BTreeMap<String, String>) -> String {
    for n in 0..=255 {
        let subnet = format!("10.214.{n}.0/26");
        let spec = NetworkSpec {
            name: name.to_owned(),
            internal: false,
            subnet: subnet.parse().unwrap(),
            options: BTreeMap::new(),
            labels: labels.clone(),
        };
        if engine.create_network(&spec).await.is_ok() {
            return subnet;
        }
    }
    panic!("no subnet of 10.214.0.0/16 is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn cleanup_spares_a_launcher_in_another_pid_namespace() {
    let (environment, engine) = begin();
    let _turn = among_orphans().await;
    let lone = Lone::new(&environment, "unshared");
    let mut unshared = Command::new("unshare");
    unshared
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(&environment.bin)
        .args(["start", "--yes", "-q", &lone.agent, "--", "bash", "-c", "echo ready; cat"])
        .env(TOKEN_ENV, &lone.token)
        .env("CLAUDE_BOTTLE_MANIFEST", lone.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = unshared.spawn().unwrap();
    let mut line = String::new();
    let mut stdout = tokio::io::BufReader::new(child.stdout.take().unwrap());
    let heard = tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line);
    tokio::time::timeout(Duration::from_secs(60), heard).await.unwrap().unwrap();
    assert_eq!(line, "ready\n");

    let cleaned = lone.launcher().args(["cleanup", "-y"]).run().await.expect_code(0);
    assert!(!cleaned.stdout.contains(&lone.agent), "{}", cleaned.stdout);
    assert_eq!(labelled(&engine, &lone.label()).await.unwrap().len(), 5, "it lives");
    drop(child.stdin.take());
    let status = tokio::time::timeout(Duration::from_secs(60), child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_cannot_be_written_is_74_with_its_cause() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "devfull");
    for arguments in [
        &["start", "--yes", "-q", &lone.agent, "--", "echo", "hello"][..],
        &["start", "--dry-run", &lone.agent],
        &["list"],
        &["images", "list"],
    ] {
        let mut command = Command::new(&environment.bin);
        command
            .args(arguments)
            .env(TOKEN_ENV, &lone.token)
            .env("CLAUDE_BOTTLE_MANIFEST", lone.path())
            .stdin(Stdio::null())
            .stdout(File::options().write(true).open("/dev/full").unwrap())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // `output` would put a pipe in place of the full device.
        let ended = command.spawn().unwrap().wait_with_output();
        let output = tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(74), "{arguments:?}: {stderr}");
        assert!(stderr.contains("No space left on device"), "{arguments:?}: {stderr}");
        nothing_remains(&engine, &lone).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_elsewhere_is_not_used_in_clear_text() {
    let (environment, _) = begin();
    let lone = Lone::new(&environment, "address");
    let start = |host: &str, more: &[&str]| {
        let launcher = lone.launcher().args(["--host", host]).args(more);
        launcher.args(["start", "-y", "-q", &lone.agent, "--", "true"]).run()
    };
    let refused = start("tcp://198.51.100.1:2375", &[]).await.expect_code(69);
    assert!(
        refused.stderr.contains("unencrypted") && refused.stderr.contains("--insecure-engine"),
        "{refused:?}"
    );
    for (host, expected) in [
        ("ssh://ada@build", "ssh -L"),
        ("https://build:2376", "ssh -L"),
        ("unxi://x", "expected an engine address"),
    ] {
        let ran = start(host, &[]).await.expect_code(69);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        let dry = lone.launcher().args(["--host", host, "start", "--dry-run", &lone.agent]).run().await;
        assert_eq!((dry.code(), dry.stdout.as_str()), (Some(69), ""), "{dry:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_paths_are_relative_to_the_manifest_and_a_line_of_ssh_keyscan_is_a_host_key() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "relative");
    let mut manifest = lone.manifest();
    let row = &mut manifest["bottles"]["lone"]["ssh"][0];
    row["IdentityFile"] = json!("key");
    let key = row["KnownHostKey"].as_str().unwrap().to_owned();
    row["KnownHostKey"] = json!(format!("git.lone.invalid {key}"));
    lone.write(&manifest);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut command = Command::new(&environment.bin);
    command
        .args(["start", "-y", "-q", &lone.agent, "--", "cat", "/etc/claude-bottle/known_hosts"])
        .current_dir(elsewhere.path())
        .env(TOKEN_ENV, &lone.token)
        .env("CLAUDE_BOTTLE_MANIFEST", lone.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("git.lone.invalid {key}\n"));
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_wait_for_an_engine_that_is_stuck() {
    let (environment, _) = begin();
    let lone = Lone::new(&environment, "stuck");
    // A proxy of the engine that stops answering once the agent's container is to be created.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("engine.sock");
    let stuck = e2e::raw::stuck_at(&socket, "/containers/create");
    let host = format!("unix://{}", socket.display());
    let running = Launcher::new(&environment)
        .env(TOKEN_ENV, &lone.token)
        .env("CLAUDE_BOTTLE_MANIFEST", lone.path().to_str().unwrap())
        .args(["--host", &host, "start", "-y", "-q", &lone.agent, "--", "true"])
        .spawn();
    stuck.reached().await;
    running.signal("INT");
    running.signal("TERM");
    let signalled = std::time::Instant::now();
    let ran = running.end().await.expect_code(74);
    assert!(signalled.elapsed() < Duration::from_secs(10), "{:?}", signalled.elapsed());
    let network = format!("docker network rm claude-bottle-int-{}", lone.agent);
    assert!(ran.stderr.contains(&network), "{}", ran.stderr);
    // Whoever killed it twice cleans up.
    drop(stuck);
    let (_, engine) = begin();
    lone.launcher().args(["stop", &lone.agent]).run().await.expect_code(0);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_files_are_the_users_alone_and_hold_no_secret() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "state");
    let home = tempfile::tempdir().unwrap();
    let home = home.path().to_str().unwrap();
    lone.bash("exit 3").env("XDG_STATE_HOME", home).run().await.expect_code(3);
    let folder = fs::read_dir(format!("{home}/claude-bottle")).unwrap();
    let files: Vec<_> = folder.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let text = fs::read_to_string(&files[0]).unwrap();
    let state: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&state["instance"], &state["result"]["exit_code"]), (&json!(lone.agent), &json!(3)));
    assert!(!text.contains(&lone.token), "{text}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&files[0]).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    nothing_remains(&engine, &lone).await;
}
