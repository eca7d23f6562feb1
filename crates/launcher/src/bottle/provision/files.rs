//! The files that are put into the agent's container before it starts.

use std::fmt::Write as _;

use bytes::Bytes;

use super::{KNOWN_HOSTS, ProvisionError, User};
use crate::plan::{GUEST, HostKeyCheck, PUBLIC_SOCKET, Plan, SshPlan};
use crate::secrets::Secrets;

/// The name of the prompt's file in the home folder.
const PROMPT: &str = ".claude-bottle-prompt.txt";

/// The archive: the guest, the prompt, and what `ssh` needs. No secret is in it.
///
/// # Errors
/// [`ProvisionError::Pack`] when a path does not fit into an archive.
pub(crate) fn files(plan: &Plan, user: &User, secrets: &Secrets) -> Result<Bytes, ProvisionError> {
    // Sized beforehand: the guest is most of it.
    let mut files = Files(tar::Builder::new(Vec::with_capacity(plan.guest.binary.len() + ROOM)));
    let root = User { uid: 0, gid: 0, home: String::new() };
    let pack = ProvisionError::Pack;
    // Not readable, so that the kernel does not let others trace it.
    files.file(GUEST.trim_start_matches('/'), 0o111, &root, &plan.guest.binary).map_err(pack)?;
    let prompt = &plan.agent_container.prompt_text;
    files.file(&user.path(PROMPT), 0o600, user, prompt.as_bytes()).map_err(pack)?;
    if !plan.ssh.is_empty() {
        let hosts = known_hosts(plan);
        files.file(KNOWN_HOSTS.trim_start_matches('/'), 0o644, &root, hosts.as_bytes()).map_err(pack)?;
        files.folder(&user.path(".ssh/"), 0o700, user).map_err(pack)?;
        files.file(&user.path(".ssh/config"), 0o600, user, config(plan).as_bytes()).map_err(pack)?;
        files.file(&user.path(".ssh/known_hosts"), 0o600, user, hosts.as_bytes()).map_err(pack)?;
        for ssh in &plan.ssh {
            if let Some(key) = secrets.keys.get(&ssh.identity) {
                let public = format!("{}\n", key.public);
                files.file(&user.path(&identity(ssh)), 0o600, user, public.as_bytes()).map_err(pack)?;
            }
        }
    }
    files.0.into_inner().map(Bytes::from).map_err(pack)
}

/// For the small files and the headers.
const ROOM: usize = 64 << 10;

/// The public half of a row's key, relative to the home folder.
fn identity(ssh: &SshPlan) -> String {
    format!(".ssh/{}.pub", ssh.alias)
}

/// The prompt's path in the container.
pub(crate) fn prompt_path(home: &str) -> String {
    format!("{home}/{PROMPT}")
}

struct Files(tar::Builder<Vec<u8>>);

impl Files {
    fn file(&mut self, path: &str, mode: u32, user: &User, bytes: &[u8]) -> std::io::Result<()> {
        let mut header = header(tar::EntryType::Regular, mode, user);
        header.set_size(bytes.len() as u64);
        self.0.append_data(&mut header, path, bytes)
    }

    fn folder(&mut self, path: &str, mode: u32, user: &User) -> std::io::Result<()> {
        let mut header = header(tar::EntryType::Directory, mode, user);
        header.set_size(0);
        self.0.append_data(&mut header, path, std::io::empty())
    }
}

fn header(kind: tar::EntryType, mode: u32, user: &User) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(user.uid);
    header.set_gid(user.gid);
    header.set_mtime(0);
    header
}

/// One line per pinned host, under the name that `HostKeyAlias` gives it.
fn known_hosts(plan: &Plan) -> String {
    let mut lines = String::new();
    for ssh in &plan.ssh {
        if let Some(key) = &ssh.known_host_key {
            // Writing to a string cannot fail.
            let _ = writeln!(lines, "{} {}", ssh.key_name, key.0);
        }
    }
    lines
}

/// Two blocks for each row. The first serves its alias, and the host's own name when no other row has
/// it. The second serves `ssh://HOST:PORT/` with the real port, which ssh takes over the one of any
/// configuration: there the guest connects to the gate.
fn config(plan: &Plan) -> String {
    let mut text = String::from("# Written by claude-bottle: every host is reached through ssh-gate.\n");
    for ssh in &plan.ssh {
        let SshPlan { alias, host, port, user, listen, key_name, .. } = ssh;
        let same_host = || plan.ssh.iter().filter(|other| other.host == *host);
        let known = plan.ssh.iter().any(|other| other.alias == *host);
        let also = if same_host().count() == 1 && !known { format!(" {host}") } else { String::new() };
        let check = match ssh.host_key {
            HostKeyCheck::Pinned => "yes",
            HostKeyCheck::AcceptNew => "accept-new",
        };
        let identity = identity(ssh);
        let settings = format!(
            "    HostName ssh-gate\n    User {user}\n    HostKeyAlias {key_name}\n    StrictHostKeyChecking {check}\n    \
             UpdateHostKeys no\n    CheckHostIP no\n    IdentityAgent {PUBLIC_SOCKET}\n    IdentitiesOnly yes\n    \
             IdentityFile ~/{identity}\n"
        );
        let _ = write!(text, "\nHost {alias}{also}\n    Port {listen}\n{settings}");
        if same_host().filter(|other| other.port == *port).count() == 1 {
            let _ = write!(
                text,
                "Match originalhost {host} exec \"test %p = {port}\"\n    ProxyCommand {GUEST} connect ssh-gate:{listen}\n{settings}"
            );
        }
    }
    text
}
