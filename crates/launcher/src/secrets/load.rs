//! Reading the secrets, once the user has agreed.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use sidecar::token::{Token, Tokens};
use sidecar::upstream_proxy::UpstreamProxy;
use zeroize::Zeroizing;

use super::check::{open, unreadable};
use super::key::{self, PrivateKey};
use super::{EnvValue, MAX_BYTES, References, SecretError, TokenRef};

/// What a launch hands over. Cannot be printed; wiped when dropped.
#[derive(Default)]
pub(crate) struct Secrets {
    /// Private keys, by their paths.
    pub keys: BTreeMap<PathBuf, PrivateKey>,
    /// Tokens, by their names in the proxy.
    pub tokens: Tokens,
    /// The agent's environment, literals included.
    pub env: BTreeMap<String, Zeroizing<String>>,
    /// The CONNECT proxy, whose URL may contain a password.
    pub upstream_proxy: Option<UpstreamProxy>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// A shorter token would be found where it is not.
const MIN_REDACTED: usize = 8;

/// Reads every secret that a bottle refers to.
///
/// # Errors
/// [`SecretError`] for the first that cannot be used.
pub(crate) fn load(
    references: &References,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Secrets, SecretError> {
    let set = |name: &str, user: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(Zeroizing::new)
            .ok_or_else(|| SecretError::Unset { variable: name.to_owned(), user: user.to_owned() })
    };
    let mut secrets = Secrets::default();
    for file in &references.keys {
        if !secrets.keys.contains_key(&file.path) {
            let bytes = read(&file.path, "key", &file.user)?;
            secrets.keys.insert(file.path.clone(), key::parse(bytes, &file.path, &file.user)?);
        }
    }
    for token in &references.tokens {
        let text = match &token.reference {
            TokenRef::Env(name) => set(name, &token.user)?,
            TokenRef::File(path) => one_line(&read(path, "token", &token.user)?),
        };
        let parsed = Token::parse(text.to_string()).map_err(|source| SecretError::Token {
            reference: token.reference.clone(),
            user: token.user.clone(),
            source,
        })?;
        if token.redact && parsed.expose().len() < MIN_REDACTED {
            return Err(SecretError::Short { reference: token.reference.clone(), user: token.user.clone() });
        }
        secrets.tokens.insert(token.name.clone(), parsed);
    }
    for (name, value) in &references.env {
        let value = match value {
            EnvValue::Literal(value) => Zeroizing::new(value.clone()),
            EnvValue::FromHost(from) => set(from, &format!("env.{name}"))?,
        };
        secrets.env.insert(name.clone(), value);
    }
    Ok(secrets)
}

/// A file's text without the newline at its end.
fn one_line(bytes: &[u8]) -> Zeroizing<String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    // What is not UTF-8 becomes a control character, which no token may contain.
    Zeroizing::new(std::str::from_utf8(bytes).unwrap_or("\0").to_owned())
}

fn read(path: &Path, what: &'static str, user: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let whole = || -> io::Result<_> {
        let (file, length) = open(path)?;
        // Sized beforehand: a vector that grows would leave copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 2));
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    whole().map_err(|source| unreadable(path, what, user, source))
}

#[cfg(test)]
mod tests {
    use super::super::TokenUse;
    use super::*;

    #[test]
    fn a_token_file_is_one_line_and_long_enough_to_be_redacted() {
        let folder = tempfile::tempdir().unwrap();
        let load = |content: &[u8], redact| {
            let path = folder.path().join("token");
            std::fs::write(&path, content).unwrap();
            let reference = TokenRef::File(path);
            let token = TokenUse { user: "route /api/".into(), name: "T".into(), reference, redact };
            load(&References { tokens: vec![token], ..References::default() }, |_| None)
        };
        for content in [&b"sk-12345678"[..], b"sk-12345678\n", b"sk-12345678\r\n"] {
            assert_eq!(load(content, true).unwrap().tokens["T"].expose(), "sk-12345678");
        }
        assert!(matches!(load(b"short", true), Err(SecretError::Short { .. })));
        assert!(load(b"short", false).is_ok());
        for content in [&b""[..], b"two\nlines", b"\xff\xfe123456789"] {
            assert!(matches!(load(content, true), Err(SecretError::Token { .. })), "{content:?}");
        }
    }
}
