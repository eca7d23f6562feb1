//! When a socket has failed, and with what, even if no task reads it.

use std::io;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// Waits until a socket has failed, and leaves the error to the task that reads.
pub(crate) async fn failed(stream: &TcpStream) {
    let _ = stream.ready(Interest::ERROR).await;
}

/// The error of a failed socket.
pub(crate) fn taken(stream: &TcpStream) -> io::Error {
    // An error that was already taken by a read or a write was a RST's, else there is none to wait for.
    stream.take_error().ok().flatten().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}
