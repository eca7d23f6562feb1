//! The names of a bottle's objects, so that a person recognizes them.

use crate::digest::sha256;
use crate::engine::ObjectKind;
use crate::host::Taken;
use crate::labels::PREFIX;
use crate::sidecars::Role;

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
    #[error("agent {0:?}: a name needs at least one letter or digit")]
    Empty(String),
    /// All ninety-nine are taken.
    #[error("the names claude-bottle-{0} to claude-bottle-{0}-99 are all taken")]
    Exhausted(String),
    /// A name that follows from the pinned one is taken.
    #[error("CLAUDE_BOTTLE_CONTAINER: the {kind} {name} exists already")]
    PinnedTaken {
        /// The object in the way.
        name: String,
        /// What it is.
        kind: ObjectKind,
        /// Whether it carries our label.
        ours: bool,
    },
    /// The pinned name is not one that an engine takes.
    #[error("CLAUDE_BOTTLE_CONTAINER: expected a container name ([a-zA-Z0-9][a-zA-Z0-9_.-]*), found {0:?}")]
    Pinned(String),
}

impl NameError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::PinnedTaken { name, kind, ours: true } => {
                Some(format!("remove it with `{}`, or unset the override", kind.removal(name)))
            }
            Self::PinnedTaken { .. } => Some("choose another name, or unset the override".to_owned()),
            Self::Exhausted(_) => {
                Some("`claude-bottle cleanup` removes bottles whose launcher is gone".to_owned())
            }
            Self::Empty(_) | Self::Pinned(_) => None,
        }
    }
}

/// Kinds of containers that a bottle may have and that are not a [`Role`] yet.
const RESERVED: [&str; 3] = ["egress", "pipelock", SEAL];
const SEAL: &str = "seal";

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
    pub(crate) fn pick(agent: &str, pinned: Option<&str>, taken: &Taken) -> Result<Self, NameError> {
        let first_taken = |names: &Self| names.all().into_iter().find_map(|name| taken.get_key_value(&name));
        if let Some(pinned) = pinned {
            let word = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
            let first = pinned.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
            if !first || pinned.len() < 2 || pinned.len() > 200 || !pinned.bytes().all(word) {
                return Err(NameError::Pinned(pinned.to_owned()));
            }
            let names = Self::of(pinned.to_owned());
            return match first_taken(&names) {
                None => Ok(names),
                Some((name, by)) => {
                    Err(NameError::PinnedTaken { name: name.clone(), kind: by.kind, ours: by.ours })
                }
            };
        }
        let mut free = Self::free(agent, taken);
        free.next()
            .ok_or_else(|| slug(agent).map_or(NameError::Empty(agent.to_owned()), NameError::Exhausted))
    }

    /// The names of an agent of which nothing is taken, from the plain one to -99.
    pub(crate) fn free(agent: &str, taken: &Taken) -> impl Iterator<Item = Self> {
        let slug = slug(agent).map(|slug| format!("{PREFIX}{slug}"));
        let numbered = slug.clone().into_iter().flat_map(|slug| (2..=99).map(move |n| format!("{slug}-{n}")));
        let names = slug.into_iter().chain(numbered).map(Self::of);
        names.filter(|names| names.are_free(taken))
    }

    /// Whether nothing has one of these names.
    pub(crate) fn are_free(&self, taken: &Taken) -> bool {
        self.all().iter().all(|name| !taken.contains_key(name))
    }

    /// The name of a sidecar.
    pub(crate) fn sidecar(&self, role: Role) -> String {
        self.beside(role.name())
    }

    /// The name of the container that seals.
    pub(crate) fn seal(&self) -> String {
        self.beside(SEAL)
    }

    /// The name of the internal network.
    pub(crate) fn internal(&self) -> String {
        self.beside("int")
    }

    /// The name of the egress network.
    pub(crate) fn egress(&self) -> String {
        self.beside("egr")
    }

    /// Whether an object of that name can be one of the instance's. Labels alone do not make it one: an
    /// image committed from a bottle's container passes them on to whatever is run from it.
    pub(crate) fn may_include(instance: &str, name: &str) -> bool {
        let beside = |rest: &str| rest.strip_suffix(instance).is_some_and(|what| what.ends_with('-'));
        let known = |rest: &str| rest == instance || beside(rest);
        !instance.is_empty() && (name == instance || name.strip_prefix(PREFIX).is_some_and(known))
    }

    fn beside(&self, what: &str) -> String {
        format!("{PREFIX}{what}-{}", self.instance)
    }

    /// Every name that a bottle may use, whether it does or not.
    fn all(&self) -> Vec<String> {
        let beside =
            Role::ALL.iter().map(|role| self.sidecar(*role)).chain(RESERVED.map(|what| self.beside(what)));
        [self.agent.clone(), self.internal(), self.egress()].into_iter().chain(beside).collect()
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
    use crate::host::TakenBy;

    #[test]
    fn slugs_are_the_predecessors() {
        assert_eq!(slug("Code Reviewer!").as_deref(), Some("code-reviewer"));
        assert_eq!(slug("--a__b--").as_deref(), Some("a-b"));
        assert_eq!(slug("é!"), None);
        let long = slug("a-very-long-agent-name-that-goes-on-and-on").unwrap();
        assert_eq!((long.len(), &long[..24]), (30, "a-very-long-agent-name--"));
        assert_eq!(slug(&"x".repeat(30)).unwrap(), "x".repeat(30));
    }

    fn taken(names: &[&str], kind: ObjectKind, ours: bool) -> Taken {
        names.iter().map(|name| ((*name).to_owned(), TakenBy { kind, ours })).collect()
    }

    #[test]
    fn an_instance_is_free_only_if_all_its_names_are() {
        let free = Names::pick("dev", None, &Taken::new()).unwrap();
        assert_eq!((free.agent.as_str(), free.instance.as_str()), ("claude-bottle-dev", "dev"));
        for name in [
            "claude-bottle-dev",
            "claude-bottle-ssh-gate-dev",
            "claude-bottle-egress-dev",
            "claude-bottle-int-dev",
            "claude-bottle-egr-dev",
        ] {
            let taken = taken(&[name], ObjectKind::Container, false);
            assert_eq!(Names::pick("dev", None, &taken).unwrap().instance, "dev-2", "{name}");
        }
    }

    #[test]
    fn every_name_of_an_instance_may_be_its_and_no_other_is() {
        for pinned in
            [None, Some("mine"), Some("claude-bottle-mine"), Some("claude-bottle-"), Some("a.b_c-2")]
        {
            let names = Names::pick("dev", pinned, &Taken::new()).unwrap();
            let all = names.all();
            assert!(all.iter().all(|name| Names::may_include(&names.instance, name)), "{all:?}");
            assert!(!all.iter().any(|name| Names::may_include("other", name)), "{all:?}");
        }
        for name in ["happy_noether", "claude-bottle-dev-2", "claude-bottle-mydev", "mydev", "my-dev", ""] {
            assert!(!Names::may_include("dev", name), "{name}");
        }
        assert!(!Names::may_include("", "claude-bottle-") && !Names::may_include("", ""));
    }

    #[test]
    fn every_free_name_is_offered_once() {
        let taken = taken(&["claude-bottle-dev", "claude-bottle-int-dev-3"], ObjectKind::Network, true);
        let free: Vec<_> = Names::free("dev", &taken).map(|names| names.instance).collect();
        assert_eq!((free.len(), free[0].as_str(), free[1].as_str()), (97, "dev-2", "dev-4"));
        let by = TakenBy { kind: ObjectKind::Container, ours: true };
        let all = Names::free("dev", &Taken::new()).map(|names| (names.agent, by)).collect();
        assert!(matches!(Names::pick("dev", None, &all), Err(NameError::Exhausted(_))));
        assert!(matches!(Names::pick("!", None, &all), Err(NameError::Empty(_))));
    }

    #[test]
    fn a_pinned_name_is_used_as_it_is_or_the_object_in_the_way_is_named() {
        let names = Names::pick("dev", Some("mine"), &Taken::new()).unwrap();
        assert_eq!(
            (names.agent.as_str(), names.sidecar(Role::SshGate).as_str()),
            ("mine", "claude-bottle-ssh-gate-mine")
        );
        for (name, kind, ours, hint) in [
            (
                "mine",
                ObjectKind::Container,
                true,
                "remove it with `docker rm -f mine`, or unset the override",
            ),
            (
                "claude-bottle-int-mine",
                ObjectKind::Network,
                true,
                "remove it with `docker network rm claude-bottle-int-mine`, or unset the override",
            ),
            ("mine", ObjectKind::Container, false, "choose another name, or unset the override"),
        ] {
            let error = Names::pick("dev", Some("mine"), &taken(&[name], kind, ours)).unwrap_err();
            assert_eq!(error, NameError::PinnedTaken { name: name.into(), kind, ours });
            assert_eq!(error.hint().as_deref(), Some(hint));
        }
        assert!(matches!(Names::pick("dev", Some("-x y"), &Taken::new()), Err(NameError::Pinned(_))));
    }
}
