//! Runs a coding agent in a container, a *bottle*, that reaches the world only through its sidecars.
//!
//! The launcher turns a manifest into a plan, shows it, launches it, provisions it, runs the
//! command, and removes every trace, also after a crash. It knows a sidecar as an image, a table,
//! a readiness answer and an exit code, and never links one.
#![forbid(unsafe_code)]

pub mod bottles;
pub mod cli;
pub mod console;
pub mod engine;
pub mod failure;
pub mod host;
pub mod images;
pub mod launch;
pub mod launcher_id;
pub mod manifest;
pub mod names;
pub mod options;
pub mod plan;
pub mod provision;
pub mod run;
pub mod secrets;
pub mod settings;
pub mod start;
pub mod teardown;
