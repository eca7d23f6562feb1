//! The files that are put into the agent's container before it starts.

use std::fmt::Write as _;

use bytes::Bytes;

use super::{GUEST, KNOWN_HOSTS, PUBLIC_SOCKET, ProvisionError, User};
use crate::plan::{HostKeyCheck, Plan};

/// The name of the prompt's file in the home folder.
const PROMPT: &str = ".claude-bottle-prompt.txt";

/// The archive: the guest, the prompt, and what `ssh` needs. No secret is in it.
///
/// # Errors
/// [`ProvisionError::Pack`] when a path does not fit into an archive.
pub(crate) fn files(plan: &Plan, user: &User) -> Result<Bytes, ProvisionError> {
    let mut files = Files(tar::Builder::new(Vec::new()));
    let root = User { uid: 0, gid: 0, home: String::new() };
    let pack = ProvisionError::Pack;
    files.file(GUEST.trim_start_matches('/'), 0o755, &root, &plan.guest_binary).map_err(pack)?;
    let prompt = &plan.agent_container.prompt_text;
    files.file(&user.path(PROMPT), 0o600, user, prompt.as_bytes()).map_err(pack)?;
    if !plan.ssh.is_empty() {
        let hosts = known_hosts(plan);
        files.file(KNOWN_HOSTS.trim_start_matches('/'), 0o644, &root, hosts.as_bytes()).map_err(pack)?;
        files.folder(&user.path(".ssh/"), 0o700, user).map_err(pack)?;
        files.file(&user.path(".ssh/config"), 0o600, user, config(plan).as_bytes()).map_err(pack)?;
        files.file(&user.path(".ssh/known_hosts"), 0o600, user, hosts.as_bytes()).map_err(pack)?;
    }
    files.0.into_inner().map(Bytes::from).map_err(pack)
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

/// One block per host: the alias, and the host's own name when no other row has it.
fn config(plan: &Plan) -> String {
    let mut text = String::from("# Written by claude-bottle: every host is reached through ssh-gate.\n");
    for ssh in &plan.ssh {
        let alone = plan.ssh.iter().filter(|other| other.host == ssh.host).count() == 1;
        let taken = plan.ssh.iter().any(|other| other.alias == ssh.host);
        let host = if alone && !taken { format!(" {}", ssh.host) } else { String::new() };
        let check = match ssh.host_key {
            HostKeyCheck::Pinned => "yes",
            HostKeyCheck::AcceptNew => "accept-new",
        };
        let _ = write!(
            text,
            "\nHost {alias}{host}\n    HostName ssh-gate\n    Port {port}\n    User {user}\n    HostKeyAlias {key}\n    \
             StrictHostKeyChecking {check}\n    UpdateHostKeys no\n    CheckHostIP no\n    IdentityAgent {PUBLIC_SOCKET}\n",
            alias = ssh.alias,
            port = ssh.listen,
            user = ssh.user,
            key = ssh.key_name,
        );
    }
    text
}
