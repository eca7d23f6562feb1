//! What is behind the forwarder: an echo, a sink and a source.

use std::net::SocketAddr;

use crate::cli::{Ended, Failure};

/// Runs the hidden `backend tcp`.
///
/// # Errors
///
/// It could not listen.
pub fn in_a_child(_listen: SocketAddr) -> Result<Ended, Failure> {
    Err(Failure::usage("not supported yet"))
}
