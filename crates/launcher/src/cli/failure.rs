//! How a command fails: the kind, which is the exit code, the message, and what to do about it.

use std::error::Error;
use std::fmt;

use sidecar::exit::chain;

use crate::bottle::launch::LaunchError;
use crate::bottle::run::RunError;
use crate::bottle::session::SessionError;
use crate::engine::EngineError;
use crate::host::settings::SettingsError;
use crate::host::{HostError, ProxyError};
use crate::images::ImagesError;
use crate::manifest::ManifestError;
use crate::plan::{NameError, PlanError};
use crate::secrets::SecretError;
use crate::text::Lines;

/// Why a command failed, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The kind, and with it the exit code.
    pub kind: Kind,
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The user said no.
    Declined,
    /// The command line is invalid, or asks for what is not implemented.
    Usage,
    /// A secret, key or CA file could not be read, or a token variable is not set.
    Secret,
    /// The engine is absent or unproved, or it refused a step.
    Engine,
    /// A bug.
    Bug,
    /// Something could not be removed, or output could not be written.
    Output,
    /// A sidecar did not become ready.
    NotReady,
    /// The manifest is absent or invalid.
    Manifest,
    /// Interrupted, and torn down.
    Interrupted,
}

impl Kind {
    /// The exit code, after sysexits(3).
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Declined => 1,
            Self::Usage => 2,
            Self::Secret => 66,
            Self::Engine => 69,
            Self::Bug => 70,
            Self::Output => 74,
            Self::NotReady => 75,
            Self::Manifest => 78,
            Self::Interrupted => 130,
        }
    }
}

impl Failure {
    /// A failure of that kind with its error.
    pub(crate) fn new(kind: Kind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { kind, error: error.into(), hint: None }
    }

    /// What is not implemented yet (exit 2).
    pub(crate) fn not_yet(what: &str) -> Self {
        Self::new(Kind::Usage, format!("{what} is not implemented yet"))
    }

    /// The same failure with a sentence that says what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn of(kind: Kind, error: impl Into<Box<dyn Error + Send + Sync>>, hint: Option<String>) -> Self {
        Self { kind, error: error.into(), hint }
    }

    /// The lines for stderr: `error: ...` and perhaps `hint: ...`, each cause once.
    pub(crate) fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.line(format_args!("error: {self}"));
        if let Some(hint) = &self.hint {
            lines.line(format_args!("hint: {hint}"));
        }
        lines
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.error))
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let hint = error.hint();
        Self::of(Kind::Engine, error, hint)
    }
}

impl From<ImagesError> for Failure {
    fn from(error: ImagesError) -> Self {
        let hint = error.hint();
        Self::of(Kind::Engine, error, hint)
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        let hint = error.hint();
        Self::of(Kind::Manifest, error, hint)
    }
}

impl From<SettingsError> for Failure {
    fn from(error: SettingsError) -> Self {
        let hint = error.hint();
        Self::of(Kind::Manifest, error, hint)
    }
}

impl From<ProxyError> for Failure {
    fn from(error: ProxyError) -> Self {
        let hint = error.hint();
        Self::of(Kind::Manifest, error, hint)
    }
}

impl From<SecretError> for Failure {
    fn from(error: SecretError) -> Self {
        let hint = error.hint();
        Self::of(Kind::Secret, error, hint)
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Engine(error) => error.into(),
            HostError::Images(error) => error.into(),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        let kind = match &error {
            PlanError::Name(error) => of_name(error),
            PlanError::NoNetwork { .. } | PlanError::NoRuntime(_) => Kind::Engine,
            PlanError::NoImage(_) => Kind::Bug,
            PlanError::NoAgent { .. } | PlanError::Root(_) | PlanError::Table { .. } => Kind::Manifest,
        };
        let hint = error.hint();
        Self::of(kind, error, hint)
    }
}

fn of_name(error: &NameError) -> Kind {
    match error {
        NameError::Exhausted(_) | NameError::PinnedTaken { .. } => Kind::Engine,
        NameError::Empty(_) | NameError::Pinned(_) => Kind::Manifest,
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let kind = match &error {
            SessionError::Name(error) => of_name(error),
            SessionError::Launch(error) => of_launch(error),
        };
        let hint = match &error {
            SessionError::Name(error) => error.hint(),
            SessionError::Launch(error) => error.hint(),
        };
        Self::of(kind, error, hint)
    }
}

fn of_launch(error: &LaunchError) -> Kind {
    match error {
        LaunchError::Provision(error) if error.is_of_manifest() => Kind::Manifest,
        LaunchError::Bundle { .. } => Kind::Manifest,
        LaunchError::NotReady { .. } => Kind::NotReady,
        LaunchError::Interrupted => Kind::Interrupted,
        LaunchError::Abandoned => Kind::Bug,
        LaunchError::Engine(_)
        | LaunchError::Unanswered { .. }
        | LaunchError::Images(_)
        | LaunchError::NoSubnet(_)
        | LaunchError::Unproved { .. }
        | LaunchError::Seal { .. }
        | LaunchError::Provision(_)
        | LaunchError::NoNetwork(_)
        | LaunchError::NoImage(_) => Kind::Engine,
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Engine(error) => error.into(),
            RunError::Output(_) => Self::new(Kind::Output, error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_engine_says_what_to_do() {
        let error = EngineError::Unreachable {
            address: "unix:///var/run/docker.sock".into(),
            source: std::io::Error::from(std::io::ErrorKind::NotFound),
        };
        let failure = Failure::from(error);
        assert_eq!(failure.kind.code(), 69);
        assert_eq!(
            failure.lines().as_str(),
            "error: could not reach the container engine at unix:///var/run/docker.sock: entity not found\n\
             hint: start Docker, or set DOCKER_HOST or --host\n"
        );
    }

    #[test]
    fn the_exit_codes_are_those_of_the_documentation() {
        let kinds = [
            (Kind::Declined, 1),
            (Kind::Usage, 2),
            (Kind::Secret, 66),
            (Kind::Engine, 69),
            (Kind::Bug, 70),
            (Kind::Output, 74),
            (Kind::NotReady, 75),
            (Kind::Manifest, 78),
            (Kind::Interrupted, 130),
        ];
        assert!(kinds.iter().all(|(kind, code)| kind.code() == *code));
    }

    #[test]
    fn no_message_can_forge_a_line() {
        let failure = Failure::new(Kind::Engine, "a\u{1b}[2K\nwarning: none").hint("b\r");
        assert_eq!(failure.lines().as_str(), "error: a\\u{1b}[2K\\nwarning: none\nhint: b\\r\n");
    }
}
