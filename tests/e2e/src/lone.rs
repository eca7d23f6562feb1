//! A bottle with nobody behind its sidecars: for what the launcher does, whoever would answer them.
//!
//! It has a gate and a proxy, a key and a token, and networks of its own, so its launch takes every
//! step that there is; but its upstreams are names that nobody has, which nothing looks up. [`LoneSidecar`] is
//! the other half: a sidecar with no bottle.

mod sidecar;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use claude_bottle::engine::docker::Docker;
use serde_json::{Value, json};
use tempfile::TempDir;

pub use self::sidecar::LoneSidecar;
use crate::Environment;
use crate::bottle::{Launcher, names, nothing_left};
use crate::scene::labelled;

/// The variable from which the manifest has the token.
pub const TOKEN_ENV: &str = "LONE_TOKEN";

/// A manifest for an agent whose name no other test has, and what the manifest names.
#[derive(Debug)]
pub struct Lone {
    /// The agent's name, and its first bottle's instance.
    pub agent: String,
    /// The token behind [`TOKEN_ENV`].
    pub token: String,
    folder: TempDir,
    environment: Environment,
}

impl Lone {
    /// Makes a key and writes the manifest, in a folder that goes when this does.
    ///
    /// # Panics
    ///
    /// A file cannot be written, or there is no `ssh-keygen`.
    pub fn new(environment: &Environment, what: &str) -> Self {
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("no scratch folder: {error}"));
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", what, "-f"])
            .arg(folder.path().join("key"))
            .status();
        assert!(made.is_ok_and(|status| status.success()), "ssh-keygen is needed: install openssh-client");
        let (_, agent) = names(what);
        let lone = Self { agent, token: random_token(), folder, environment: environment.clone() };
        lone.write(&lone.manifest());
        lone
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its private key.
    pub fn key(&self) -> PathBuf {
        self.folder.path().join("key")
    }

    /// The manifest's file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("claude-bottle.json")
    }

    /// The manifest. A test changes in it what it is about.
    ///
    /// # Panics
    ///
    /// The key is gone.
    pub fn manifest(&self) -> Value {
        let public = fs::read_to_string(self.folder.path().join("key.pub"))
            .unwrap_or_else(|error| panic!("no public key: {error}"));
        let host_key = public.split(' ').take(2).collect::<Vec<_>>().join(" ");
        json!({
            "bottles": { "lone": {
                "image": self.environment.images.agent,
                "user": "node",
                "ssh": [ {
                    "Host": "git", "Hostname": "git.lone.invalid",
                    "IdentityFile": self.key(), "KnownHostKey": host_key,
                } ],
                "cred_proxy": { "routes": [ {
                    "path": "/api/", "upstream": "https://api.lone.invalid",
                    "auth": { "scheme": "bearer" }, "token": { "env": TOKEN_ENV },
                } ] },
                "limits": { "memory": "256MiB", "pids": 128 },
            } },
            "agents": { &self.agent: { "bottle": "lone", "command": ["bash"] } },
        })
    }

    /// Writes a manifest in place of its own.
    ///
    /// # Panics
    ///
    /// It cannot be written.
    pub fn write(&self, manifest: &Value) {
        fs::write(self.path(), format!("{manifest:#}\n"))
            .unwrap_or_else(|error| panic!("no manifest can be written: {error}"));
    }

    /// The launcher, with the manifest and the token.
    pub fn launcher(&self) -> Launcher {
        Launcher::new(&self.environment)
            .env(TOKEN_ENV, &self.token)
            .env("CLAUDE_BOTTLE_MANIFEST", &self.path().display().to_string())
    }

    /// `start --yes -q AGENT -- COMMAND`.
    pub fn start(&self, command: &[&str]) -> Launcher {
        self.launcher().args(["start", "--yes", "-q", &self.agent, "--"]).args(command)
    }

    /// `start --yes -q AGENT -- bash -c SCRIPT`.
    pub fn bash(&self, script: &str) -> Launcher {
        self.start(&["bash", "-c", script])
    }

    /// The label of everything of its bottles, however many.
    pub fn label(&self) -> String {
        format!("claude-bottle.agent={}", self.agent)
    }
}

/// What was built, and the machine's engine.
///
/// # Panics
///
/// Nothing was built, or there is no engine.
pub fn begin() -> (Environment, Docker) {
    let environment = crate::environment().unwrap_or_else(|error| panic!("{error}"));
    let engine = Docker::connect(None, false).unwrap_or_else(|error| panic!("{error}"));
    (environment, engine)
}

/// Asserts that nothing remains of the bottles of an agent, whatever their instances.
///
/// # Panics
///
/// Something does, or the engine cannot be asked.
pub async fn nothing_remains(engine: &Docker, lone: &Lone) {
    let left = labelled(engine, &lone.label()).await.unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(left, Vec::<String>::new());
    nothing_left(engine, &lone.agent).await.unwrap_or_else(|error| panic!("{error:?}"));
}

/// A token that nobody else has.
fn random_token() -> String {
    let mut bytes = [0; 20];
    File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .unwrap_or_else(|error| panic!("no random bytes: {error}"));
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("lone-token-{digits}")
}

/// Alone with what killed launchers leave: `cleanup` removes it whoever's test it is of, so the
/// tests that kill, or clean up, take turns. Held until it is dropped.
///
/// # Panics
///
/// The lock's file cannot be used.
pub async fn among_orphans() -> File {
    let path = std::env::temp_dir().join("claude-bottle-e2e-orphans.lock");
    let lock = move || {
        let file = File::options().create(true).write(true).truncate(false).open(path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    };
    let locked = tokio::task::spawn_blocking(lock).await;
    locked.expect("locking does not panic").unwrap_or_else(|error| panic!("no lock: {error}"))
}
