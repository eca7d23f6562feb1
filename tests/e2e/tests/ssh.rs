//! SSH in a bottle: real OpenSSH and git through the gate, with keys that the agent uses and never has.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

use claude_bottle::engine::Engine;
use e2e::Stage;
use serde_json::{Value, json};

/// The ssh-agent's own socket, which the search must not reach.
const SOCKET: &str = "/run/claude-bottle-agent.sock";

/// The lines of a script's `NAME yes` and `NAME no`.
fn outcome(stdout: &str, name: &str) -> bool {
    let line = stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    match line {
        Some("yes") => true,
        Some("no") => false,
        other => panic!("{name}: {other:?} in {stdout}"),
    }
}

/// The manifest without the hosts' keys: their ssh-agent keys are bound to no host.
fn unpinned(mut manifest: Value) -> Value {
    for row in manifest["bottles"]["dev"]["ssh"].as_array_mut().unwrap() {
        row.as_object_mut().unwrap().remove("KnownHostKey").unwrap();
    }
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_clones_commits_and_pushes_through_the_gate() {
    let stage = Stage::set().await;
    let script = "set -e; cd; git clone --quiet git:demo.git work; cd work; cat README; \
        git config user.name agent; git config user.email agent@demo.internal; \
        echo 'A line from the agent.' >>README; \
        git commit --quiet --all --message 'a commit from the bottle'; git push --quiet; \
        git log -1 --format=%H; ssh-add -l | wc -l";
    let ran = stage.run(&stage.scene.manifest(), "ssh-push", script, b"").await.expect_code(0);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", ran.stdout);
    assert_eq!(lines[0], "Hello from the other side of the gate.");
    assert_eq!(lines[2], "1", "one key is loaded");

    let host = &stage.scene.git_hosts[0].container.0;
    let log = "git -C /home/git/demo.git log -1 --format='%H %an %s' main";
    let pushed = stage.exec(host, "git", log, b"").await;
    assert_eq!(pushed.said.trim(), format!("{} agent a commit from the bottle", lines[1]));
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_key_is_not_the_pinned_one_is_refused() {
    let mut stage = Stage::set().await;
    let other = stage.scene.add_git_host(&stage.engine, "other.demo.internal").await.unwrap().clone();
    let mut manifest = stage.scene.manifest();
    manifest["bottles"]["dev"]["ssh"][0]["KnownHostKey"] = json!(other.host_key);
    // An agent that does not ask is told the same by what the ssh-agent signs: nothing.
    let script = "cd; git ls-remote git:demo.git && exit 0; \
        GIT_SSH_COMMAND='ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null' \
        git ls-remote git:demo.git && exit 0; git ls-remote other:demo.git >/dev/null && exit 7";
    let ran = stage.run(&manifest, "ssh-pin", script, b"").await.expect_code(7);
    assert!(ran.stderr.contains("Host key verification failed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("Permission denied (publickey)"), "{}", ran.stderr);
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_cannot_remove_lock_or_add_keys() {
    let stage = Stage::set().await;
    let script = include_str!("ssh/meddle.sh");
    let ran = stage.run(&stage.scene.manifest(), "ssh-meddle", script, b"").await.expect_code(0);
    // Against an ssh-agent of its own every attempt comes true: it is the relay that refuses.
    for attempt in ["add", "remove", "remove-all", "lock"] {
        assert!(outcome(&ran.stdout, &format!("own {attempt}")), "{attempt}\n{}\n{}", ran.stdout, ran.stderr);
    }
    for attempt in ["add", "remove", "remove-all", "lock", "smartcard"] {
        assert!(!outcome(&ran.stdout, &format!("bottle {attempt}")), "{attempt}\n{}", ran.stdout);
    }
    assert!(outcome(&ran.stdout, "unchanged"), "{}", ran.stdout);
    assert!(outcome(&ran.stdout, "usable"), "{}\n{}", ran.stdout, ran.stderr);
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_key_signs_for_its_own_host_and_for_nothing_else() {
    let mut stage = Stage::set().await;
    stage.scene.add_git_host(&stage.engine, "other.demo.internal").await.unwrap();
    let (git, other) = (&stage.scene.git_hosts[0], &stage.scene.git_hosts[1]);
    // The other host takes the first one's key, too: only the ssh-agent is in the way.
    let public = stage.engine.read_file(&git.container, "/run/scene/identity.pub").await.unwrap().unwrap();
    let append = "cat >>/home/git/.ssh/authorized_keys";
    assert_eq!(stage.exec(&other.container.0, "git", append, &public).await.code, 0);

    let script = include_str!("ssh/abuse.sh");
    let manifest = stage.scene.manifest();
    let naive = stage.run(&unpinned(manifest.clone()), "ssh-naive", script, &public).await.expect_code(0);
    for attempt in ["own", "other", "other-by-alias", "data"] {
        assert!(outcome(&naive.stdout, attempt), "{attempt}\n{}\n{}", naive.stdout, naive.stderr);
    }
    assert!(naive.stderr.contains("warning"), "an unpinned host is a warning: {}", naive.stderr);

    let pinned = stage.run(&manifest, "ssh-bound", script, &public).await.expect_code(0);
    assert!(outcome(&pinned.stdout, "own"), "{}\n{}", pinned.stdout, pinned.stderr);
    for attempt in ["other", "other-by-alias", "data"] {
        assert!(!outcome(&pinned.stdout, attempt), "{attempt}\n{}\n{}", pinned.stdout, pinned.stderr);
    }
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_private_key_is_readable_nowhere_in_the_container() {
    let stage = Stage::set().await;
    let key = std::fs::read_to_string(&stage.scene.git_hosts[0].identity).unwrap();
    // The fourth line of an unencrypted Ed25519 key holds the secret scalar's seed (PROTOCOL.key).
    let secret = key.lines().nth(4).unwrap();
    assert_eq!(secret.len(), 70, "a whole line of base64");
    let script = include_str!("ssh/search.sh");
    let input = format!("{SOCKET}\n{secret}\n");
    let ran = stage.run(&stage.scene.manifest(), "ssh-key", script, input.as_bytes()).await.expect_code(0);
    let found: Vec<&str> = ran.stdout.lines().filter_map(|line| line.strip_prefix("found ")).collect();
    assert_eq!(found, ["/home/node/planted"], "only what the search itself had planted");
    assert!(outcome(&ran.stdout, "own-memory"), "{}", ran.stdout);
    assert!(outcome(&ran.stdout, "ssh-agent-runs"), "{}", ran.stdout);
    for attempt in ["memory", "environment", "files", "socket"] {
        assert!(!outcome(&ran.stdout, attempt), "{attempt}\n{}", ran.stdout);
    }
    assert!(!ran.stderr.contains(secret));
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_of_a_host_logs_in_with_its_own_key() {
    let stage = Stage::set().await;
    let other = stage.scene.git_hosts[0].identity.with_extension("other");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&other)
        .status();
    assert!(made.unwrap().success());
    let mut manifest = stage.scene.manifest();
    let rows = manifest["bottles"]["dev"]["ssh"].as_array_mut().unwrap();
    let mut stranger = rows[0].clone();
    stranger["Host"] = json!("stranger");
    stranger["IdentityFile"] = json!(other);
    rows.insert(0, stranger);
    let script = "cd; git ls-remote git:demo.git >/dev/null && echo own yes || echo own no; \
        git ls-remote stranger:demo.git >/dev/null && echo stranger yes || echo stranger no";
    let ran = stage.run(&manifest, "ssh-keys", script, b"").await.expect_code(0);
    assert!(outcome(&ran.stdout, "own"), "{}", ran.stderr);
    assert!(!outcome(&ran.stdout, "stranger"), "it logged in with another row's key");
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_with_the_hosts_real_port_works() {
    let stage = Stage::set().await;
    let host = stage.scene.git_hosts[0].container.0.clone();
    let second = "/usr/sbin/sshd -f /etc/ssh/scene_sshd_config -p 2222";
    assert_eq!(stage.exec(&host, "0:0", second, b"").await.code, 0);
    let mut manifest = stage.scene.manifest();
    let rows = manifest["bottles"]["dev"]["ssh"].as_array_mut().unwrap();
    let mut lab = rows[0].clone();
    lab["Host"] = json!("lab");
    lab["Port"] = json!(2222);
    rows.push(lab);
    let script =
        "cd; for url in lab:demo.git git:demo.git ssh://git@git.demo.internal:2222/home/git/demo.git \
        ssh://git@git.demo.internal/home/git/demo.git git@git.demo.internal:demo.git; do
            git ls-remote \"$url\" >/dev/null && echo \"$url yes\" || echo \"$url no\"; done";
    let ran = stage.run(&manifest, "ssh-port", script, b"").await.expect_code(0);
    for line in ran.stdout.lines() {
        assert!(line.ends_with(" yes"), "{line}: {}", ran.stderr);
    }
    assert_eq!(ran.stdout.lines().count(), 5);
    stage.clear().await;
}
