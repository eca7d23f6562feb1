//! `forward-load tcp`: bytes, connections and round trips through a TCP forwarder.

pub mod backend;

use crate::cli::{CompareArgs, Ended, Failure};
use crate::interrupt::Interrupt;

/// The options of `tcp`.
#[derive(Debug, Clone, clap::Args)]
pub struct TcpArgs {}

/// Runs `tcp`.
///
/// # Errors
///
/// Nothing could be measured.
pub fn run(_args: &TcpArgs, _interrupt: &Interrupt) -> Result<Ended, Failure> {
    Err(Failure::usage("not supported yet"))
}

/// Runs `compare tcp`.
///
/// # Errors
///
/// Nothing could be measured.
pub fn compare(_args: &CompareArgs, _interrupt: &Interrupt) -> Result<Ended, Failure> {
    Err(Failure::usage("not supported yet"))
}
