//! Secrets, from references to values, in two steps: [`check`] looks before the user agrees and
//! reads nothing secret; [`load`] reads afterwards.

mod check;
mod key;
mod load;
mod reference;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) use check::{Found, State, check};
#[cfg(test)]
pub(crate) use key::PrivateKey;
pub(crate) use load::{Secrets, load};
pub(crate) use reference::{CaFile, KeyFile, References, TokenUse};
pub use reference::{EnvValue, TokenRef};

use sidecar::ca::CaError;
use sidecar::token::TokenError;

/// Why a secret cannot be used. Never contains any of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// A variable is unset or empty.
    #[error("{user}: the environment variable {variable} is not set")]
    Unset {
        /// The variable.
        variable: String,
        /// What it is for.
        user: String,
    },
    /// A file cannot be read.
    #[error("{user}: could not read the {what} `{}`", path.display())]
    Read {
        /// What it should contain.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// What it is for.
        user: String,
        /// Why.
        source: std::io::Error,
    },
    /// A token is invalid.
    #[error("{user}: the token {reference} is invalid")]
    Token {
        /// Where it was found.
        reference: TokenRef,
        /// What it is for.
        user: String,
        /// Why.
        source: TokenError,
    },
    /// A token is too short to be found in responses without finding everything.
    #[error("{user}: the token {reference} is shorter than 8 bytes and cannot be redacted from responses")]
    Short {
        /// Where it was found.
        reference: TokenRef,
        /// What it is for.
        user: String,
    },
    /// A file is not a private key.
    #[error("{user}: `{}` is not a private key that OpenSSH can read", path.display())]
    NotAKey {
        /// Its path.
        path: PathBuf,
        /// What it is for.
        user: String,
    },
    /// A key is encrypted.
    #[error("{user}: the key `{}` has a passphrase, and asking for it is not implemented yet", path.display())]
    Passphrase {
        /// Its path.
        path: PathBuf,
        /// What it is for.
        user: String,
    },
    /// The public half of a key could not be derived.
    #[error("{user}: could not derive the public key of `{}`: {said}", path.display())]
    PublicKey {
        /// Its path.
        path: PathBuf,
        /// What it is for.
        user: String,
        /// What ssh-keygen printed.
        said: String,
    },
    /// A CA file is unusable.
    #[error("{user}: invalid CA file `{}`", path.display())]
    Ca {
        /// Its path.
        path: PathBuf,
        /// What it is for.
        user: String,
        /// Why.
        source: CaError,
    },
}

impl SecretError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Unset { variable, .. } => Some(format!("export {variable} and start again")),
            Self::Token { .. } => Some("a token is one line of text without control characters".to_owned()),
            Self::Short { .. } => Some("set \"redact\": false on the route if the token is right".to_owned()),
            Self::Passphrase { .. } => Some(
                "use a key without a passphrase, for example a deploy key; `ssh-keygen -p` removes one"
                    .to_owned(),
            ),
            Self::PublicKey { path, .. } => Some(format!(
                "convert the key to OpenSSH's format with `ssh-keygen -p -f {}`",
                path.display()
            )),
            Self::Ca { .. } => Some("the file must contain the CA's certificate in PEM form".to_owned()),
            Self::Read { .. } | Self::NotAKey { .. } => None,
        }
    }
}

/// By what a user names a file, and what was found there.
type States = BTreeMap<PathBuf, State>;

/// The maximum size of a key, token or CA file.
const MAX_BYTES: u64 = 1024 * 1024;
