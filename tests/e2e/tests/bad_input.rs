//! Bad input is told in one line, with its exit code and what to do, before anything was created.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use e2e::Scene;
use e2e::bottle::{Launcher, Ran, names, nothing_left};
use e2e::lone::{Lone, TOKEN_ENV, begin, nothing_remains};
use e2e::scene::labelled;
use serde_json::{Value, json};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_manifest_is_78_and_says_where_it_was_looked_for() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "nowhere");
    fs::remove_file(lone.path()).unwrap();
    let named = lone.bash("true").run().await;
    refused(&named, 78, &lone.path().display().to_string(), None);
    // No variable, and empty folders.
    let none = Launcher::new(&environment)
        .env("HOME", lone.folder().to_str().unwrap())
        .env("XDG_CONFIG_HOME", lone.folder().to_str().unwrap())
        .args(["start", "-y", &lone.agent, "--", "true"])
        .run()
        .await;
    refused(&none, 78, "no manifest: looked for claude-bottle.json and ", Some("--manifest"));
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_manifest_is_78_with_its_place_and_the_nearest_key() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "wrong");
    let mut misspelt = lone.manifest();
    misspelt["bottles"]["lone"]["imag"] = json!("x");
    let mut unknown_agent = lone.manifest();
    unknown_agent["agents"] = json!({ "other": { "bottle": "lone" } });
    let mut doubled = lone.manifest();
    let row = doubled["bottles"]["lone"]["ssh"][0].clone();
    doubled["bottles"]["lone"]["ssh"].as_array_mut().unwrap().push(row);
    let mut egress = lone.manifest();
    egress["bottles"]["lone"]["egress"] = json!({ "engine": "builtin", "allow": [] });
    for (manifest, error, hint) in [
        (misspelt, "bottles.lone.imag: unknown key", Some("did you mean `image`?")),
        (unknown_agent, lone.agent.as_str(), Some("the manifest has other")),
        (doubled, "ssh[1].Host: duplicate Host \"git\"", None),
        (egress, "egress.engine: engine `builtin` is not implemented yet", None),
    ] {
        lone.write(&manifest);
        refused(&lone.bash("true").run().await, 78, error, hint);
    }
    fs::write(lone.path(), "{ \"bottles\": ").unwrap();
    refused(&lone.bash("true").run().await, 78, "claude-bottle.json:1:", None);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_cannot_be_used_is_66() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "key");
    let locked = lone.folder().join("locked");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "a passphrase", "-f"])
        .arg(&locked)
        .status()
        .await;
    assert!(made.unwrap().success());
    let missing = lone.folder().join("missing");
    let public = lone.folder().join("key.pub");
    for (key, error, hint) in [
        (&missing, "could not read the key", None),
        (&locked, "has a passphrase", Some("ssh-keygen -p")),
        (&public, "is not a private key", None),
    ] {
        let mut manifest = lone.manifest();
        manifest["bottles"]["lone"]["ssh"][0]["IdentityFile"] = json!(key);
        lone.write(&manifest);
        let ran = lone.bash("true").run().await;
        refused(&ran, 66, error, hint);
        assert!(ran.stderr.contains(&key.display().to_string()), "{}", ran.stderr);
        assert!(ran.stderr.contains("ssh host git"), "{}", ran.stderr);
    }
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_used_is_66_and_is_not_told() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "token");
    let unset = lone.bash("true").env(TOKEN_ENV, "").run().await;
    refused(
        &unset,
        66,
        "route /api/: the environment variable LONE_TOKEN is not set",
        Some("export LONE_TOKEN"),
    );
    for (token, error) in [
        ("secret-1\nsecret-2", "a newline, perhaps"),
        ("secret-1\n", "a newline, perhaps"),
        ("secret", "shorter than 8 bytes"),
    ] {
        let ran = lone.bash("true").env(TOKEN_ENV, token).run().await;
        refused(&ran, 66, error, Some(""));
        assert!(ran.stderr.contains("route /api/") && !ran.stderr.contains("secret"), "{}", ran.stderr);
    }
    // A file's last newline is the editor's.
    let mut manifest = lone.manifest();
    let file = lone.folder().join("token");
    manifest["bottles"]["lone"]["cred_proxy"]["routes"][0]["token"] = json!({ "file": file });
    lone.write(&manifest);
    refused(&lone.bash("true").run().await, 66, "could not read the token", None);
    fs::write(&file, "two\nlines\n").unwrap();
    refused(&lone.bash("true").run().await, 66, "a newline, perhaps", Some(""));
    nothing_remains(&engine, &lone).await;
    fs::write(&file, "one-line-of-it\n").unwrap();
    lone.bash("true").run().await.expect_code(0);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_file_without_a_certificate_is_66() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "ca");
    let ca = lone.folder().join("ca.pem");
    let mut manifest = lone.manifest();
    manifest["bottles"]["lone"]["cred_proxy"]["routes"][0]["ca_file"] = json!(ca);
    lone.write(&manifest);
    refused(&lone.bash("true").run().await, 66, "could not read the CA file", None);
    let dry = lone.launcher().args(["start", "--dry-run", &lone.agent]).run().await.expect_code(0);
    assert!(dry.stderr.starts_with("warning: route /api/: could not read the CA file"), "{}", dry.stderr);
    for (text, expected) in [
        ("no markers", "no certificate found"),
        (
            "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n",
            "certificate 1 is not a valid X.509 certificate",
        ),
    ] {
        fs::write(&ca, text).unwrap();
        refused(&lone.bash("true").run().await, 66, expected, None);
    }
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_absent_or_closed_to_us_is_69() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "absent");
    let absent = "unix:///nonexistent/docker.sock";
    let start = lone.bash("true").env("DOCKER_HOST", absent).run().await;
    let error = format!("could not reach the container engine at {absent}");
    refused(&start, 69, &error, Some("start Docker, or set DOCKER_HOST"));
    for command in [&["list"][..], &["stop", "x"], &["cleanup"], &["images", "load"]] {
        let ran = lone.launcher().args(["--host", absent]).args(command).run().await;
        refused(&ran, 69, &error, Some("start Docker"));
    }
    let senseless = lone.launcher().args(["--host", "docker.sock", "list"]).run().await;
    refused(&senseless, 69, "expected an engine address", None);

    // Even root may not pass a socket of another's without the capability, so we become nobody.
    let socket = lone.folder().join("docker.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(lone.folder(), fs::Permissions::from_mode(0o755)).unwrap();
    let bin = lone.folder().join("claude-bottle");
    fs::copy(&environment.bin, &bin).unwrap();
    let mut nobody = Command::new("setpriv");
    nobody
        .args(["--reuid", "65534", "--clear-groups", "--regid", "65534"])
        .arg(&bin)
        .args(["--manifest", lone.path().to_str().unwrap(), "start", "-y", &lone.agent, "--", "true"])
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env(TOKEN_ENV, &lone.token)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(30), nobody.output()).await.unwrap().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{stderr}");
    assert!(stderr.starts_with("error: no permission to use the container engine at unix://"), "{stderr}");
    assert!(stderr.contains("\nhint: ") && stderr.lines().count() == 2, "{stderr}");
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_whose_upstream_is_down_starts_and_closes_at_once() {
    let (environment, engine) = begin();
    let scene = Box::pin(Scene::start(&engine, &environment.images)).await.unwrap();
    let mut manifest = scene.manifest();
    // The API's host is there, and nothing listens on its port 22.
    manifest["bottles"]["dev"]["ssh"][0]["Hostname"] = json!(scene.api.name);
    let path = scene.write_manifest(&manifest).unwrap();
    let (container, instance) = names("down");
    let script = "begin=$(date +%s%N); exec 3<>/dev/tcp/ssh-gate/30000; \
        echo connected; cat <&3; echo closed after $((($(date +%s%N) - begin) / 1000000)) ms";
    let ran = Launcher::start(&environment, &path, "demo", &container, script)
        .env(e2e::scene::TOKEN_ENV, &scene.api.token)
        .run()
        .await
        .expect_code(0);
    let took =
        ran.stdout.strip_prefix("connected\nclosed after ").and_then(|rest| rest.strip_suffix(" ms\n"));
    let took: u64 = took.unwrap_or_else(|| panic!("{ran:?}")).parse().unwrap();
    assert!(took < 2000, "{took} ms");
    nothing_left(&engine, &instance).await.unwrap();
    let label = format!("{}={}", e2e::scene::LABEL, scene.run);
    Box::pin(scene.remove(&engine)).await.unwrap();
    assert_eq!(labelled(&engine, &label).await.unwrap(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_table_with_a_port_twice_is_78() {
    let (environment, _) = begin();
    let folder = tempfile::tempdir().unwrap();
    let table = folder.path().join("ports.json");
    fs::write(
        &table,
        r#"{"forwards":[{"listen":2222,"upstream":"a.invalid:22"},{"listen":2222,"upstream":"b.invalid:22"}]}"#,
    )
    .unwrap();
    for command in [&["--ports"][..], &["check", "--ports"]] {
        let mut gate = Command::new(environment.sidecars.join("ssh-gate"));
        gate.args(command).arg(&table).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(10), gate.output()).await.unwrap().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains("ports.json:1:") && stderr.contains("2222 stands twice"), "{stderr}");
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_terminal_the_question_is_a_usage_error() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "noyes");
    let ran = lone.launcher().args(["start", &lone.agent, "--", "true"]).run().await;
    refused(&ran, 2, "stdin is not a terminal", Some("add --yes, or --dry-run"));
    assert!(ran.stderr.contains("ssh-gate:30000"), "the plan was shown: {}", ran.stderr);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn declining_is_1_and_only_yes_is_yes() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "declined");
    let ask = |answer: &str| {
        let launcher = lone.launcher().args(["start", &lone.agent, "--", "echo", "it", "ran"]);
        launcher.on_terminal().stdin(answer).run()
    };
    for answer in ["n\n", "\n", "maybe\n", "\x04"] {
        let ran = ask(answer).await.expect_code(1);
        // On a terminal stderr comes with stdout.
        assert!(ran.stdout.contains("launch this bottle? [y/N]"), "{}", ran.stdout);
        assert!(ran.stdout.contains("error: declined: nothing was changed"), "{}", ran.stdout);
        nothing_remains(&engine, &lone).await;
    }
    let ran = ask("y\n").await.expect_code(0);
    assert!(ran.stdout.contains("it ran"), "{}", ran.stdout);
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_shows_what_is_missing_and_prints_only_json() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "dry");
    let dry = || lone.launcher().args(["start", "--dry-run", &lone.agent]);
    let text = dry().env(TOKEN_ENV, "").run().await.expect_code(0);
    assert!(text.stdout.contains("credential /api/ from env:LONE_TOKEN (MISSING)"), "{}", text.stdout);
    assert_eq!(text.stderr, "");

    let json = dry().args(["--format", "json"]).run().await.expect_code(0);
    assert_eq!(json.stderr, "");
    let plan: Value = serde_json::from_str(&json.stdout).unwrap();
    has_the_documented_keys(&plan);
    assert_eq!(plan["credentials"][0]["state"], "present");
    assert!(plan["image"]["id"].as_str().unwrap().starts_with("sha256:"));
    assert!(!json.stdout.contains(&lone.token));

    // Without an engine, an image, a token or a key there is a plan all the same.
    fs::remove_file(lone.key()).unwrap();
    let absent = dry()
        .args(["--format", "json"])
        .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
        .env(TOKEN_ENV, "")
        .run()
        .await
        .expect_code(0);
    assert_eq!(absent.stderr, "");
    let without: Value = serde_json::from_str(&absent.stdout).unwrap();
    has_the_documented_keys(&without);
    assert_eq!((&without["engine"], &without["image"]["id"]), (&Value::Null, &Value::Null));
    assert_eq!(without["credentials"][0]["state"], "missing");
    nothing_remains(&engine, &lone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_makes_no_sense_is_2_and_help_shows_only_what_exists() {
    let (environment, engine) = begin();
    let lone = Lone::new(&environment, "later");
    let agent = lone.agent.as_str();
    for command in [
        &["start", agent][..],
        &["start", "--cwd", agent, "--", "true"],
        &["start", "--detach", agent, "--", "true"],
        &["start", "--prompt", "hello", agent],
        &["start"],
        &["attach", "x"],
        &["frobnicate"],
        &["list", "--format", "yaml"],
        &["stop"],
        &["images", "save", "no-such-image", "-o", "x.tar"],
    ] {
        let ran = lone.launcher().args(command).run().await.expect_code(2);
        assert_eq!((ran.stdout.as_str(), ran.stderr.matches("error: ").count()), ("", 1), "{}", ran.stderr);
    }
    let help = lone.launcher().args(["--help"]).run().await.expect_code(0).stdout;
    assert!(help.contains("cleanup") && !help.contains("attach") && !help.contains("not yet"), "{help}");
    nothing_remains(&engine, &lone).await;
}

/// Every key of the plan as it is documented, with its nesting, and no other.
fn has_the_documented_keys(plan: &Value) {
    let hardening = HARDENING.iter().map(|key| ((*key).to_owned(), json!(0)));
    let expected = json!({
        "version": 0, "manifest": 0, "instance": 0, "agent": 0, "mode": 0, "runtime": 0,
        "engine": { "product": 0, "version": 0, "api": 0, "arch": 0 },
        "image": { "name": 0, "id": 0, "derived": 0 },
        "build": null, "cwd": null, "git": null,
        "networks": [ { "name": 0, "internal": 0, "subnet": 0, "external": 0, "id": 0, "mtu": 0 } ],
        "sidecars": [
            { "role": 0, "name": 0, "image": 0, "digest": 0, "source": 0, "aliases": [],
              "forwards": [ { "listen": 0, "upstream": 0, "alias": 0, "protocol": 0 } ],
              "hardening": hardening.collect::<serde_json::Map<_, _>>() },
        ],
        "guest": { "image": 0, "digest": 0 },
        "agent_container": { "name": 0, "user": 0, "home": 0, "env": [], "env_digest": 0, "held_by_agent": [],
            "provided": {}, "mounts": [], "dns": [], "cap_drop": [], "limits": {}, "command": [], "prompt": 0,
            "prompt_digest": 0, "skills": [] },
        "ssh": [ { "alias": 0, "host": 0, "port": 0, "user": 0, "listen": 0, "host_key": 0,
            "host_key_digest": 0, "identity": 0, "state": 0 } ],
        "credentials": [ { "route": 0, "upstream": 0, "token": 0, "source": 0, "state": 0 } ],
        "egress": { "engine": 0, "allow": [] },
        "hosts": {}, "upstream_proxy": null, "ports": [], "keep": [], "signing": null,
        "reachability": [ { "from": 0, "to": 0, "verdict": 0 } ],
        "warnings": [], "hash": 0,
    });
    let keys = |value: &Value| -> BTreeSet<String> {
        value.as_object().unwrap_or_else(|| panic!("no object: {value}")).keys().cloned().collect()
    };
    assert_eq!(keys(plan), keys(&expected));
    for (key, shape) in expected.as_object().unwrap() {
        match (shape, &plan[key]) {
            (Value::Object(_), Value::Null) if key == "engine" => {}
            (Value::Object(shape), found) if shape.is_empty() => assert!(found.is_object(), "{key}: {found}"),
            (Value::Object(_), found) => assert_eq!(keys(found), keys(shape), "{key}"),
            (Value::Null, found) => assert!(found.is_null(), "{key}: {found}"),
            (Value::Array(shapes), Value::Array(found)) => {
                if let (Some(shape), Some(first)) = (shapes.first(), found.first()) {
                    assert_eq!(keys(first), keys(shape), "{key}");
                }
            }
            (Value::Array(_), found) => panic!("{key} is {found}"),
            _ => assert!(!plan[key].is_null(), "{key}"),
        }
    }
    let gate = &plan["sidecars"][0];
    assert_eq!(gate["role"], "ssh-gate");
    assert_eq!(keys(&gate["forwards"][0]), keys(&expected["sidecars"][0]["forwards"][0]));
    assert_eq!(keys(&gate["hardening"]), keys(&expected["sidecars"][0]["hardening"]));
    assert!(plan["sidecars"][1]["routes"].is_array() && plan["sidecars"][1]["forwards"].is_null());
}

const HARDENING: [&str; 7] =
    ["user", "read_only", "cap_drop", "no_new_privileges", "sysctls", "pids", "memory"];

/// One `error:` line with these words, the hint if one is expected, and nothing on stdout.
#[track_caller]
fn refused(ran: &Ran, code: i32, error: &str, hint: Option<&str>) {
    assert_eq!(ran.code(), Some(code), "{ran:?}");
    assert_eq!(ran.stdout, "");
    let lines = |prefix: &str| -> Vec<_> {
        ran.stderr.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect()
    };
    let errors = lines("error: ");
    assert!(errors.len() == 1 && errors[0].contains(error), "{error}: {}", ran.stderr);
    let hints = lines("hint: ");
    if let Some(hint) = hint {
        assert!(hints.len() == 1 && hints[0].contains(hint), "{hint}: {}", ran.stderr);
    }
}
