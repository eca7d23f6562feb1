//! Why the engine did not do what was requested, and what to do about it.

use std::fmt;
use std::io;

/// Why the engine did not do what was requested.
///
/// Every text may contain words of the engine, of an image or of the user: escape it before it is
/// printed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine does not answer at the address.
    #[error("could not reach the container engine at {address}")]
    Unreachable {
        /// The address, e.g. `unix:///var/run/docker.sock`.
        address: String,
        /// Why the connection failed.
        source: io::Error,
    },
    /// The socket exists, but this user may not use it.
    #[error("no permission to use the container engine at {address}")]
    Permission {
        /// The address, e.g. `unix:///var/run/docker.sock`.
        address: String,
    },
    /// The engine's address is invalid.
    #[error(
        "expected an engine address such as unix:///var/run/docker.sock or tcp://127.0.0.1:2375, found {found:?}"
    )]
    Address {
        /// The address that was given, without its password.
        found: String,
    },
    /// The current Docker context is missing or invalid.
    #[error("could not read the Docker context {name:?}")]
    Context {
        /// The context's name.
        name: String,
        /// What is wrong with its file.
        source: io::Error,
    },
    /// The address requires a protocol that the launcher does not implement.
    #[error("could not use the container engine at {address}: {protocol} is not supported")]
    Unsupported {
        /// The address, without its password.
        address: String,
        /// The protocol that the address requires.
        protocol: Protocol,
    },
    /// The engine is on another machine, and the connection would not be encrypted.
    #[error(
        "the engine at {address} is reached over plain TCP: keys and tokens would cross the network unencrypted"
    )]
    Plaintext {
        /// The address, e.g. `tcp://10.0.0.5:2375`.
        address: String,
    },
    /// The object does not exist, or does not exist any more.
    #[error("the engine could not {act}: {message}")]
    NotFound {
        /// The request, e.g. `create container claude-bottle-dev`.
        act: String,
        /// Which kind of object is missing; for an exec, its container.
        kind: ObjectKind,
        /// The engine's message.
        message: String,
    },
    /// The name of a container or network is in use.
    #[error("the {kind} name {name} is taken")]
    NameTaken {
        /// The kind of object that has the name.
        kind: ObjectKind,
        /// The name.
        name: String,
    },
    /// The subnet overlaps another network's.
    #[error("the subnet {subnet} is taken")]
    SubnetTaken {
        /// The subnet.
        subnet: String,
    },
    /// The engine refused the request.
    #[error("the engine could not {act}: {message}")]
    Refused {
        /// The request, e.g. `remove network 0123456789ab`.
        act: String,
        /// The HTTP status of the response.
        status: u16,
        /// The engine's message.
        message: String,
    },
    /// A file in a container cannot be read as a small regular file.
    #[error("could not read {path} in the container: {fault}")]
    File {
        /// The path that was requested.
        path: String,
        /// Why it cannot be read.
        fault: FileFault,
    },
    /// The response is not what the API promises, or the connection broke before its end.
    #[error("could not read the engine's response to {act:?}")]
    Broken {
        /// The request.
        act: String,
        /// What is wrong with the response.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The engine did not respond within the deadline.
    #[error("the engine did not {act} within {seconds} s")]
    Timeout {
        /// The request.
        act: String,
        /// The deadline, rounded up.
        seconds: u64,
    },
}

impl EngineError {
    /// The kind of object that does not exist.
    pub fn missing(&self) -> Option<ObjectKind> {
        match self {
            Self::NotFound { kind, .. } => Some(*kind),
            _ => None,
        }
    }

    /// What the user can do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { .. } => Some("start Docker, or set DOCKER_HOST or --host".to_owned()),
            Self::Permission { .. } => Some(
                "add your user to the group `docker` and log in again, or set DOCKER_HOST to another engine"
                    .to_owned(),
            ),
            Self::Context { .. } => {
                Some("list the contexts with `docker context ls`, or set DOCKER_HOST or --host".to_owned())
            }
            Self::SubnetTaken { .. } => Some("remove unused networks with `docker network prune`".to_owned()),
            Self::Unsupported { .. } => Some(TUNNEL.to_owned()),
            Self::Plaintext { .. } => {
                Some(format!("{TUNNEL}; --insecure-engine allows the plain connection"))
            }
            Self::Address { .. }
            | Self::NotFound { .. }
            | Self::NameTaken { .. }
            | Self::Refused { .. }
            | Self::File { .. }
            | Self::Broken { .. }
            | Self::Timeout { .. } => None,
        }
    }
}

/// A protocol that the launcher does not implement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `ssh://`.
    Ssh,
    /// `https://`, or `tcp://` with `DOCKER_TLS`, `DOCKER_TLS_VERIFY` or a context with certificates.
    Tls,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ssh => "SSH",
            Self::Tls => "TLS",
        })
    }
}

/// Why a file in a container cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFault {
    /// It is a directory.
    Directory,
    /// It is a device, a named pipe or a socket.
    Special,
    /// It is larger than 1 MiB.
    TooLarge,
    /// It is reached through too many symbolic links, or links that form a loop.
    TooManyLinks,
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "it is a directory",
            Self::Special => "it is not a regular file",
            Self::TooLarge => "it is larger than 1 MiB",
            Self::TooManyLinks => "it is behind too many symbolic links",
        })
    }
}

/// What an engine keeps under names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// A container.
    Container,
    /// A network.
    Network,
    /// An image.
    Image,
}

impl ObjectKind {
    /// The command that removes the object of that name.
    pub fn removal(self, name: &str) -> String {
        match self {
            Self::Container => format!("docker rm -f {name}"),
            Self::Network => format!("docker network rm {name}"),
            Self::Image => format!("docker rmi {name}"),
        }
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Image => "image",
        })
    }
}

/// How an engine on another machine is used. The socket is in the user's own folder, where no other
/// user can plant one.
const TUNNEL: &str = "forward the engine's socket with `ssh -L ~/docker.sock:/var/run/docker.sock -N HOST`, \
                      then use `--host unix://$HOME/docker.sock`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_behind_ssh_or_tls_is_reached_through_a_forwarded_socket() {
        let address = "ssh://ada@build".to_owned();
        let error = EngineError::Unsupported { address, protocol: Protocol::Ssh };
        assert_eq!(
            error.to_string(),
            "could not use the container engine at ssh://ada@build: SSH is not supported"
        );
        let hint = error.hint().unwrap();
        assert!(hint.contains("ssh -L ~/docker.sock:/var/run/docker.sock -N HOST"), "{hint}");
        assert!(hint.contains("--host unix://$HOME/docker.sock"), "{hint}");
    }

    #[test]
    fn a_plain_connection_says_what_is_at_risk_and_how_to_allow_it() {
        let error = EngineError::Plaintext { address: "tcp://10.0.0.5:2375".into() };
        assert_eq!(
            error.to_string(),
            "the engine at tcp://10.0.0.5:2375 is reached over plain TCP: \
             keys and tokens would cross the network unencrypted"
        );
        let hint = error.hint().unwrap();
        assert!(hint.contains("--insecure-engine") && hint.contains("ssh -"), "{hint}");
    }

    #[test]
    fn a_response_that_cannot_be_read_names_its_request() {
        let error = EngineError::Broken { act: "create container x".into(), source: "cut".into() };
        assert_eq!(error.to_string(), "could not read the engine's response to \"create container x\"");
    }
}
