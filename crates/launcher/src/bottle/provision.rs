//! Putting things into the agent's container: files before it starts, keys after.
//!
//! Capabilities are dropped, so not even root in there can change owners or enter the agent's home.
//! Files therefore come as an archive with their owners in it, and keys over the stdin of
//! `ssh-add`: a private key is never a file in the container, nor an argument, nor a variable.

mod files;
mod ssh;
mod user;

use crate::cli::failure::{Failure, Kind};
use crate::engine::EngineError;

pub(crate) use files::files;
pub(crate) use files::prompt_path;
pub(crate) use ssh::ssh;
pub(crate) use user::User;

/// Where the guest lies in the agent's container.
pub(crate) const GUEST: &str = "/usr/local/lib/claude-bottle/bottle-guest";
/// The ssh-agent's own socket: root's.
pub(crate) const SOCKET: &str = "/run/claude-bottle-agent.sock";
/// The filtered socket: everyone's.
pub(crate) const PUBLIC_SOCKET: &str = "/run/claude-bottle-agent-public.sock";
/// The pinned host keys, where root can read them.
const KNOWN_HOSTS: &str = "/etc/claude-bottle/known_hosts";

/// Why the agent's container could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image has no such user.
    #[error("the image has no user {0:?}")]
    NoUser(String),
    /// The agent would be root beside the keys.
    #[error("the agent's user {0:?} is root, and root could read the ssh-agent's memory")]
    Root(String),
    /// The archive could not be written.
    #[error("could not pack the agent's files")]
    Pack(#[source] std::io::Error),
    /// A program of the image failed.
    #[error("`{program}` failed in the agent's container: {said}")]
    Program {
        /// Which.
        program: &'static str,
        /// What it said.
        said: String,
    },
    /// The image lacks a program.
    #[error("the image has no `{0}`")]
    NoProgram(&'static str),
    /// A program of the image did not end.
    #[error("`{0}` did not end in the agent's container")]
    Late(&'static str),
}

impl From<ProvisionError> for Failure {
    fn from(error: ProvisionError) -> Self {
        match error {
            ProvisionError::Engine(error) => error.into(),
            ProvisionError::NoUser(_) => Self::new(Kind::Manifest, error)
                .hint("name one of the image's users as `user` in the manifest"),
            ProvisionError::Root(_) => Self::new(Kind::Manifest, error)
                .hint("name another `user` in the manifest, or leave out `ssh`"),
            ProvisionError::NoProgram(_) => {
                Self::new(Kind::Engine, error).hint("install openssh-client in the image, or leave out `ssh`")
            }
            _ => Self::new(Kind::Engine, error),
        }
    }
}
