//! Where the engine listens.
//!
//! In this order: the address that was typed, `DOCKER_HOST`, the current Docker context, the usual
//! sockets. An empty variable counts as unset. Only Unix sockets and plain TCP are implemented,
//! and plain TCP is meant for this machine: SSH and TLS need a forwarded socket.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use hyper::http::uri::Authority;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::context;
use crate::engine::{EngineError, Protocol};

/// An address that can be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// A host and port, without TLS.
    Tcp(Authority),
}

impl Address {
    /// Finds the engine: `host` as typed, else what the environment names, else the usual sockets.
    pub(super) fn find(
        host: Option<&str>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Address, EngineError> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        if let Some(host) = host.map(str::to_owned).or_else(|| env("DOCKER_HOST")) {
            // As the docker command reads them: set to anything, `0` too.
            let tls = env("DOCKER_TLS_VERIFY").or_else(|| env("DOCKER_TLS")).is_some();
            return Address::plain(&host, tls);
        }
        match context::current(&env)? {
            Some(endpoint) => Address::plain(&endpoint.host, endpoint.tls),
            None => usual_socket(&env),
        }
    }

    /// Parses `unix://`, `tcp://` or `http://`.
    pub(super) fn parse(text: &str) -> Result<Address, EngineError> {
        let invalid = || EngineError::Address { found: shown(text) };
        let unsupported = |protocol| EngineError::Unsupported { address: shown(text), protocol };
        let (scheme, rest) = text.split_once("://").ok_or_else(invalid)?;
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Address::Unix(rest.into())),
            "tcp" | "http" => {
                let authority: Authority = rest.trim_end_matches('/').parse().map_err(|_| invalid())?;
                let named = !authority.host().is_empty() && !authority.as_str().contains('@');
                match authority.port_u16() {
                    Some(_) if named => Ok(Address::Tcp(authority)),
                    _ => Err(invalid()),
                }
            }
            "ssh" => Err(unsupported(Protocol::Ssh)),
            "https" => Err(unsupported(Protocol::Tls)),
            _ => Err(invalid()),
        }
    }

    fn plain(text: &str, tls: bool) -> Result<Address, EngineError> {
        match Address::parse(text)? {
            Address::Tcp(_) if tls => {
                Err(EngineError::Unsupported { address: shown(text), protocol: Protocol::Tls })
            }
            address => Ok(address),
        }
    }

    /// Whether what is sent there stays on this machine.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp(authority) => {
                let host = authority.host().trim_start_matches('[').trim_end_matches(']');
                // Other spellings of an address, such as 127.1, are names here, and not local.
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
            }
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

/// An address as errors show it: without a password.
fn shown(text: &str) -> String {
    let (scheme, rest) = text.split_once("://").map_or(("", text), |(scheme, rest)| (scheme, rest));
    match rest.rsplit_once('@').and_then(|(userinfo, host)| Some((userinfo.split_once(':')?.0, host))) {
        Some((user, host)) if scheme.is_empty() => format!("{user}:***@{host}"),
        Some((user, host)) => format!("{scheme}://{user}:***@{host}"),
        None => text.to_owned(),
    }
}

/// The first usual socket that accepts a connection; else the error that explains most.
fn usual_socket(env: &impl Fn(&str) -> Option<String>) -> Result<Address, EngineError> {
    let mut sockets = vec![PathBuf::from("/var/run/docker.sock")];
    let runtime = env("XDG_RUNTIME_DIR").map(PathBuf::from);
    sockets.extend(runtime.iter().map(|folder| folder.join("docker.sock")));
    sockets.extend(env("HOME").map(|home| Path::new(&home).join(".docker/run/docker.sock")));
    sockets.extend(runtime.iter().map(|folder| folder.join("podman/podman.sock")));
    sockets.push("/run/podman/podman.sock".into());

    let mut failed: Option<(PathBuf, io::Error)> = None;
    for socket in sockets {
        match accepts(&socket) {
            Ok(()) => return Ok(Address::Unix(socket)),
            // A socket that exists and does not accept explains more than one that is missing.
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

/// Whether a socket accepts connections, found out without waiting: a socket whose queue is full has
/// an engine behind it.
fn accepts(socket: &Path) -> io::Result<()> {
    let address = SocketAddrUnix::new(socket)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&probe, &address) {
        Ok(()) | Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error.into()),
    }
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
    use super::super::fake::full_queue;
    use super::*;

    fn find(host: Option<&str>, variables: &[(&str, &str)]) -> Result<Address, EngineError> {
        let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, v)| (*v).to_owned());
        Address::find(host, env)
    }

    #[test]
    fn what_was_typed_wins_over_the_environment() {
        let environment = [("DOCKER_HOST", "tcp://127.0.0.1:2375")];
        let found = |host| find(host, &environment).unwrap().to_string();
        assert_eq!(found(Some("unix:///tmp/a.sock")), "unix:///tmp/a.sock");
        assert_eq!(found(None), "tcp://127.0.0.1:2375");
    }

    #[test]
    fn an_invalid_address_is_named() {
        for text in [
            "docker.sock",
            "unxi:///var/run/docker.sock",
            "unxi://x",
            "unix://relative",
            "tcp://host",
            "tcp://:1",
            "tcp://::1:2375",
            "tcp://h:70000",
            "tcp://h:1/path",
            "tcp://user@h:1",
            "tcp://a b:1",
            "tcp://a\r\nb:1",
        ] {
            let error = find(Some(text), &[]).unwrap_err();
            assert!(matches!(&error, EngineError::Address { found } if found == text), "{text}: {error:?}");
        }
        assert_eq!(find(Some("http://[::1]:2375/"), &[]).unwrap().to_string(), "tcp://[::1]:2375");
    }

    #[test]
    fn ssh_and_tls_are_not_supported() {
        for (text, variables, expected) in [
            ("ssh://ada@build", [("", "")], Protocol::Ssh),
            ("https://h:2376", [("", "")], Protocol::Tls),
            ("tcp://h:2376", [("DOCKER_TLS_VERIFY", "1")], Protocol::Tls),
            ("tcp://127.0.0.1:2376", [("DOCKER_TLS", "1")], Protocol::Tls),
        ] {
            let error = find(Some(text), &variables).unwrap_err();
            assert!(
                matches!(&error, EngineError::Unsupported { address, protocol } if address == text && *protocol == expected),
                "{text}: {error:?}"
            );
        }
        let unset = [("DOCKER_TLS_VERIFY", "")];
        assert!(find(Some("tcp://h:2375"), &unset).is_ok());
        let socket = [("DOCKER_TLS_VERIFY", "1")];
        assert!(find(Some("unix:///tmp/a.sock"), &socket).is_ok(), "a socket needs no TLS");
    }

    #[test]
    fn a_password_is_not_shown() {
        for text in ["ssh://ada:hunter2@h", "tcp://ada:hunter2@h:1", "ada:hunter2@h", "x://a:hunter2@b@h"] {
            let error = find(Some(text), &[]).unwrap_err().to_string();
            assert!(!error.contains("hunter2") && error.contains(":***@h"), "{error}");
        }
    }

    #[test]
    fn the_usual_sockets_are_probed_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("engine.sock");
        assert_eq!(accepts(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = full_queue(&path);
        accepts(&path).unwrap();
        drop(listener);
        assert_eq!(accepts(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn only_loopback_is_local() {
        for (text, expected) in [
            ("unix:///tmp/a.sock", true),
            ("tcp://127.0.0.1:1", true),
            ("tcp://127.8.9.10:1", true),
            ("tcp://[::1]:1", true),
            ("tcp://[::ffff:127.0.0.1]:1", true),
            ("tcp://localhost:1", true),
            ("tcp://LOCALHOST:1", true),
            ("tcp://10.0.0.5:1", false),
            ("tcp://0.0.0.0:1", false),
            ("tcp://[fe80::1]:1", false),
            ("tcp://127.1:1", false),
            ("tcp://localhost.example:1", false),
            ("tcp://127.0.0.1.example:1", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().is_local(), expected, "{text}");
        }
    }
}
