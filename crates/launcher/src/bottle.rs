//! A bottle's life: launched, provisioned, run in, found again, and removed with every trace.

pub(crate) mod find;
pub(crate) mod launch;
pub(crate) mod owner;
pub(crate) mod provision;
pub(crate) mod run;
pub(crate) mod teardown;
