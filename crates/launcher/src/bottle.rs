//! A bottle's life: launched, provisioned, run in, found again, and removed with every trace.

mod claim;
pub(crate) mod find;
pub(crate) mod launch;
pub(crate) mod owner;
mod provision;
pub(crate) mod removal;
pub(crate) mod run;
pub(crate) mod session;
pub(crate) mod state;
pub(crate) mod teardown;
#[cfg(test)]
pub(crate) mod testing;
