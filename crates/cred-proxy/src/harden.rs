//! Before a token is read: nobody may look into this process, and nothing of it may be dumped.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps, and reading this process's memory or environment to other processes of
/// its user (prctl(2) PR_SET_DUMPABLE, getrlimit(2) RLIMIT_CORE).
///
/// # Errors
///
/// The kernel's.
pub fn harden() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
