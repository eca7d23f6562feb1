//! Where the engine listens.
//!
//! In this order: the address that was asked for, `DOCKER_HOST`, the current Docker context, the
//! usual sockets. An empty variable counts as unset. Only plain sockets and plain TCP are spoken:
//! `ssh://` and TLS belong to a tunnel of the user's own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::engine::EngineError;

/// An address that can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and port, without TLS.
    Tcp(String),
}

impl Address {
    /// Finds the engine: `host` as typed, else what the environment says, else the usual sockets.
    pub(super) fn find(
        host: Option<&str>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Address, EngineError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        if let Some(host) = host.map(str::to_owned).or_else(|| env("DOCKER_HOST")) {
            return Address::parse(&host);
        }
        if let Some(host) = context_host(&env)? {
            return Address::parse(&host);
        }
        usual_socket(&env)
    }

    fn parse(text: &str) -> Result<Address, EngineError> {
        let wrong = || EngineError::Address { found: text.to_owned() };
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Address::Unix(rest.into())),
            "tcp" | "http" => {
                let authority = rest.trim_end_matches('/');
                let (name, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
                let bare_v6 = name.contains(':') && !name.starts_with('[');
                if name.is_empty() || bare_v6 || port.parse::<u16>().is_err() {
                    return Err(wrong());
                }
                Ok(Address::Tcp(authority.to_owned()))
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(authority) => write!(f, "tcp://{authority}"),
        }
    }
}

/// The host of the current Docker context; `None` for the context `default`.
fn context_host(env: &impl Fn(&str) -> Option<String>) -> Result<Option<String>, EngineError> {
    let folder = env("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| env("HOME").map(|home| Path::new(&home).join(".docker")));
    let Some(folder) = folder else { return Ok(None) };
    let current = || {
        let text = std::fs::read(folder.join("config.json")).ok()?;
        serde_json::from_slice::<ClientConfig>(&text).ok()?.current_context
    };
    let Some(name) = env("DOCKER_CONTEXT").or_else(current) else { return Ok(None) };
    if name.is_empty() || name == "default" {
        return Ok(None);
    }
    let digest = crate::images::sha256(name.as_bytes());
    std::fs::read(folder.join("contexts/meta").join(digest).join("meta.json"))
        .ok()
        .and_then(|text| serde_json::from_slice::<ContextMeta>(&text).ok())
        .map(|meta| Some(meta.endpoints.docker.host))
        .ok_or_else(|| EngineError::Address { found: format!("the unknown Docker context {name}") })
}

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct ContextMeta {
    #[serde(rename = "Endpoints")]
    endpoints: ContextEndpoints,
}

#[derive(Deserialize)]
struct ContextEndpoints {
    docker: ContextEndpoint,
}

#[derive(Deserialize)]
struct ContextEndpoint {
    #[serde(rename = "Host")]
    host: String,
}

/// The first usual socket that somebody answers at; else the error that says most.
fn usual_socket(env: &impl Fn(&str) -> Option<String>) -> Result<Address, EngineError> {
    let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
    let runtime = env("XDG_RUNTIME_DIR").map(PathBuf::from);
    sockets.extend(runtime.iter().map(|folder| folder.join("docker.sock")));
    sockets.extend(env("HOME").map(|home| Path::new(&home).join(".docker/run/docker.sock")));
    sockets.extend(runtime.iter().map(|folder| folder.join("podman/podman.sock")));
    sockets.push("/run/podman/podman.sock".into());

    let mut failed: Option<(PathBuf, io::Error)> = None;
    for socket in sockets {
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(_) => return Ok(Address::Unix(socket)),
            // A socket that is there but does not answer explains more than one that is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                failed.get_or_insert((socket, error));
            }
            Err(error) => match &failed {
                Some((_, earlier)) if earlier.kind() != io::ErrorKind::NotFound => {}
                _ => failed = Some((socket, error)),
            },
        }
    }
    let (socket, source) = failed.expect("the list of usual sockets is not empty");
    Err(unreachable_at(&Address::Unix(socket), source))
}

/// The error for a connection that failed.
pub(super) fn unreachable_at(address: &Address, source: io::Error) -> EngineError {
    let address = address.to_string();
    match source.kind() {
        io::ErrorKind::PermissionDenied => EngineError::Permission { address },
        _ => EngineError::Unreachable { address, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(host: Option<&str>, variables: &[(&str, &str)]) -> Result<String, String> {
        let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
        Address::find(host, env).map(|address| address.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_typed_wins_over_the_environment() {
        let environment = [("DOCKER_HOST", "tcp://127.0.0.1:2375")];
        assert_eq!(found(Some("unix:///tmp/a.sock"), &environment), Ok("unix:///tmp/a.sock".into()));
        assert_eq!(found(None, &environment), Ok("tcp://127.0.0.1:2375".into()));
    }

    #[test]
    fn the_current_context_names_the_engine() {
        let folder = tempfile::tempdir().unwrap();
        let digest = crate::images::sha256(b"faraway");
        let meta = folder.path().join("contexts/meta").join(digest);
        std::fs::create_dir_all(&meta).unwrap();
        std::fs::write(
            meta.join("meta.json"),
            r#"{"Name":"faraway","Endpoints":{"docker":{"Host":"unix:///tmp/f.sock"}}}"#,
        )
        .unwrap();
        std::fs::write(folder.path().join("config.json"), r#"{"currentContext":"faraway"}"#).unwrap();
        let config = folder.path().to_str().unwrap();

        assert_eq!(found(None, &[("DOCKER_CONFIG", config)]), Ok("unix:///tmp/f.sock".into()));
        let empty = [("DOCKER_CONFIG", config), ("DOCKER_HOST", "")];
        assert_eq!(found(None, &empty), Ok("unix:///tmp/f.sock".into()));
        let unknown = [("DOCKER_CONFIG", config), ("DOCKER_CONTEXT", "nowhere")];
        assert!(found(None, &unknown).unwrap_err().contains("unknown Docker context nowhere"));
    }

    #[test]
    fn addresses_that_make_no_sense_are_named() {
        for text in [
            "docker.sock",
            "unix://relative",
            "ssh://host",
            "tcp://host",
            "tcp://:1",
            "tcp://::1:2375",
            "https://h:1",
        ] {
            assert!(found(Some(text), &[]).unwrap_err().contains(text), "{text}");
        }
        assert_eq!(found(Some("http://[::1]:2375/"), &[]), Ok("tcp://[::1]:2375".into()));
    }
}
