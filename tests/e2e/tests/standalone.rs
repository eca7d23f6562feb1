//! The sidecars' images by themselves: what is saved is what loads, holds nothing but the binary, and
//! serves whoever runs it without a launcher.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

#[path = "standalone/archive.rs"]
mod archive;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claude_bottle::engine::Engine;
use claude_bottle::engine::docker::Docker;
use e2e::bottle::Launcher;
use e2e::lone::LoneSidecar;
use e2e::raw::{shown, told};
use e2e::stage::Place;
use e2e::{Environment, Stage, environment};
use serde_json::{Value, json};
use testbed::eventually;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use self::archive::Archive;

/// How long an engine that also serves other tests may take to show what it was asked for.
const SOON: Duration = Duration::from_secs(30);

/// A program that ignored SIGTERM as PID 1 would be killed after 10 s, with another exit code.
const AT_ONCE: Duration = Duration::from_secs(5);

const DAEMONS: [&str; 2] = ["ssh-gate", "cred-proxy"];

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_image_holds_the_static_binary_and_nothing_else_and_loads_by_the_id_known_beforehand() {
    let environment = environment().unwrap_or_else(|error| panic!("{error}"));
    let engine = Docker::connect(None, false).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in DAEMONS {
        let digests = digest(&environment, name).await;
        let path = folder.path().join(format!("{name}.tar"));
        let words = ["images", "save", name, "-o", path.to_str().unwrap(), "--format", "json"];
        let saved = Launcher::new(&environment).args(words).run().await.expect_code(0);
        assert_eq!(serde_json::from_str::<Value>(&saved.stdout).unwrap()[0], digests);

        let image = Archive::read(&fs::read(&path).unwrap()).only_image();
        let binary = fs::read(environment.sidecars.join(name)).unwrap();
        assert_eq!(image.files, [(name.to_owned(), 0o555, binary.clone())], "{name}");
        assert_eq!(image.id, digests["config"]);
        let config = &image.config["config"];
        assert_eq!(config["Entrypoint"], json!([format!("/{name}")]));
        assert_eq!(config["Cmd"], Value::Null);
        assert_eq!(config["User"], "65532:65532");
        assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", format!("/{name}"), "healthcheck"]));
        assert_eq!(config["Labels"]["org.opencontainers.image.title"], name);
        // An archive of the sources has no revision to tell.
        let revision = images().parent().unwrap().join(".git").exists().then_some("revision");
        for label in ["version", "licenses"].into_iter().chain(revision) {
            let value = &config["Labels"][format!("org.opencontainers.image.{label}")];
            assert!(value.as_str().is_some_and(|value| !value.is_empty()), "{name} has no {label}");
        }
        let (env, ports) = match name {
            "ssh-gate" => {
                (json!(["SSH_GATE_BIND=0.0.0.0", "SSH_GATE_PORTS=/run/ssh-gate/ports.json"]), Value::Null)
            }
            _ => (
                json!(["CRED_PROXY_LISTEN=0.0.0.0:9099", "CRED_PROXY_ROUTES=/run/cred-proxy/routes.json"]),
                json!({ "9099/tcp": {} }),
            ),
        };
        assert_eq!((&config["Env"], &config["ExposedPorts"]), (&env, &ports), "{name}");

        let id = load(&environment, &engine, name).await;
        assert!([&digests["config"], &digests["manifest"]].contains(&&json!(id)), "{name}: {id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_images_are_saved_together_to_a_file_or_to_stdout_but_never_to_a_terminal() {
    let environment = environment().unwrap_or_else(|error| panic!("{error}"));
    let engine = Docker::connect(None, false).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("images.tar");
    let launcher = || Launcher::new(&environment).args(["images"]);
    let saved = launcher().args(["save", path.to_str().unwrap()]).run().await.expect_code(0);
    let names = DAEMONS.into_iter().chain(["bottle-guest"]);
    for (line, name) in saved.stdout.lines().zip(names) {
        assert!(line.starts_with(&format!("localhost/claude-bottle/{name}:")), "{line}");
    }
    let bytes = fs::read(&path).unwrap();
    assert_eq!(Archive::read(&bytes).images().len(), 3);
    for to_stdout in [&["save"][..], &["save", "-"], &["save", "-o", "-"]] {
        let mut command = std::process::Command::new(&environment.bin);
        let output = command.arg("images").args(to_stdout).output().unwrap();
        assert!(output.status.success() && output.stdout == bytes, "{to_stdout:?}");
    }
    engine.load_image(bytes.into()).await.unwrap();
    let verified = launcher().args(["verify"]).run().await.expect_code(0);
    assert_eq!(verified.stdout.matches(" equal ").count(), 3, "{}", verified.stdout);

    let refused = launcher().args(["save", "ssh-gate"]).on_terminal().run().await.expect_code(2);
    assert!(refused.stdout.contains("not for a terminal"), "{}", refused.stdout);
    let refused = launcher().args(["save", "ssh-gaet"]).run().await.expect_code(2);
    assert!(refused.stderr.contains("found \"ssh-gaet\""), "{}", refused.stderr);
    let refused = launcher().args(["save", "/nonexistent/images.tar"]).run().await.expect_code(74);
    assert!(refused.stderr.contains("`/nonexistent/images.tar`"), "{}", refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_by_itself_carries_git_says_when_it_drains_and_ends_at_once() {
    let stage = Stage::set().await;
    let image = load(&stage.environment, &stage.engine, "ssh-gate").await;
    let table =
        json!({ "forwards": [ { "listen": 30000, "upstream": "git.demo.internal:22", "alias": "git" } ] });
    let ports = file(&stage, "ports.json", &table.to_string());
    // The drain long enough to be looked at, however slow the machine; the admin endpoint for others.
    let variables = [("SSH_GATE_DRAIN_TIMEOUT", "60s"), ("SSH_GATE_ADMIN", "0.0.0.0:9901")];
    let files = [(ports.as_path(), "/run/ssh-gate/ports.json")];
    let gate = LoneSidecar::run(&stage, "ssh-gate", &image, &variables, &files).await;
    gate.healthy().await;

    let user = stage.neighbour("user", Place::Scene, &[]).await;
    let git = &stage.scene.git_hosts[0];
    let clone = format!(
        "cd /tmp; umask 077; cat >key; echo 'git.demo.internal {}' >known; \
         GIT_SSH_COMMAND='ssh -i key -p 30000 -o HostKeyAlias=git.demo.internal -o UserKnownHostsFile=known \
         -o BatchMode=yes' git clone --quiet git@ssh-gate:demo.git work && cat work/README",
        git.host_key
    );
    let done = stage.exec(&user, "0:0", &clone, &fs::read(&git.identity).unwrap()).await;
    assert_eq!((done.code, done.said.trim()), (0, "Hello from the other side of the gate."));

    let ask = "curl --silent --fail --max-time 10 http://ssh-gate:9901/metrics";
    let done = stage.exec(&user, "0:0", ask, b"").await;
    assert!(done.said.contains("ssh_gate_connections_total{alias=\"git\",end=\"eof\"} 1"), "{}", done.said);

    // An open connection holds the drain, and while it does the gate is alive and not ready.
    let mut open = TcpStream::connect((gate.address().await, 30000)).await.unwrap();
    let mut banner = [0; 8];
    open.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    assert_eq!(gate.healthcheck().await, 0);
    gate.terminate().await;
    eventually(SOON, || async { gate.healthcheck().await == 1 }).await;
    assert_eq!(gate.inspect().await["State"]["Status"], "running");
    drop(open);
    assert_eq!(gate.ended().await, 0);

    gate.start().await;
    eventually(SOON, || async { gate.healthcheck().await == 0 }).await;
    let (code, took) = gate.stop().await;
    assert!(code == 0 && took < AT_ONCE, "{code} after {took:?}");
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_by_itself_spends_a_token_from_a_file_that_only_it_reads_and_ends_at_once() {
    let stage = Stage::set().await;
    let image = load(&stage.environment, &stage.engine, "cred-proxy").await;
    let table = json!({ "routes": [ {
        "path": "/api/", "upstream": "https://api.demo.internal", "auth": { "scheme": "bearer" },
        "token_env": "CRED_PROXY_TOKEN_0", "allow_private_upstream": true,
    } ] });
    let token = stage.scene.api.token.clone();
    let (routes, secret, ca) = (
        file(&stage, "routes.json", &table.to_string()),
        file(&stage, "token", &format!("{token}\n")),
        file(&stage, "api-ca.pem", &stage.scene.api.ca_pem),
    );
    let variables = [
        ("CRED_PROXY_TOKEN_0_FILE", "/run/secrets/api-token"),
        ("CRED_PROXY_CA_FILE", "/run/cred-proxy/ca.pem"),
    ];
    let files = [
        (routes.as_path(), "/run/cred-proxy/routes.json"),
        (&secret, "/run/secrets/api-token"),
        (&ca, "/run/cred-proxy/ca.pem"),
    ];
    let proxy = LoneSidecar::run(&stage, "cred-proxy", &image, &variables, &files).await;
    proxy.healthy().await;

    let user = stage.neighbour("user", Place::Scene, &[]).await;
    let ask = "curl --silent --fail --max-time 10 http://cred-proxy:9099/api/whoami";
    let done = stage.exec(&user, "0:0", ask, b"").await;
    assert!(done.code == 0 && done.said.contains(r#""authorized":true"#), "{done:?}");
    assert!(!done.said.contains(&token), "{done:?}");
    assert!(!proxy.inspect().await.to_string().contains(&token), "the engine shows the token");

    let (code, took) = proxy.stop().await;
    assert!(code == 0 && took < AT_ONCE, "{code} after {took:?}");
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_bottle_too_the_engine_finds_the_sidecars_healthy() {
    let stage = Stage::set().await;
    let bottle = stage.idle(&stage.scene.manifest(), "healthy").await;
    for name in DAEMONS {
        let path = format!("/containers/{}/json", bottle.sidecar(name));
        eventually(Duration::from_secs(60), || async {
            let shown: Value = serde_json::from_slice(&shown(&path).await).unwrap();
            shown["State"]["Health"]["Status"] == "healthy"
        })
        .await;
    }
    bottle.end().await;
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_built_by_a_dockerfile_is_configured_like_the_launchers() {
    let environment = environment().unwrap_or_else(|error| panic!("{error}"));
    let engine = Docker::connect(None, false).unwrap();
    for name in DAEMONS {
        let mut ours = configuration(&load(&environment, &engine, name).await).await;
        let revision = ours["Labels"]["org.opencontainers.image.revision"].as_str().unwrap_or("unknown");
        let revision = revision.to_owned();
        ours["Labels"]["org.opencontainers.image.revision"] = json!(revision);

        let binary = fs::read(environment.sidecars.join(name)).unwrap();
        // Of the one that builds the binary, by what a registry has, the stage that says what it is.
        for (file, target) in [("Dockerfile.prebuilt", ""), ("Dockerfile", "described")] {
            let dockerfile = fs::read(images().join(name).join(file)).unwrap();
            let tag = build(name, &dockerfile, target, &binary, &revision).await;
            let built = configuration(&tag).await;
            engine.remove_image(&tag).await.unwrap();
            assert_eq!(built, ours, "{name} by {file}");
        }
    }
}

/// Builds an image in a folder that holds the binary, and returns its name.
async fn build(name: &str, dockerfile: &[u8], target: &str, binary: &[u8], revision: &str) -> String {
    let mut context = tar::Builder::new(Vec::new());
    for (path, mode, content) in [("Dockerfile", 0o644, dockerfile), (name, 0o555, binary)] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        context.append_data(&mut header, path, content).unwrap();
    }
    let tag = format!("localhost/claude-bottle/test-{name}:{}", std::process::id());
    let arguments = json!({ "REVISION": revision }).to_string();
    let arguments: String = arguments.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let path = format!("/build?target={target}&forcerm=1&t={tag}&buildargs={arguments}");
    let (status, said) = told("POST", &path, "application/x-tar", &context.into_inner().unwrap()).await;
    let said = String::from_utf8_lossy(&said);
    assert!(status == 200 && said.contains("Successfully tagged"), "{status} {said}");
    tag
}

/// The folder of the Dockerfiles.
fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().join("images")
}

/// What an image says of how it is to be run.
async fn configuration(image: &str) -> Value {
    let shown: Value = serde_json::from_slice(&shown(&format!("/images/{image}/json")).await).unwrap();
    let config = &shown["Config"];
    let or_null = |value: &Value| if *value == json!([]) { Value::Null } else { value.clone() };
    let mut env: Vec<&str> = config["Env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    // BuildKit gives one to every image, also where there is no shell to read it.
    env.retain(|variable| !variable.starts_with("PATH="));
    env.sort_unstable();
    json!({
        "Entrypoint": config["Entrypoint"], "Cmd": or_null(&config["Cmd"]), "User": config["User"], "Env": env,
        "WorkingDir": config["WorkingDir"].as_str().unwrap_or_default(), "ExposedPorts": config["ExposedPorts"],
        "Healthcheck": config["Healthcheck"], "Labels": config["Labels"],
    })
}

async fn digest(environment: &Environment, name: &str) -> Value {
    let words = ["images", "digest", name, "--format", "json"];
    let ran = Launcher::new(environment).args(words).run().await.expect_code(0);
    serde_json::from_str::<Value>(&ran.stdout).unwrap()[0].clone()
}

/// Saves an image and loads what was saved, and returns its id.
async fn load(environment: &Environment, engine: &Docker, name: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let words = ["images", "save", name, "-q", "-o", path.to_str().unwrap()];
    let saved = Launcher::new(environment).args(words).run().await.expect_code(0);
    assert_eq!((saved.stdout.as_str(), saved.stderr.as_str()), ("", ""));
    engine.load_image(fs::read(&path).unwrap().into()).await.unwrap();
    let tag = digest(environment, name).await["image"].as_str().unwrap().to_owned();
    engine.image(&tag).await.unwrap().expect("the loaded image has its name").id
}

/// A file of the scene's that the image's user may read; only its folder is closed to others.
fn file(stage: &Stage, name: &str, content: &str) -> PathBuf {
    let path = stage.scene.folder().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
    path
}
