//! Commands, and what they do.

use crate::engine::ExecSpec;

/// A command that was run: by exec, or as a one-shot container in another's network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// The name of the container.
    pub container: String,
    /// The command, environment and user. Of a one-shot container: its entrypoint, command, env and user.
    pub spec: ExecSpec,
    /// What it read from its stdin.
    pub stdin: Vec<u8>,
}

/// What a command that was run does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// What it writes to stdout.
    pub stdout: Vec<u8>,
    /// What it writes to stderr.
    pub stderr: Vec<u8>,
    /// Its exit code.
    pub exit_code: i64,
}
