//! The scene itself: its hosts do what the demo and the other tests rely on, and nothing of it remains.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{Engine, ExecSpec, Output};
use e2e::scene::{LABEL, labelled};
use e2e::{Scene, environment};
use futures_util::StreamExt;

#[tokio::test(flavor = "multi_thread")]
async fn the_hosts_serve_each_other_and_nothing_of_the_scene_remains() {
    let environment = environment().unwrap_or_else(|error| panic!("{error}"));
    let engine = Docker::connect(None, false).unwrap();
    let mut scene = Box::pin(Scene::start(&engine, &environment.images)).await.unwrap();
    let label = format!("{LABEL}={}", scene.run);
    assert_eq!(labelled(&engine, &label).await.unwrap().len(), 3, "two hosts and their network");

    let other = scene.add_git_host(&engine, "other.demo.internal").await.unwrap().clone();
    let git = &scene.git_hosts[0];
    assert!(git.host_key.starts_with("ssh-ed25519 AAAA"), "{}", git.host_key);
    assert_ne!(git.host_key, other.host_key);

    // From the second host, as its root: the first one's repository, with the first one's key.
    let clone = format!(
        "echo '{} {}' >/tmp/known && cat >/tmp/key && chmod 600 /tmp/key && \
         GIT_SSH_COMMAND='ssh -i /tmp/key -o UserKnownHostsFile=/tmp/known -o BatchMode=yes' \
         git clone --quiet git@{}:demo.git /tmp/clone && cat /tmp/clone/README",
        git.name, git.host_key, git.name
    );
    let key = std::fs::read(&git.identity).unwrap();
    let said = run(&engine, &other.container, &clone, &key).await;
    assert!(said.contains("Hello from the other side of the gate."), "{said}");

    let token = &scene.api.token;
    let asked =
        "cat >/tmp/header && curl --silent --insecure --header @/tmp/header https://api.demo.internal/whoami";
    let said =
        run(&engine, &other.container, asked, format!("Authorization: Bearer {token}").as_bytes()).await;
    assert!(said.contains("\"authorized\":true"), "{said}");
    let said = run(&engine, &other.container, asked, b"Authorization: Bearer another").await;
    assert!(said.contains("\"authorized\":false"), "{said}");

    let path = scene.write_manifest(&scene.manifest()).unwrap();
    let manifest = std::fs::read_to_string(&path).unwrap();
    assert!(!manifest.contains(token));
    let removed = scene.remove(&engine).await.unwrap();
    assert_eq!((removed.containers, removed.networks), (3, 1));
    assert_eq!(labelled(&engine, &label).await.unwrap(), Vec::<String>::new());
    assert!(!path.exists());
}

/// Runs a shell command in a container with `input` on its stdin, and returns all that it said.
async fn run(
    engine: &Docker,
    id: &claude_bottle::engine::ContainerId,
    command: &str,
    input: &[u8],
) -> String {
    use tokio::io::AsyncWriteExt;

    let spec = ExecSpec {
        command: ["bash", "-c", command].map(String::from).to_vec(),
        stdin: true,
        output: true,
        ..ExecSpec::default()
    };
    let mut streams = engine.exec(id, &spec).await.unwrap().streams.unwrap();
    streams.input.write_all(input).await.unwrap();
    streams.input.shutdown().await.unwrap();
    let mut said = Vec::new();
    while let Some(piece) = streams.output.next().await {
        let (Output::Stdout(piece) | Output::Stderr(piece)) = piece.unwrap();
        said.extend_from_slice(&piece);
    }
    String::from_utf8_lossy(&said).into_owned()
}
