//! Names and labels: how the objects of a bottle are called, so that a person finds them and
//! `cleanup` knows whose they are.

use std::collections::{BTreeMap, BTreeSet};

use crate::bottle::owner::LauncherId;
use crate::images::sha256;

/// What every name of ours begins with.
pub(crate) const PREFIX: &str = "claude-bottle-";

/// Label keys.
pub(crate) mod label {
    /// The bottle it belongs to.
    pub(crate) const INSTANCE: &str = "claude-bottle.instance";
    /// What it is in that bottle, e.g. `agent`, `ssh-gate`, `network`.
    pub(crate) const ROLE: &str = "claude-bottle.role";
    /// The manifest's name of the agent.
    pub(crate) const AGENT: &str = "claude-bottle.agent";
    /// `attached` or `detached`.
    pub(crate) const MODE: &str = "claude-bottle.mode";
    /// Who launched it: host, pid and start time.
    pub(crate) const LAUNCHER: &str = "claude-bottle.launcher";
    /// The hash of its plan.
    pub(crate) const PLAN: &str = "claude-bottle.plan";
    /// The launcher's version.
    pub(crate) const VERSION: &str = "claude-bottle.version";
}

/// The names of one bottle's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// The agent container's name without the prefix.
    pub instance: String,
    /// The agent container's name.
    pub agent: String,
}

/// Why no name could be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// Nothing is left of the agent's name.
    #[error("the agent's name {0:?} holds no letter or digit to name a container by")]
    Empty(String),
    /// All ninety-nine are taken.
    #[error("the names claude-bottle-{0} to claude-bottle-{0}-99 are all taken")]
    Exhausted(String),
    /// The pinned name is taken.
    #[error("the container name {0} is taken")]
    PinnedTaken(String),
    /// The pinned name is none that an engine takes.
    #[error(
        "expected CLAUDE_BOTTLE_CONTAINER to be a container name ([a-zA-Z0-9][a-zA-Z0-9_.-]*), found {0:?}"
    )]
    Pinned(String),
}

impl Names {
    fn of(agent: String) -> Self {
        let instance =
            agent.strip_prefix(PREFIX).filter(|rest| !rest.is_empty()).unwrap_or(&agent).to_owned();
        Self { instance, agent }
    }

    /// The first names of which none is taken.
    ///
    /// # Errors
    /// [`NameError`] when there are none.
    pub(crate) fn pick(
        agent: &str,
        pinned: Option<&str>,
        taken: &BTreeSet<String>,
    ) -> Result<Self, NameError> {
        let free = |names: &Self| names.all().iter().all(|name| !taken.contains(name));
        if let Some(pinned) = pinned {
            let word = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
            let first = pinned.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
            if !first || pinned.len() < 2 || !pinned.bytes().all(word) {
                return Err(NameError::Pinned(pinned.to_owned()));
            }
            let names = Self::of(pinned.to_owned());
            return if free(&names) { Ok(names) } else { Err(NameError::PinnedTaken(pinned.to_owned())) };
        }
        let slug = slug(agent).ok_or_else(|| NameError::Empty(agent.to_owned()))?;
        std::iter::once(format!("{PREFIX}{slug}"))
            .chain((2..=99).map(|n| format!("{PREFIX}{slug}-{n}")))
            .map(Self::of)
            .find(free)
            .ok_or(NameError::Exhausted(slug))
    }

    /// The name of a sidecar: `ssh-gate`, `cred-proxy`, `egress`.
    pub(crate) fn sidecar(&self, role: &str) -> String {
        format!("{PREFIX}{role}-{}", self.instance)
    }

    /// The name of the internal network.
    pub(crate) fn internal(&self) -> String {
        format!("{PREFIX}int-{}", self.instance)
    }

    /// The name of the sidecars' way out.
    pub(crate) fn egress(&self) -> String {
        format!("{PREFIX}egr-{}", self.instance)
    }

    /// Every name a bottle may use, whatever it has.
    fn all(&self) -> Vec<String> {
        let sidecars =
            ["ssh-gate", "cred-proxy", "egress", "pipelock", "seal"].map(|role| self.sidecar(role));
        [self.agent.clone(), self.internal(), self.egress()].into_iter().chain(sidecars).collect()
    }
}

/// Names and labels of what one launch creates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Labels {
    common: BTreeMap<String, String>,
}

impl Labels {
    /// Those of one plan.
    pub(crate) fn new(instance: &str, agent: &str, mode: &str, plan: &str, launcher: &LauncherId) -> Self {
        let common = [
            (label::INSTANCE, instance.to_owned()),
            (label::AGENT, agent.to_owned()),
            (label::MODE, mode.to_owned()),
            (label::LAUNCHER, launcher.to_string()),
            (label::PLAN, plan.to_owned()),
            (label::VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        ];
        Self { common: common.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
    }

    /// Those of an object with that role.
    pub(crate) fn role(&self, role: &str) -> BTreeMap<String, String> {
        let mut labels = self.common.clone();
        labels.insert(label::ROLE.to_owned(), role.to_owned());
        labels
    }
}

/// The agent's name as part of a container's: lower case, `-` for everything else, at most 30 characters.
pub(crate) fn slug(agent: &str) -> Option<String> {
    let mut slug = String::new();
    for c in agent.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        return None;
    }
    if slug.len() <= 30 {
        return Some(slug.to_owned());
    }
    Some(format!("{}-{}", &slug[..23], &sha256(agent.as_bytes())[..6]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_the_predecessors() {
        assert_eq!(slug("Code Reviewer!").as_deref(), Some("code-reviewer"));
        assert_eq!(slug("--a__b--").as_deref(), Some("a-b"));
        assert_eq!(slug("é!"), None);
        let long = slug("a-very-long-agent-name-that-goes-on-and-on").unwrap();
        assert_eq!((long.len(), &long[..24]), (30, "a-very-long-agent-name--"));
        assert_eq!(slug(&"x".repeat(30)).unwrap(), "x".repeat(30));
    }

    #[test]
    fn an_instance_is_free_only_if_all_its_names_are() {
        let taken = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let free = Names::pick("dev", None, &taken(&[])).unwrap();
        assert_eq!((free.agent.as_str(), free.instance.as_str()), ("claude-bottle-dev", "dev"));
        for name in [
            "claude-bottle-dev",
            "claude-bottle-ssh-gate-dev",
            "claude-bottle-int-dev",
            "claude-bottle-egr-dev",
        ] {
            assert_eq!(Names::pick("dev", None, &taken(&[name])).unwrap().instance, "dev-2", "{name}");
        }
    }

    #[test]
    fn a_pinned_name_is_taken_as_it_is_or_not_at_all() {
        let names = Names::pick("dev", Some("mine"), &BTreeSet::new()).unwrap();
        assert_eq!(
            (names.agent.as_str(), names.sidecar("ssh-gate").as_str()),
            ("mine", "claude-bottle-ssh-gate-mine")
        );
        let taken = BTreeSet::from(["mine".to_owned()]);
        assert_eq!(Names::pick("dev", Some("mine"), &taken), Err(NameError::PinnedTaken("mine".into())));
        assert!(matches!(Names::pick("dev", Some("-x y"), &taken), Err(NameError::Pinned(_))));
    }
}
