//! What stands in the images besides the files of their packages: what those packages' scripts, and
//! Debian's installer, would have written.

use std::path::PathBuf;

use crate::debian::DebianError;
use crate::debian::layer::{ROOT, Tree};

/// What an agent needs to be shown at work: `libc-bin` is for getent.
pub(super) const AGENT_PACKAGES: &[&str] = &[
    "bash",
    "ca-certificates",
    "coreutils",
    "curl",
    "dash",
    "git",
    "grep",
    "libc-bin",
    "openssh-client",
    "procps",
    "sed",
];

/// What a git host needs besides.
pub(super) const HOST_PACKAGES: &[&str] = &["openssh-server"];

const NODE: (u64, u64) = (1000, 1000);
const GIT: (u64, u64) = (1001, 1001);

/// The agent's file system.
pub(super) fn agent(debs: &[PathBuf]) -> Result<Tree, DebianError> {
    let mut tree = Tree::unpack(debs)?;
    for (path, mode) in
        [("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777), ("run", 0o755), ("home", 0o755)]
    {
        tree.folder(path, mode, ROOT);
    }
    tree.folder("home/node", 0o755, NODE);
    users(&mut tree, "", "");
    tree.file(
        "etc/nsswitch.conf",
        0o644,
        ROOT,
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    );
    // What update-ca-certificates writes, and curl and git read.
    let authorities = tree.joined("usr/share/ca-certificates/mozilla");
    tree.folder("etc/ssl/certs", 0o755, ROOT);
    tree.file("etc/ssl/certs/ca-certificates.crt", 0o644, ROOT, authorities);
    Ok(tree)
}

/// What a git host's file system has on top of the agent's.
pub(super) fn host(debs: &[PathBuf]) -> Result<Tree, DebianError> {
    let mut tree = Tree::unpack(debs)?;
    // sshd gives up its rights to its own user, in a folder that is nobody's.
    tree.folder("run/sshd", 0o755, ROOT);
    tree.folder("home/git", 0o755, GIT);
    users(
        &mut tree,
        "sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\ngit:x:1001:1001::/home/git:/usr/bin/git-shell\n",
        "git:x:1001:\n",
    );
    Ok(tree)
}

/// The users and groups; nobody has a password, and `*` leaves public keys usable.
fn users(tree: &mut Tree, more_users: &str, more_groups: &str) {
    let users = format!(
        "root:x:0:0:root:/root:/bin/bash\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
         node:x:1000:1000::/home/node:/bin/bash\n{more_users}"
    );
    let groups = format!("root:x:0:\ntty:x:5:\nshadow:x:42:\nnogroup:x:65534:\nnode:x:1000:\n{more_groups}");
    let shadow: String = users
        .lines()
        .filter_map(|user| user.split(':').next())
        .map(|user| format!("{user}:*:19000:0:99999:7:::\n"))
        .collect();
    tree.file("etc/passwd", 0o644, ROOT, users);
    tree.file("etc/group", 0o644, ROOT, groups);
    tree.file("etc/shadow", 0o640, (0, 42), shadow);
}
