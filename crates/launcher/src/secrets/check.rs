//! The look before the user agrees: whether files and variables are there. No secret is read.
//!
//! CA certificates are public, and what they are is part of the plan: those are read here.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, OFlags, access};
use serde::Serialize;
use sidecar::ca::CaPem;

use super::{EnvValue, MAX_BYTES, References, SecretError, States, TokenRef};

/// Whether a secret can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It can, as far as one can see without reading.
    Present,
    /// It is missing.
    Missing,
    /// It is not a regular file, or not this user's to read.
    Unreadable,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    keys: States,
    tokens: Vec<State>,
    /// The certificates of CA files.
    pub cas: BTreeMap<PathBuf, CaPem>,
    warnings: Vec<String>,
    problem: Option<SecretError>,
}

impl Found {
    /// The state of a key.
    pub(crate) fn key(&self, path: &Path) -> State {
        self.keys.get(path).copied().unwrap_or(State::Missing)
    }

    /// The state of the nth route's token.
    pub(crate) fn token(&self, n: usize) -> State {
        self.tokens.get(n).copied().unwrap_or(State::Missing)
    }

    /// What is wrong with CA files and with variables of the agent's environment.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Nothing is missing or unreadable.
    ///
    /// # Errors
    /// The first that is.
    pub(crate) fn complete(self) -> Result<(), SecretError> {
        self.problem.map_or(Ok(()), Err)
    }

    /// Notes a problem that no state in the plan shows.
    fn warn(&mut self, problem: SecretError) {
        self.warnings.push(sidecar::exit::chain(&problem));
        self.note(problem);
    }

    fn note(&mut self, problem: SecretError) -> State {
        let state = match &problem {
            SecretError::Unset { .. } => State::Missing,
            SecretError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => State::Missing,
            _ => State::Unreadable,
        };
        self.problem.get_or_insert(problem);
        state
    }
}

/// Looks at every key, token, CA file and variable that a bottle refers to.
pub(crate) fn check(references: &References, is_set: impl Fn(&str) -> bool) -> Found {
    let mut found = Found::default();
    let set = |name: &str, user: &str| {
        let unset = || SecretError::Unset { variable: name.to_owned(), user: user.to_owned() };
        if is_set(name) { Ok(()) } else { Err(unset()) }
    };
    for key in &references.keys {
        let state = readable(&key.path, "key", &key.user).map_or_else(|e| found.note(e), |()| State::Present);
        found.keys.insert(key.path.clone(), state);
    }
    for token in &references.tokens {
        let looked = match &token.reference {
            TokenRef::Env(name) => set(name, &token.user),
            TokenRef::File(path) => readable(path, "token", &token.user),
        };
        let state = looked.map_or_else(|problem| found.note(problem), |()| State::Present);
        found.tokens.push(state);
    }
    for ca in &references.cas {
        match certificates(&ca.path, &ca.user) {
            Ok(pem) => drop(found.cas.insert(ca.path.clone(), pem)),
            Err(problem) => found.warn(problem),
        }
    }
    for (name, value) in &references.env {
        if let EnvValue::FromHost(from) = value
            && let Err(problem) = set(from, &format!("env.{name}"))
        {
            found.warn(problem);
        }
    }
    found
}

fn readable(path: &Path, what: &'static str, user: &str) -> Result<(), SecretError> {
    let look = || {
        usable(&std::fs::metadata(path)?)?;
        Ok(access(path, Access::READ_OK)?)
    };
    look().map_err(|source| unreadable(path, what, user, source))
}

pub(super) fn unreadable(path: &Path, what: &'static str, user: &str, source: io::Error) -> SecretError {
    SecretError::Read { what, path: path.to_owned(), user: user.to_owned(), source }
}

/// A regular file of a sensible size.
fn usable(meta: &Metadata) -> io::Result<()> {
    if meta.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    if meta.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
    }
    Ok(())
}

/// Opens a file that is regular before and after; a pipe in its place does not block.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    usable(&std::fs::metadata(path)?)?;
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    usable(&meta)?;
    Ok((file, meta.len()))
}

fn certificates(path: &Path, user: &str) -> Result<CaPem, SecretError> {
    let read = || {
        let mut text = Vec::new();
        open(path)?.0.take(MAX_BYTES).read_to_end(&mut text)?;
        Ok(text)
    };
    let pem = read().map_err(|source| unreadable(path, "CA file", user, source))?;
    CaPem::parse(&pem).map_err(|source| SecretError::Ca {
        path: path.to_owned(),
        user: user.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::process::Command;

    use super::super::{CaFile, KeyFile, TokenUse};
    use super::*;

    fn token(reference: TokenRef) -> TokenUse {
        TokenUse { user: "route /api/".into(), name: "CRED_PROXY_TOKEN_0".into(), reference, redact: true }
    }

    #[test]
    fn what_is_missing_or_not_a_regular_file_is_found_without_reading() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("key"), "k").unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let references = References {
            keys: ["key", "none", "pipe", "."]
                .map(|name| KeyFile { user: "ssh host \"a\"".into(), path: at(name) })
                .into(),
            tokens: vec![
                token(TokenRef::Env("SET".into())),
                token(TokenRef::Env("UNSET".into())),
                token(TokenRef::File(at("pipe"))),
            ],
            ..References::default()
        };
        let found = check(&references, |name| name == "SET");
        let keys: Vec<_> = ["key", "none", "pipe", "."].iter().map(|name| found.key(&at(name))).collect();
        assert_eq!(keys, [State::Present, State::Missing, State::Unreadable, State::Unreadable]);
        let tokens: Vec<_> = (0..3).map(|n| found.token(n)).collect();
        assert_eq!(tokens, [State::Present, State::Missing, State::Unreadable]);
        let problem = found.complete().unwrap_err();
        assert!(matches!(&problem, SecretError::Read { what: "key", .. }), "{problem}");
    }

    #[test]
    fn a_variable_of_the_agents_that_is_unset_is_named() {
        let env = BTreeMap::from([("EDITOR".to_owned(), EnvValue::FromHost("MY_EDITOR".into()))]);
        let found = check(&References { env, ..References::default() }, |_| false);
        let expected = "env.EDITOR: the environment variable MY_EDITOR is not set";
        assert_eq!(found.warnings(), [expected]);
        assert_eq!(found.complete().unwrap_err().to_string(), expected);
    }

    #[test]
    fn a_ca_file_of_nonsense_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        for text in ["", "-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&path, text).unwrap();
            let cas = vec![CaFile { user: "route /api/".into(), path: path.clone() }];
            let problem =
                check(&References { cas, ..References::default() }, |_| false).complete().unwrap_err();
            assert!(matches!(problem, SecretError::Ca { .. }), "{text}: {problem}");
        }
    }
}
