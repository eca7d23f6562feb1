//! The socket on which a relay is asked.
//!
//! A Unix socket has its final mode from its first moment, a stale file of a killed
//! predecessor is replaced, and the file of a living one never is.

use std::{
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use rustix::{fs::Mode, process::umask};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::either::Either;

use crate::address::{Address, HostPort, Stream};

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// On a socket in the file system.
    Unix(UnixListener, SocketFile),
    /// On a TCP port.
    Tcp(TcpListener),
}

/// The file of a bound Unix socket.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: what stands at the path later may be another's.
    id: (u64, u64),
}

impl Listener {
    /// Binds the address. The mode is for a Unix socket's file.
    ///
    /// Sets the process's file mode mask for a moment: call it while nothing else makes files.
    ///
    /// # Errors
    ///
    /// Somebody listens there already, a file that is no socket is in the way, or the kernel
    /// refuses.
    pub async fn bind(address: &Address, mode: SocketMode) -> Result<Self, BindError> {
        let refused = |source| BindError::Bind { address: address.clone(), source };
        match address {
            Address::Tcp(HostPort { host, port }) => {
                TcpListener::bind((host.as_str(), *port)).await.map(Self::Tcp).map_err(refused)
            }
            Address::Unix(path) => {
                let listener = match bind_unix(path, mode) {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        remove_stale(path, address).await?;
                        bind_unix(path, mode)
                    }
                    outcome => outcome,
                }
                .map_err(refused)?;
                let file = SocketFile { path: path.clone(), id: file_id(path).map_err(refused)? };
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// Takes one connection in.
    ///
    /// # Errors
    ///
    /// As accept(2): the listener remains good.
    pub async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Unix(listener, _) => Ok(Either::Left(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Either::Right(stream))
            }
        }
    }

    /// Where we listen, with the port that was bound.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Unix(_, file) => Ok(Address::Unix(file.path.clone())),
            Self::Tcp(listener) => {
                let bound = listener.local_addr()?;
                Ok(Address::Tcp(HostPort { host: bound.ip().to_string(), port: bound.port() }))
            }
        }
    }

    /// Stops listening and removes the socket's file, if it is still ours.
    ///
    /// # Errors
    ///
    /// As unlink(2).
    pub fn close(self) -> io::Result<()> {
        match self {
            Self::Unix(_, file) if file_id(&file.path).is_ok_and(|id| id == file.id) => {
                std::fs::remove_file(&file.path)
            }
            _ => Ok(()),
        }
    }
}

/// Binds with the mode as it shall be, rather than with chmod(2) afterwards: no moment in which
/// the socket is open to more, and no path that is followed twice.
fn bind_unix(path: &Path, mode: SocketMode) -> io::Result<UnixListener> {
    let before = umask(Mode::from_raw_mode(!mode.0 & 0o777));
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

/// Removes a socket on which nobody listens any more.
async fn remove_stale(path: &Path, address: &Address) -> Result<(), BindError> {
    let told = |source| BindError::Bind { address: address.clone(), source };
    if !std::fs::symlink_metadata(path).map_err(told)?.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(told)
        }
        // Connected, or the backlog is full: somebody listens.
        Ok(_) => Err(BindError::Alive { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::Alive { path: path.to_owned() })
        }
        Err(error) => Err(told(error)),
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    std::fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Who may connect to a Unix socket: permission bits, in octal on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(u32);

impl Default for SocketMode {
    /// The owner alone.
    fn default() -> Self {
        Self(0o600)
    }
}

/// Text that is no mode.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("expected an octal mode between 0000 and 0777, found `{}`", .0.escape_debug())]
pub struct ModeError(String);

impl FromStr for SocketMode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 && !text.starts_with('+') => Ok(Self(mode)),
            _ => Err(ModeError(text.to_owned())),
        }
    }
}

/// A listener that could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The kernel's refusal.
    #[error("could not bind listener {address}")]
    Bind {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// A living relay of another process.
    #[error("could not bind listener unix:{}: somebody listens there already", path.display())]
    Alive {
        /// Its socket.
        path: PathBuf,
    },
    /// We remove sockets only.
    #[error("could not bind listener unix:{}: a file that is no socket is in the way", path.display())]
    NotASocket {
        /// That file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_and_has_nine_bits() {
        assert_eq!("0666".parse(), Ok(SocketMode(0o666)));
        assert_eq!("600".parse(), Ok(SocketMode(0o600)));
        for text in ["", "rw", "0888", "1777", "+600", "0o666", "-1"] {
            assert_eq!(text.parse::<SocketMode>(), Err(ModeError(text.to_owned())));
        }
    }
}
