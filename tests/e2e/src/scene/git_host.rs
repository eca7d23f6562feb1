//! A git host of a scene: sshd, a user `git`, and `/home/git/demo.git` with one commit.
//!
//! It makes its keys itself, so that the machine needs no OpenSSH.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use claude_bottle::engine::{ContainerId, Engine};

use super::SceneError;
use super::container::{self, Part};

/// Where a git host's repository is, as `git clone` names it after the host.
pub const REPOSITORY: &str = "demo.git";

/// What sshd says once it accepts connections.
const LISTENING: &str = "Server listening on";

/// A running git host.
#[derive(Debug, Clone)]
pub struct GitHost {
    /// The container.
    pub container: ContainerId,
    /// Its name on the scene's network.
    pub name: String,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Its public key, as `KnownHostKey` takes it: `ssh-ed25519 AAAA...`.
    pub host_key: String,
    /// The file of the private key that its user `git` accepts.
    pub identity: PathBuf,
}

/// Starts a git host and takes its keys into `folder`.
pub(super) async fn start<E: Engine>(
    engine: &E,
    part: Part<'_>,
    folder: &Path,
) -> Result<GitHost, SceneError> {
    let (name, address) = (part.name.to_owned(), part.address);
    let mut spec = container::spec(&part);
    spec.entrypoint = ["bash", "-c", include_str!("git_host.sh")].map(String::from).to_vec();
    spec.user = Some("0".to_owned());
    // What sshd needs to become the user `git`, and the script to hand the repository to it.
    spec.cap_add =
        ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"]
            .map(String::from)
            .to_vec();
    let container = container::create(engine, &name, &spec).await?;
    container::start(engine, &name, &container, None, LISTENING).await?;

    let host_key = read(engine, &container, "/etc/ssh/ssh_host_ed25519_key.pub").await?;
    let identity = folder.join(format!("{name}.identity"));
    let private = read(engine, &container, "/run/scene/identity").await?;
    write_private(&identity, private.as_bytes())
        .map_err(|source| SceneError::File { path: identity.clone(), source })?;
    let host_key = host_key.split(' ').take(2).collect::<Vec<_>>().join(" ").trim().to_owned();
    Ok(GitHost { container, name, address, host_key, identity })
}

async fn read<E: Engine>(engine: &E, id: &ContainerId, path: &str) -> Result<String, SceneError> {
    let content =
        engine.read_file(id, path).await.map_err(SceneError::engine("read a key of the git host"))?;
    let content = content.ok_or_else(|| SceneError::KeyMissing { path: path.to_owned() })?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}
