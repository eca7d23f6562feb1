//! Labels: how `cleanup` and `list` know whose an object is, and what it is.

use std::collections::BTreeMap;

/// The bottle that the object belongs to.
pub(crate) const INSTANCE: &str = "claude-bottle.instance";
/// What it is in that bottle, e.g. `agent`, `ssh-gate`, `network`.
pub(crate) const ROLE: &str = "claude-bottle.role";
/// The manifest's name of the agent.
pub(crate) const AGENT: &str = "claude-bottle.agent";
/// `attached` or `detached`.
pub(crate) const MODE: &str = "claude-bottle.mode";
/// The process that launched it.
pub(crate) const LAUNCHER: &str = "claude-bottle.launcher";
/// The hash of its plan.
pub(crate) const PLAN: &str = "claude-bottle.plan";
/// The launcher's version.
pub(crate) const VERSION: &str = "claude-bottle.version";

/// What every name of ours begins with.
pub(crate) const PREFIX: &str = "claude-bottle-";

/// The labels of an object.
pub(crate) type Labels = BTreeMap<String, String>;

/// The value of a label, empty when it is missing.
pub(crate) fn value<'l>(labels: &'l Labels, key: &str) -> &'l str {
    labels.get(key).map_or("", String::as_str)
}
