//! Ports that are free at the moment.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Two of them, on 127.0.0.1. Another process may take one before the forwarder does; then it does
/// not start, and is started again with others.
///
/// # Errors
///
/// There are none.
pub fn two_free() -> io::Result<[SocketAddr; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // Both are bound at once, so that they differ.
    let (one, two) = (bind()?, bind()?);
    Ok([one.local_addr()?, two.local_addr()?])
}
