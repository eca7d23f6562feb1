//! A key that was loaded for one host signs for that host only, also through the relay.
//!
//! What an ssh client does after the key exchange is done here by hand: it binds its connection
//! to the session, with the host's signature of the session's id, and asks for the signature of
//! a log-in to that session (OpenSSH's PROTOCOL.agent and PROTOCOL, publickey-hostbound).

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod common;

use std::{fs, os::unix::net::UnixStream};

use common::{FAILURE, LIST, OPENSSH_IS_MISSING, Running, Scene, ask, openssh, string};

const SESSION: &[u8] = b"an exchange hash of 32 bytes....";

/// SSH_AGENT_SUCCESS and SSH_AGENT_SIGN_RESPONSE.
const SUCCESS: [u8; 1] = [6];
const SIGNED: u8 = 14;

/// An SSH host, as far as an ssh-agent can tell: a key that signs.
struct Host {
    scene: Scene,
    _ssh_agent: Running,
    key: Vec<u8>,
}

impl Host {
    fn new() -> Self {
        let scene = Scene::new();
        let _ssh_agent = scene.ssh_agent();
        let file = scene.key("host");
        assert!(scene.ssh_add("agent", &[file.to_str().unwrap()]).status.success());
        let key = first_key(&mut common::connect(&scene.path("agent")));
        Self { scene, _ssh_agent, key }
    }

    /// The extension `session-bind@openssh.com` for a session with this host.
    fn bind(&self) -> Vec<u8> {
        let request = [&[13][..], &string(&self.key), &string(SESSION), &[0; 4]].concat();
        let answer = ask(&mut common::connect(&self.scene.path("agent")), &request);
        assert_eq!(answer[0], SIGNED);
        let signature = &answer[1..];
        let name = string(b"session-bind@openssh.com");
        [&[27][..], &name, &string(&self.key), &string(SESSION), signature, &[0]].concat()
    }

    /// The request to sign a log-in there.
    fn log_in(&self, key: &[u8]) -> Vec<u8> {
        let data = [
            &string(SESSION)[..],
            &[50],
            &string(b"git"),
            &string(b"ssh-connection"),
            &string(b"publickey-hostbound-v00@openssh.com"),
            &[1],
            &string(b"ssh-ed25519"),
            &string(key),
            &string(&self.key),
        ]
        .concat();
        [&[13][..], &string(key), &string(&data), &[0; 4]].concat()
    }
}

/// The first key that is listed.
fn first_key(stream: &mut UnixStream) -> Vec<u8> {
    let listed = ask(stream, &LIST);
    assert_eq!(listed[..5], [12, 0, 0, 0, 1], "not exactly one key");
    let length = usize::try_from(u32::from_be_bytes(*listed[5..].first_chunk().unwrap())).unwrap();
    listed[9..][..length].to_vec()
}

/// A relay in front of an ssh-agent whose only key is for this host.
fn pinned_to(host: &Host) -> (Scene, Running, Running) {
    let scene = Scene::new();
    let ssh_agent = scene.ssh_agent();
    let key = scene.key("pinned");
    let host_key = fs::read_to_string(host.scene.path("host.pub")).unwrap();
    fs::write(scene.path("known_hosts"), format!("git.example {host_key}")).unwrap();
    let added = openssh("ssh-add")
        .arg("-H")
        .arg(scene.path("known_hosts"))
        .args(["-h", "git.example"])
        .arg(&key)
        .env("SSH_AUTH_SOCK", scene.path("agent"))
        .output()
        .expect(OPENSSH_IS_MISSING);
    assert!(added.status.success(), "{added:?}");
    let relay = scene.relay(&["--ssh-agent"]);
    (scene, ssh_agent, relay)
}

#[test]
fn it_signs_for_its_host() {
    let host = Host::new();
    let (scene, _ssh_agent, _relay) = pinned_to(&host);
    let key = first_key(&mut scene.connect());
    let mut client = scene.connect();
    assert_eq!(ask(&mut client, &host.bind()), SUCCESS);
    assert_eq!(first_key(&mut client), key);
    assert_eq!(ask(&mut client, &host.log_in(&key))[0], SIGNED);
}

#[test]
fn it_does_not_sign_for_another_host() {
    let (host, other) = (Host::new(), Host::new());
    let (scene, _ssh_agent, _relay) = pinned_to(&host);
    let key = first_key(&mut scene.connect());
    let mut client = scene.connect();
    assert_eq!(ask(&mut client, &other.bind()), SUCCESS);
    assert_eq!(ask(&mut client, &other.log_in(&key)), FAILURE);
    assert_eq!(ask(&mut client, &host.log_in(&key)), FAILURE);
}

#[test]
fn it_does_not_sign_on_an_unbound_connection() {
    let host = Host::new();
    let (scene, _ssh_agent, _relay) = pinned_to(&host);
    let key = first_key(&mut scene.connect());
    // Another's binding is another's.
    let mut bound = scene.connect();
    assert_eq!(ask(&mut bound, &host.bind()), SUCCESS);
    assert_eq!(ask(&mut scene.connect(), &host.log_in(&key)), FAILURE);
    let anything = [&[13][..], &string(&key), &string(b"anything"), &[0; 4]].concat();
    assert_eq!(ask(&mut scene.connect(), &anything), FAILURE);
    assert_eq!(ask(&mut bound, &anything), FAILURE);
}
