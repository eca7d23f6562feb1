//! The streams of containers and commands.

use std::collections::BTreeMap;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncWrite;

use super::error::EngineError;
use super::objects::ExecId;

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// From its stdout.
    Stdout(Bytes),
    /// From its stderr.
    Stderr(Bytes),
}

/// What comes out of a container or an exec, until it ends.
pub type OutputStream = Pin<Box<dyn Stream<Item = Result<Output, EngineError>> + Send>>;

/// What goes into a container or an exec; shutting it down half-closes, which is EOF for the reader.
pub type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// The standard streams of a container or a command, over one connection.
///
/// The connection closes when both are dropped. A program whose output is not read blocks after about
/// 1 MB, and one that ends then wedges its container: read the output to its end, or drop both.
pub struct Streams {
    /// Stdout and stderr.
    pub output: OutputStream,
    /// Stdin.
    pub input: Input,
}

/// A command to run in a running container. Its arguments are published in the engine's event
/// stream: a secret goes over stdin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment, on top of the container's.
    pub env: BTreeMap<String, String>,
    /// The user, else the container's.
    pub user: Option<String>,
    /// The working directory, else the container's.
    pub working_dir: Option<String>,
    /// Whether stdin is joined.
    pub stdin: bool,
    /// Whether the output is joined; without it the exec runs on by itself.
    pub output: bool,
}

/// A running exec.
pub struct Exec {
    /// Its id.
    pub id: ExecId,
    /// Its streams; `None` when it was started without joining any.
    pub streams: Option<Streams>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Exec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exec").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Whether the first piece of a command's output is the engine's message that it could not run the
/// command. Docker writes it to stdout, podman to stderr.
///
/// A command can print the same text: rely on it only together with an exit code of 125, 126 or 127.
pub fn cannot_run(output: &Output) -> bool {
    let (bytes, beginnings) = match output {
        Output::Stdout(bytes) => (bytes, DOCKER_CANNOT_RUN),
        Output::Stderr(bytes) => (bytes, PODMAN_CANNOT_RUN),
    };
    beginnings.iter().any(|beginning| bytes.starts_with(beginning.as_bytes()))
}

/// Docker 20.10 to 29, with runc, crun and runsc.
const DOCKER_CANNOT_RUN: &[&str] =
    &["OCI runtime exec failed: ", "unable to find user ", "unable to find group "];
/// podman 5 with runc and crun. It reports an unknown user with a status.
const PODMAN_CANNOT_RUN: &[&str] = &["Error: runc: ", "Error: crun: ", "Error: OCI runtime "];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_says_in_its_own_way_that_it_cannot_run_a_command() {
        let said = [
            // Engine 20.10.24 and 26.1.5 with runc 1.1.
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/missing\": stat /missing: no such file or directory: unknown\r\n",
            // Engine 26.1.5.
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \"/usr\": is a directory: unknown: permission denied\r\n",
            // Engine 20.10 with runc 1.0.
            "OCI runtime exec failed: exec failed: container_linux.go:380: starting container process caused: exec: \"x\": executable file not found in $PATH: unknown\r\n",
            "unable to find user nouser: no matching entries in passwd file\r\n",
        ];
        for text in said {
            assert!(cannot_run(&Output::Stdout(text.into())), "{text}");
            assert!(!cannot_run(&Output::Stderr(text.into())), "Docker writes it to stdout: {text}");
        }
        let said = [
            // podman 5.4.2 with runc, and with crun.
            "Error: runc: exec failed: unable to start container process: exec: \"/missing\": stat /missing: no such file or directory: OCI runtime attempted to invoke a command that was not found\n",
            "Error: crun: executable file `missing` not found in $PATH: No such file or directory: OCI runtime attempted to invoke a command that was not found\n",
        ];
        for text in said {
            assert!(cannot_run(&Output::Stderr(text.into())), "{text}");
            assert!(!cannot_run(&Output::Stdout(text.into())), "podman writes it to stderr: {text}");
        }
        for text in ["", "OCI", "Error: no such branch\n", "the OCI runtime exec failed: x"] {
            assert!(!cannot_run(&Output::Stdout(text.into())) && !cannot_run(&Output::Stderr(text.into())));
        }
    }
}
