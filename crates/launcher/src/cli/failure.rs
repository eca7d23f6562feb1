//! How a command ends badly: the kind, which is the exit code, the sentence, and what to do about it.

use std::error::Error;
use std::fmt;

use sidecar::exit::{chain, escape};

use crate::engine::EngineError;
use crate::images::ImagesError;

/// Why a command ended, in one line, with perhaps a second that says what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The kind, and with it the exit code.
    pub kind: Kind,
    error: Box<dyn Error + Send + Sync>,
    hint: Option<String>,
}

/// The kinds of failure, each an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 1: the user said no.
    Declined,
    /// 1: an answer could not be written.
    Answer,
    /// 2: a command line that makes no sense, or asks for what does not exist yet.
    Usage,
    /// 66: a secret or key could not be read, or a token variable is unset.
    Secret,
    /// 69: the engine is absent, or refused a step.
    Engine,
    /// 70: a bug.
    Bug,
    /// 74: something could not be removed.
    Teardown,
    /// 75: a sidecar did not become ready.
    NotReady,
    /// 78: the manifest is absent or bad.
    Manifest,
    /// 130: interrupted, and torn down.
    Interrupted,
}

impl Kind {
    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Declined | Self::Answer => 1,
            Self::Usage => 2,
            Self::Secret => 66,
            Self::Engine => 69,
            Self::Bug => 70,
            Self::Teardown => 74,
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

    /// What a later version will do (exit 2).
    pub(crate) fn not_yet(what: &str) -> Self {
        Self::new(Kind::Usage, format!("not yet: {what} comes with a later version"))
    }

    /// The same failure with a sentence that says what to do.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The lines for stderr: `error: ...` and perhaps `hint: ...`, each cause once.
    pub(crate) fn lines(&self) -> String {
        let mut lines = format!("error: {}\n", escape(&self.to_string()));
        if let Some(hint) = &self.hint {
            lines.push_str(&format!("hint: {}\n", escape(hint)));
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
        let hint = match &error {
            EngineError::Unreachable { .. } => Some("start Docker, or set DOCKER_HOST or --host"),
            EngineError::Permission { .. } => Some(
                "add your user to the group `docker` and log in again, or set DOCKER_HOST to an engine of your own",
            ),
            EngineError::SubnetTaken { .. } => Some("remove unused networks with `docker network prune`"),
            _ => None,
        };
        let failure = Self::new(Kind::Engine, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<ImagesError> for Failure {
    fn from(error: ImagesError) -> Self {
        Self::new(Kind::Engine, error)
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
            failure.lines(),
            "error: could not reach the container engine at unix:///var/run/docker.sock: entity not found\n\
             hint: start Docker, or set DOCKER_HOST or --host\n"
        );
    }
}
