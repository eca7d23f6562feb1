//! Through the public socket the agent lists keys and signs; it removes, adds and locks none.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod common;

use std::fs;

use common::{OPENSSH_IS_MISSING, Scene, openssh};

/// An ssh-agent with one key, `kept`.
fn scene() -> (Scene, common::Running) {
    let scene = Scene::new();
    let ssh_agent = scene.ssh_agent();
    let kept = scene.key("kept");
    assert!(scene.ssh_add("agent", &[kept.to_str().unwrap()]).status.success());
    assert_eq!(scene.held(), ["kept"]);
    (scene, ssh_agent)
}

/// Why the filter exists: bytes carried unchanged let the agent do all of it.
#[test]
fn without_the_filter_the_agent_removes_the_keys() {
    let (scene, _ssh_agent) = scene();
    let _relay = scene.relay(&[]);
    assert!(scene.ssh_add("public", &["-D"]).status.success());
    assert_eq!(scene.held(), [""; 0]);
}

#[test]
fn keys_are_listed() {
    let (scene, _ssh_agent) = scene();
    let _relay = scene.relay(&["--ssh-agent"]);
    let listed = scene.ssh_add("public", &["-L"]);
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(listed.stdout, scene.ssh_add("agent", &["-L"]).stdout);
}

#[test]
fn what_would_change_the_ssh_agent_fails_and_the_key_is_still_there() {
    let (scene, _ssh_agent) = scene();
    let _relay = scene.relay(&["--ssh-agent"]);
    let other = scene.key("other");
    let (kept, other) = (scene.path("kept.pub"), other.to_str().unwrap());
    let attacks: [&[&str]; 8] = [
        &["-D"],
        &["-d", kept.to_str().unwrap()],
        &[other],
        &["-t", "60", other],
        &["-c", other],
        &["-s", "/usr/lib/provider.so"],
        &["-e", "/usr/lib/provider.so"],
        &["-h", "host.example", other],
    ];
    for attack in attacks {
        let tried = scene.ssh_add("public", attack);
        assert!(!tried.status.success(), "ssh-add {attack:?} succeeded: {tried:?}");
        assert_eq!(scene.held(), ["kept"], "after ssh-add {attack:?}");
    }
}

/// `ssh-add -x` asks for a passphrase on a terminal, so here are the messages it sends.
#[test]
fn locking_fails_and_the_key_is_still_there() {
    let (scene, _ssh_agent) = scene();
    let _relay = scene.relay(&["--ssh-agent"]);
    for kind in [22, 23] {
        let message = [&[kind][..], &common::string(b"passphrase")].concat();
        assert_eq!(common::ask(&mut scene.connect(), &message), common::FAILURE);
        assert_eq!(scene.held(), ["kept"]);
    }
    // The same message does lock where nothing filters.
    let lock = [&[22][..], &common::string(b"passphrase")].concat();
    assert_eq!(common::ask(&mut common::connect(&scene.path("agent")), &lock), [6]);
    assert_eq!(scene.held(), [""; 0]);
}

#[test]
fn the_ssh_agent_signs() {
    let (scene, _ssh_agent) = scene();
    let _relay = scene.relay(&["--ssh-agent"]);
    // Without the private key's file only the ssh-agent can sign.
    fs::remove_file(scene.path("kept")).unwrap();
    fs::write(scene.path("text"), vec![b'x'; 100_000]).unwrap();
    let signed = openssh("ssh-keygen")
        .args(["-Y", "sign", "-n", "test", "-f"])
        .args([scene.path("kept.pub"), scene.path("text")])
        .env("SSH_AUTH_SOCK", scene.path("public"))
        .output()
        .expect(OPENSSH_IS_MISSING);
    assert!(signed.status.success(), "{signed:?}");

    let verified = openssh("ssh-keygen")
        .args(["-Y", "check-novalidate", "-n", "test", "-s"])
        .arg(scene.path("text.sig"))
        .stdin(fs::File::open(scene.path("text")).unwrap())
        .output()
        .expect(OPENSSH_IS_MISSING);
    assert!(verified.status.success(), "{verified:?}");
}
