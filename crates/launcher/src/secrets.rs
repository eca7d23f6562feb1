//! The secrets of a plan: read once, before anything is created, and wiped when dropped.

mod reference;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::Path;

use base64::Engine as _;
use sidecar::ca::{CaError, CaPem};
use sidecar::token::{Token, TokenError, Tokens};
use zeroize::Zeroizing;

use crate::cli::failure::{Failure, Kind};
use crate::plan::Plan;
pub use reference::{EnvValue, TokenRef};

/// What a launch hands over. Cannot be printed.
#[derive(Default)]
pub(crate) struct Secrets {
    /// Private keys, by the path that the manifest names.
    pub keys: BTreeMap<String, Zeroizing<Vec<u8>>>,
    /// Tokens, by their names in the proxy.
    pub tokens: Tokens,
    /// CAs of the manifest's upstreams.
    pub ca: Vec<CaPem>,
    /// The agent's environment, literals included.
    pub env: BTreeMap<String, String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// Why a secret cannot be had. Never says any of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// A variable is unset or empty.
    #[error("the variable {variable} of {user} is unset")]
    Unset {
        /// The variable.
        variable: String,
        /// What it is for.
        user: String,
    },
    /// A file cannot be read.
    #[error("could not read the {what} `{path}` of {user}")]
    Read {
        /// What it should hold.
        what: &'static str,
        /// Its path.
        path: String,
        /// What it is for.
        user: String,
        /// Why.
        source: std::io::Error,
    },
    /// A token is none.
    #[error("the token {reference} of {user} cannot be used")]
    Token {
        /// Where it was found.
        reference: TokenRef,
        /// What it is for.
        user: String,
        /// Why.
        source: TokenError,
    },
    /// A token is too short to be found in answers without finding everything.
    #[error("the token {reference} of {user} is shorter than 8 bytes, too short to be redacted from answers")]
    Short {
        /// Where it was found.
        reference: TokenRef,
        /// What it is for.
        user: String,
    },
    /// A file holds no private key.
    #[error("`{path}` of {user} is no private key in a form that OpenSSH reads")]
    NoKey {
        /// Its path.
        path: String,
        /// What it is for.
        user: String,
    },
    /// A key wants a passphrase.
    #[error("the key `{path}` of {user} has a passphrase, which cannot be asked for yet")]
    Passphrase {
        /// Its path.
        path: String,
        /// What it is for.
        user: String,
    },
    /// A CA file is unusable.
    #[error("invalid CA file `{path}` of {user}")]
    Ca {
        /// Its path.
        path: String,
        /// What it is for.
        user: String,
        /// Why.
        source: CaError,
    },
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        let hint = match &error {
            SecretError::Unset { variable, .. } => Some(format!("export {variable} and start again")),
            SecretError::Token { .. } => {
                Some("a token is one line of text; cut the newline at its end".to_owned())
            }
            SecretError::Short { .. } => {
                Some("set \"redact\": false on the route if the token is right".to_owned())
            }
            SecretError::Passphrase { path, .. } => Some(format!(
                "use a key without passphrase, e.g. a deploy key; `ssh-keygen -p -f {path}` removes it"
            )),
            _ => None,
        };
        let failure = Self::new(Kind::Secret, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// The most bytes of a key, token or CA file.
const MAX_BYTES: u64 = 1024 * 1024;
/// A shorter token would be found where it is not (INTERFACES, cred-proxy).
const MIN_REDACTED: usize = 8;

/// Reads every secret that the plan refers to.
///
/// # Errors
/// [`SecretError`] for the first that cannot be had.
pub(crate) fn load(plan: &Plan, variable: impl Fn(&str) -> Option<String>) -> Result<Secrets, SecretError> {
    let read = |path: &str, what: &'static str, user: &str| {
        read(Path::new(path)).map_err(|source| SecretError::Read {
            what,
            path: path.to_owned(),
            user: user.to_owned(),
            source,
        })
    };
    let set = |name: &str, user: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| SecretError::Unset { variable: name.to_owned(), user: user.to_owned() })
    };
    let mut secrets = Secrets::default();
    for ssh in &plan.ssh {
        if secrets.keys.contains_key(&ssh.identity_file) {
            continue;
        }
        let user = format!("ssh host {}", ssh.alias);
        let mut key = read(&ssh.identity_file, "key", &user)?;
        check_key(&key, &ssh.identity_file, user)?;
        if key.last() != Some(&b'\n') {
            // ssh-add takes no key whose last line does not end.
            key.push(b'\n');
        }
        secrets.keys.insert(ssh.identity_file.clone(), key);
    }
    let routes = plan.sidecars.iter().find_map(|sidecar| match &sidecar.table {
        crate::plan::Table::Routes(table) => Some(table.routes()),
        crate::plan::Table::Ports(_) => None,
    });
    for (credential, route) in plan.credentials.iter().zip(routes.unwrap_or_default()) {
        let user = format!("route {}", credential.route);
        let text = match &credential.reference {
            TokenRef::Env(name) => set(name, &user)?,
            TokenRef::File(path) => {
                let bytes = read(&path.display().to_string(), "token", &user)?;
                let text = String::from_utf8_lossy(&bytes).into_owned();
                text.strip_suffix('\n')
                    .map(|text| text.strip_suffix('\r').unwrap_or(text).to_owned())
                    .unwrap_or(text)
            }
        };
        let reference = || credential.reference.clone();
        let token = Token::parse(text).map_err(|source| SecretError::Token {
            reference: reference(),
            user: user.clone(),
            source,
        })?;
        if route.redact && token.expose().len() < MIN_REDACTED {
            return Err(SecretError::Short { reference: reference(), user });
        }
        secrets.tokens.insert(credential.token.clone(), token);
        if let Some(path) = &credential.ca_file {
            let ca = CaPem::parse(&read(path, "CA file", &user)?).map_err(|source| SecretError::Ca {
                path: path.clone(),
                user,
                source,
            })?;
            if !secrets.ca.contains(&ca) {
                secrets.ca.push(ca);
            }
        }
    }
    for (name, value) in &plan.agent_container.env_values {
        let value = match value {
            EnvValue::Literal(value) => value.clone(),
            EnvValue::FromHost(from) => set(from, &format!("the agent's {name}"))?,
        };
        secrets.env.insert(name.clone(), value);
    }
    Ok(secrets)
}

fn read(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::IsADirectory));
    }
    if meta.len() > MAX_BYTES {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    // Sized beforehand: a vector that grows would leave copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 2));
    file.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Tells a private key without passphrase from everything else.
fn check_key(key: &[u8], path: &str, user: String) -> Result<(), SecretError> {
    let text = String::from_utf8_lossy(key);
    let no_key = || SecretError::NoKey { path: path.to_owned(), user: user.clone() };
    let header = text.lines().find(|line| line.starts_with("-----BEGIN ")).ok_or_else(no_key)?;
    if !header.contains("PRIVATE KEY") {
        return Err(no_key());
    }
    let encrypted = if header.contains("OPENSSH") {
        let body: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
        let blob = Zeroizing::new(
            base64::engine::general_purpose::STANDARD.decode(body.trim()).map_err(|_| no_key())?,
        );
        // PROTOCOL.key of OpenSSH: magic, then the cipher's name as a string.
        let rest = blob.strip_prefix(b"openssh-key-v1\0").ok_or_else(no_key)?;
        rest.get(4..8) != Some(b"none")
    } else {
        header.contains("ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED")
    };
    if encrypted { Err(SecretError::Passphrase { path: path.to_owned(), user }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn key(passphrase: &str, format: &[&str]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let status = Command::new("ssh-keygen")
            .args(["-q", "-N", passphrase, "-f"])
            .arg(&path)
            .args(format)
            .status()
            .expect("ssh-keygen is needed: install openssh-client");
        assert!(status.success());
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_key_with_a_passphrase_is_told_before_anything_is_created() {
        let check = |key: &[u8]| check_key(key, "k", "ssh host a".into());
        assert!(check(&key("", &["-t", "ed25519"])).is_ok());
        assert!(check(&key("", &["-t", "ecdsa", "-m", "PEM"])).is_ok());
        assert!(matches!(check(&key("secret", &["-t", "ed25519"])), Err(SecretError::Passphrase { .. })));
        assert!(matches!(
            check(&key("secret", &["-t", "ecdsa", "-m", "PEM"])),
            Err(SecretError::Passphrase { .. })
        ));
        assert!(matches!(check(b"ssh-ed25519 AAAA me@host"), Err(SecretError::NoKey { .. })));
        assert!(matches!(check(b""), Err(SecretError::NoKey { .. })));
    }
}
