//! The HTTP proxies that `compare http` starts, and how each is configured.

use crate::cli::{CompareArgs, Ended, Failure};
use crate::interrupt::Interrupt;

/// Runs `compare http`.
///
/// # Errors
///
/// Nothing could be measured.
pub fn compare(_args: &CompareArgs, _interrupt: &Interrupt) -> Result<Ended, Failure> {
    Err(Failure::usage("not supported yet"))
}
