//! Putting things into the agent's container: files before it starts, keys after.
//!
//! Capabilities are dropped, so not even root in the container can change owners or enter the agent's home.
//! Files therefore come as an archive with their owners in it, and keys over the stdin of
//! `ssh-add`: a private key is never a file in the container, nor an argument, nor a variable.

mod files;
mod guest;
mod ssh;
mod user;

use crate::engine::EngineError;

pub(super) use files::{files, prompt_path};
pub(super) use guest::is_sealed;
pub(super) use ssh::ssh;
pub(super) use user::User;

/// The ssh-agent's own socket: root's.
const SOCKET: &str = "/run/claude-bottle-agent.sock";
/// The pinned host keys, where root can read them.
const KNOWN_HOSTS: &str = "/etc/claude-bottle/known_hosts";

/// Why the agent's container could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image has no such user.
    #[error("user {0:?} has no valid entry in the image's /etc/passwd")]
    NoUser(String),
    /// The agent would be root beside the keys.
    #[error("the agent's user {0:?} is root, which could read the keys in the ssh-agent's memory")]
    Root(String),
    /// The archive could not be written.
    #[error("could not pack the agent's files")]
    Pack(#[source] std::io::Error),
    /// A program of the image failed.
    #[error("`{program}` failed in the agent's container: {said}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it printed, and its exit code.
        said: String,
    },
    /// The image lacks a program.
    #[error("`{0}` not found in the image")]
    NoProgram(&'static str),
    /// A program of the image did not end.
    #[error("timeout: `{0}` did not end in the agent's container")]
    Late(&'static str),
}

impl ProvisionError {
    /// Whether the manifest asks for something that the image does not have or must not get.
    pub(crate) fn is_of_manifest(&self) -> bool {
        matches!(self, Self::Root(_))
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Engine(error) => error.hint(),
            Self::NoUser(_) => Some("set `user` in the manifest to a user of the image".to_owned()),
            Self::Root(_) => Some("set another `user` in the manifest, or remove `ssh`".to_owned()),
            Self::NoProgram(_) => {
                Some("install openssh-client in the image, or remove `ssh` from the manifest".to_owned())
            }
            Self::Pack(_) | Self::Program { .. } | Self::Late(_) => None,
        }
    }
}
