//! Where a relay listens and where it connects to: `unix:PATH` or `tcp:HOST:PORT`.
//!
//! Where `connect` connects to is a [`HostPort`].

use std::{fmt, io, path::PathBuf, str::FromStr, time::Duration};

use rustix::io::Errno;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

/// An address on the command line.
///
/// ```
/// # use bottle_guest::address::{Address, HostPort};
/// let address: Address = "tcp:[::1]:22".parse()?;
/// assert_eq!(address, Address::Tcp(HostPort { host: "::1".into(), port: 22 }));
/// assert_eq!(address.to_string(), "tcp:[::1]:22");
/// # Ok::<(), bottle_guest::address::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A TCP port.
    Tcp(HostPort),
}

/// A TCP port of a host: `HOST:PORT`. Brackets around the host are allowed, and required around an
/// IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// Port 0 is for listening only: the kernel picks one.
    pub port: u16,
}

/// An open connection to either kind of address.
pub type Stream = Either<UnixStream, TcpStream>;

impl Address {
    /// Connects, and waits as long as the listener's backlog or our own descriptors are full.
    ///
    /// The caller sets the deadline.
    ///
    /// # Errors
    ///
    /// Nobody listens there, or the name has no address.
    pub async fn connect(&self) -> io::Result<Stream> {
        loop {
            match self.connect_once().await {
                Err(error) if is_passing(&error) => tokio::time::sleep(RETRY).await,
                outcome => return outcome,
            }
        }
    }

    async fn connect_once(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(path) => Ok(Either::Left(UnixStream::connect(path).await?)),
            Self::Tcp(HostPort { host, port }) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Either::Right(stream))
            }
        }
    }
}

/// True for a full backlog of a Unix socket, and for a lack of descriptors.
fn is_passing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AGAIN | Errno::MFILE | Errno::NFILE))
}

/// Between two attempts to connect: short beside a signature, long beside a system call.
const RETRY: Duration = Duration::from_millis(20);

/// Text that is no address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected `unix:PATH` or `tcp:HOST:PORT`, found `{}`", .0.escape_debug())]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = || AddressError(text.to_owned());
        match text.split_once(':') {
            Some(("unix", path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            Some(("tcp", rest)) => rest.parse().map(Self::Tcp).map_err(|_: HostPortError| error()),
            _ => Err(error()),
        }
    }
}

/// Text that is not a host and a port.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected `HOST:PORT` or `[IPV6]:PORT`, found `{}`", .0.escape_debug())]
pub struct HostPortError(String);

impl FromStr for HostPort {
    type Err = HostPortError;

    fn from_str(text: &str) -> Result<Self, HostPortError> {
        let error = || HostPortError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let host = match host.strip_prefix('[') {
            Some(literal) => literal.strip_suffix(']').ok_or_else(error)?,
            None if host.contains(':') => return Err(error()),
            None => host,
        };
        if host.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port: port.parse().map_err(|_| error())? })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(port) => write!(f, "tcp:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_read_and_written_alike() {
        for text in ["unix:/run/a.sock", "unix:b:c", "tcp:gate:22", "tcp:127.0.0.1:0", "tcp:[::1]:65535"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_told() {
        for text in ["", "unix:", "/run/a.sock", "tcp:", "tcp:gate", "tcp::22", "tcp:gate:", "tcp:gate:+22"]
            .into_iter()
            .chain(["tcp:gate:65536", "tcp:::1:22", "tcp:[::1:22", "udp:gate:22", "tcp:[]:22"])
        {
            assert_eq!(text.parse::<Address>(), Err(AddressError(text.to_owned())), "{text}");
        }
    }
    #[test]
    fn brackets_around_a_name_are_allowed() {
        // `[%h]:%p` in ssh's configuration then suits every host.
        assert_eq!("[ssh-gate]:2201".parse::<HostPort>().unwrap().to_string(), "ssh-gate:2201");
    }

    #[test]
    fn a_host_and_a_port_are_both_required() {
        for text in ["", "gate", "gate:", ":22", "::1:22", "[::1:22", "gate:65536", "gate:-1", "[]:22"] {
            assert_eq!(text.parse::<HostPort>(), Err(HostPortError(text.to_owned())), "{text}");
        }
    }
}
