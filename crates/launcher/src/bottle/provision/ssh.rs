//! The ssh-agent of a bottle: root's, in memory, behind the guest's filtering relay.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use sidecar::exit::escape;
use tokio::io::AsyncWriteExt as _;

use super::{GUEST, KNOWN_HOSTS, PUBLIC_SOCKET, ProvisionError, SOCKET};
use crate::engine::{ContainerId, Engine, EngineError, ExecSpec, Output, Streams};
use crate::plan::{Plan, SshPlan};
use crate::secrets::Secrets;

/// Each program takes milliseconds; a machine under load takes longer.
const DEADLINE: Duration = Duration::from_secs(20);
/// What is kept of a program's output.
const KEPT: usize = 16 * 1024;
/// `ssh-add -h`, which binds a key to a host, came with OpenSSH 8.9.
const BINDING_SINCE: (u32, u32) = (8, 9);

/// Starts the ssh-agent, loads the plan's keys over stdin, and opens the public socket. Returns
/// what the user should know.
///
/// # Errors
/// [`ProvisionError`] when a program is missing or fails.
pub(crate) async fn ssh<E: Engine>(
    engine: &E,
    container: &ContainerId,
    plan: &Plan,
    secrets: &Secrets,
) -> Result<Vec<String>, ProvisionError> {
    if plan.ssh.is_empty() {
        return Ok(Vec::new());
    }
    let guest = Guest { engine, container };
    let agent = guest.run("ssh-agent", &["ssh-agent", "-a", SOCKET, "-P", ""], None);
    let (started, binding) = tokio::join!(agent, guest.binds_keys(plan));
    started?;
    let binding = binding?;
    let mut warnings = Vec::new();
    for (path, key) in &secrets.keys {
        let hosts: Vec<_> = plan.ssh.iter().filter(|ssh| ssh.identity_file == *path).collect();
        let mut command = vec!["ssh-add", "-q"];
        // A key that also serves a host whose own key is unknown can be bound to none.
        let pinned = hosts.iter().all(|ssh| ssh.known_host_key.is_some());
        if pinned && binding {
            command.extend(["-H", KNOWN_HOSTS]);
            hosts.iter().for_each(|ssh| command.extend(["-h", ssh.key_name.as_str()]));
        } else if pinned {
            warnings.push(unbound(&hosts));
        }
        command.push("-");
        guest.run("ssh-add", &command, Some(key)).await?;
    }
    guest.relay().await?;
    Ok(warnings)
}

fn unbound(hosts: &[&SshPlan]) -> String {
    let names: Vec<_> = hosts.iter().map(|ssh| ssh.alias.as_str()).collect();
    format!(
        "the image's OpenSSH is older than 8.9: the key of {} is not bound to its host and signs for any",
        names.join(", ")
    )
}

/// Root in the agent's container.
struct Guest<'a, E> {
    engine: &'a E,
    container: &'a ContainerId,
}

/// What a program left.
struct Done {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    code: i64,
}

impl<E: Engine> Guest<'_, E> {
    /// Whether the image's OpenSSH can bind a key to a host; not asked when no host is pinned.
    async fn binds_keys(&self, plan: &Plan) -> Result<bool, ProvisionError> {
        if plan.ssh.iter().all(|ssh| ssh.known_host_key.is_none()) {
            return Ok(false);
        }
        let done = self.run("ssh", &["ssh", "-V"], None).await?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        Ok(version(&said).is_some_and(|version| version >= BINDING_SINCE))
    }

    /// Runs a program to its end as root.
    async fn run(
        &self,
        program: &'static str,
        command: &[&str],
        stdin: Option<&[u8]>,
    ) -> Result<Done, ProvisionError> {
        let spec = spec(command, stdin.is_some());
        let whole = async {
            let exec = self.engine.exec(self.container, &spec).await?;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            if let Some(Streams { mut output, mut input }) = exec.streams {
                if let Some(bytes) = stdin {
                    // One that ends without reading says why on its stderr.
                    let _ = input.write_all(bytes).await;
                    let _ = input.shutdown().await;
                }
                while let Some(piece) = output.next().await {
                    let (kept, bytes) = match piece? {
                        Output::Stdout(bytes) => (&mut stdout, bytes),
                        Output::Stderr(bytes) => (&mut stderr, bytes),
                    };
                    kept.extend_from_slice(&bytes[..bytes.len().min(KEPT.saturating_sub(kept.len()))]);
                }
            }
            let code = self.engine.exec_exit_code(&exec.id).await?;
            Ok::<_, EngineError>(Done { stdout, stderr, code })
        };
        let done =
            tokio::time::timeout(DEADLINE, whole).await.map_err(|_| ProvisionError::Late(program))??;
        match done.code {
            0 => Ok(done),
            126 | 127 => Err(ProvisionError::NoProgram(program)),
            code => {
                let said = [done.stderr, done.stdout].concat();
                let said = escape(String::from_utf8_lossy(&said).trim());
                Err(ProvisionError::Program { program, said: format!("{said} (exit {code})") })
            }
        }
    }

    /// Starts the relay, which runs on by itself, and waits until it listens.
    async fn relay(&self) -> Result<(), ProvisionError> {
        let (listen, connect) = (format!("unix:{PUBLIC_SOCKET}"), format!("unix:{SOCKET}"));
        let command =
            [GUEST, "relay", "--ssh-agent", "--listen", &listen, "--mode", "0666", "--connect", &connect];
        let exec = self.engine.exec(self.container, &spec(&command, false)).await?;
        let mut said = Vec::new();
        let listening = async {
            let mut output = exec.streams.map(|streams| streams.output)?;
            while let Some(Ok(piece)) = output.next().await {
                match piece {
                    Output::Stdout(bytes) if bytes.contains(&b'\n') => return Some(()),
                    Output::Stdout(bytes) | Output::Stderr(bytes) => {
                        said.extend_from_slice(&bytes[..bytes.len().min(KEPT)]);
                    }
                }
            }
            None
        };
        match tokio::time::timeout(DEADLINE, listening).await {
            Ok(Some(())) => Ok(()),
            Ok(None) => {
                let said = escape(String::from_utf8_lossy(&said).trim());
                Err(ProvisionError::Program { program: "bottle-guest relay", said })
            }
            Err(_) => Err(ProvisionError::Late("bottle-guest relay")),
        }
    }
}

fn spec(command: &[&str], stdin: bool) -> ExecSpec {
    ExecSpec {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::from([("SSH_AUTH_SOCK".to_owned(), SOCKET.to_owned())]),
        user: Some("0:0".to_owned()),
        working_dir: Some("/".to_owned()),
        stdin,
        output: true,
    }
}

/// The version in `OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.15`.
fn version(said: &str) -> Option<(u32, u32)> {
    let rest = said.split_once("OpenSSH_")?.1;
    let (major, rest) = rest.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest[..digits].parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_images_openssh_says_whether_it_can_bind_keys() {
        assert_eq!(version("OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.15"), Some((9, 2)));
        assert!(version("OpenSSH_8.4p1") < Some(BINDING_SINCE));
        assert_eq!(version("sh: ssh: not found"), None);
    }
}
