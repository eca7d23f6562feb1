//! Finding and reading the manifest.

use std::path::{Path, PathBuf};

use sidecar::table::{self, Fault, TableError};

use super::{Manifest, TokenRef};
use crate::cli::failure::{Failure, Kind};

/// Why there is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// None was found.
    #[error("no manifest: looked for {}", .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and "))]
    Absent(Vec<PathBuf>),
    /// The file cannot be read, or is too large.
    #[error(transparent)]
    Read(TableError),
    /// It is wrong somewhere.
    #[error("{0}")]
    Fault(Fault),
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        let hint = match &error {
            ManifestError::Absent(_) => {
                Some("write one, or name it with --manifest or CLAUDE_BOTTLE_MANIFEST".to_owned())
            }
            ManifestError::Fault(fault) => nearest(&fault.message),
            ManifestError::Read(_) => None,
        };
        let failure = Self::new(Kind::Manifest, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// Where the manifest is: as told, else in the working folder, else in the user's configuration.
///
/// # Errors
/// [`ManifestError::Absent`] with the places that were looked at.
pub fn find(told: Option<&Path>, config_home: Option<&Path>) -> Result<PathBuf, ManifestError> {
    // An empty variable counts as unset.
    if let Some(told) = told.filter(|told| !told.as_os_str().is_empty()) {
        return Ok(told.to_owned());
    }
    let mut places = vec![PathBuf::from("claude-bottle.json")];
    places.extend(config_home.map(|home| home.join("claude-bottle").join("claude-bottle.json")));
    match places.iter().find(|place| place.exists()) {
        Some(place) => Ok(place.clone()),
        None => Err(ManifestError::Absent(places)),
    }
}

/// Reads and parses the manifest. Its paths become absolute: `~/` is `home`, others are relative to
/// the manifest's folder.
///
/// # Errors
/// [`ManifestError`].
pub fn load(path: &Path, home: Option<&Path>) -> Result<Manifest, ManifestError> {
    let mut manifest = checked(path.display().to_string(), table::load(path))?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    manifest.resolve(path.parent().unwrap_or(Path::new("/")), home);
    Ok(manifest)
}

impl Manifest {
    /// Makes its paths absolute.
    fn resolve(&mut self, folder: &Path, home: Option<&Path>) {
        let resolve = |path: &mut PathBuf| {
            *path = match (path.strip_prefix("~"), home) {
                (Ok(rest), Some(home)) => home.join(rest),
                _ => folder.join(&*path),
            };
        };
        for bottle in self.bottles.values_mut() {
            bottle.ssh.iter_mut().for_each(|ssh| resolve(&mut ssh.identity_file));
            for route in &mut bottle.cred_proxy.routes {
                route.ca_file.iter_mut().for_each(resolve);
                if let TokenRef::File(path) = &mut route.token {
                    resolve(path);
                }
            }
        }
    }
}

/// Parses a manifest; `file` is how its faults name it.
///
/// # Errors
/// [`ManifestError::Fault`] with line and column where the fault has one.
pub fn parse(file: &str, text: &str) -> Result<Manifest, ManifestError> {
    checked(file.to_owned(), table::parse(file, text.as_bytes()))
}

fn checked(file: String, parsed: Result<Manifest, TableError>) -> Result<Manifest, ManifestError> {
    let manifest = parsed.map_err(|error| match error {
        TableError::Fault(fault) => ManifestError::Fault(fault),
        other => ManifestError::Read(other),
    })?;
    for (name, agent) in &manifest.agents {
        if !manifest.bottles.contains_key(&agent.bottle) {
            let message = format!("agent {name:?} names the bottle {:?}, which is not there", agent.bottle);
            return Err(ManifestError::Fault(Fault { file, place: None, message }));
        }
    }
    Ok(manifest)
}

/// The known key that is nearest to the unknown one that serde's sentence names.
fn nearest(message: &str) -> Option<String> {
    let mut words = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let unknown = words.next()?;
    let near = words
        .map(|known| (strsim::damerau_levenshtein(&unknown.to_lowercase(), &known.to_lowercase()), known))
        .min()?;
    (near.0 <= 1 + unknown.len() / 3).then(|| format!("did you mean `{}`?", near.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bottle(inside: &str) -> String {
        format!(
            "{{ \"bottles\": {{ \"dev\": {{\n {inside}\n }} }},\n \"agents\": {{ \"a\": {{ \"bottle\": \"dev\" }} }} }}"
        )
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let ssh = |rest: &str| {
            format!(
                "\"ssh\": [ {{ \"Host\": \"gh\", \"Hostname\": \"github.com\", \"IdentityFile\": \"k\" {rest} }} ]"
            )
        };
        for (inside, expected) in [
            (r#""imag": "x""#.to_owned(), "unknown field `imag`"),
            (ssh(r#", "Port": 70000"#), "expected a port between 1 and 65535, found 70000"),
            (ssh(r#", "Port": "x""#), "expected a port between 1 and 65535, found \"x\""),
            (ssh(r#", "KnownHostKey": "ssh-ed25519 nope""#), "expected a public host key"),
            (ssh(r#", "User": "-oProxyCommand=x""#), "expected a login name"),
            (
                r#""ssh": [ {"Host":"a","Hostname":"h","IdentityFile":"k"}, {"Host":"A","Hostname":"h","IdentityFile":"k"} ]"#
                    .to_owned(),
                "Host \"a\" stands twice",
            ),
            (r#""egress": {"engine":"builtin","allow":[]}"#.to_owned(), "not yet: an egress"),
            (r#""env": {"A": "x\ny"}"#.to_owned(), "cannot be exported to env files; use from_host"),
            (r#""env": {"A B": "x"}"#.to_owned(), "expected a variable name"),
            (r#""limits": {"memory": "4 parsecs"}"#.to_owned(), "expected a size such as 4GiB"),
            (
                r#""cred_proxy": {"routes": [{"path":"/a/","upstream":"https://a","auth":{"scheme":"bearer"},"token":{"env":"T"},"allow":[{"methods":["GET"],"path":"v1"}]}]}"#
                    .to_owned(),
                "a path of plain segments",
            ),
        ] {
            let error = parse("claude-bottle.json", &bottle(&inside)).unwrap_err().to_string();
            assert!(error.contains(expected), "{inside}: {error}");
            assert!(error.starts_with("claude-bottle.json:2:"), "{error}");
        }
    }

    #[test]
    fn a_misspelt_key_is_answered_with_the_nearest_one() {
        let error = parse("m", &bottle(r#""egres_network": "x""#)).unwrap_err();
        assert!(Failure::from(error).lines().ends_with("hint: did you mean `egress_network`?\n"));
    }

    #[test]
    fn an_agent_in_no_bottle_is_refused() {
        let error = parse("m", r#"{"bottles":{},"agents":{"a":{"bottle":"dev"}}}"#).unwrap_err();
        assert_eq!(error.to_string(), "m: agent \"a\" names the bottle \"dev\", which is not there");
    }

    #[test]
    fn ports_may_be_numbers_or_digits() {
        let text = bottle(r#""ssh": [ {"Host":"a","Hostname":"h","IdentityFile":"k","Port":"2222"} ]"#);
        let manifest = parse("m", &text).unwrap();
        assert_eq!(manifest.bottles["dev"].ssh[0].key_name(), "[h]:2222");
    }
}
