//! The ssh-agent of a bottle: root's, in memory, behind the guest's filtering relay.

use super::guest::Guest;
use super::{KNOWN_HOSTS, ProvisionError, SOCKET};
use crate::engine::{ContainerId, Engine};
use crate::plan::{GUEST, PUBLIC_SOCKET, Plan, SshPlan};
use crate::secrets::Secrets;

/// Starts the ssh-agent with the public socket in front of it, and loads the plan's keys over stdin.
/// Returns what the user should know.
///
/// # Errors
/// [`ProvisionError`] when a program is missing or fails.
pub(crate) async fn ssh<E: Engine>(
    engine: &E,
    container: &ContainerId,
    plan: &Plan,
    secrets: &Secrets,
) -> Result<Vec<String>, ProvisionError> {
    let guest = Guest { engine, container, user: Some("0:0") };
    let (listen, connect) = (format!("unix:{PUBLIC_SOCKET}"), format!("unix:{SOCKET}"));
    // The relay is the agent's own command: both start with one exec, and the agent ends with the relay.
    let relay = [GUEST, "relay", "--ssh-agent", "--listen", &listen, "--mode", "0666", "--connect", &connect];
    let command = [&["ssh-agent", "-a", SOCKET, "-P", ""][..], &relay].concat();
    guest.start("ssh-agent", &command).await?;
    let mut warnings = Vec::new();
    for (path, key) in &secrets.keys {
        let hosts: Vec<_> = plan.ssh.iter().filter(|ssh| ssh.identity == *path).collect();
        let add = async |binding: &[&str]| {
            let command = [&["ssh-add", "-q"], binding, &["-"]].concat();
            guest.run("ssh-add", &command, Some(&key.bytes)).await
        };
        // A key that is also used for a host whose own key is unknown cannot be bound to any.
        let mut binding = Vec::new();
        if hosts.iter().all(|ssh| ssh.known_host_key.is_some()) {
            binding.extend(["-H", KNOWN_HOSTS]);
            hosts.iter().for_each(|ssh| binding.extend(["-h", ssh.key_name.as_str()]));
        }
        let mut done = add(&binding).await?;
        // OpenSSH before 8.9.
        if !binding.is_empty() && (done.failed_with("option -- ") || done.failed_with("usage:")) {
            warnings.push(unbound(&hosts));
            done = add(&[]).await?;
        }
        done.success("ssh-add")?;
    }
    Ok(warnings)
}

fn unbound(hosts: &[&SshPlan]) -> String {
    let names: Vec<_> = hosts.iter().map(|ssh| ssh.alias.as_str()).collect();
    format!(
        "the image's OpenSSH is older than 8.9: the key of {} is not bound to its host and signs for any",
        names.join(", ")
    )
}
