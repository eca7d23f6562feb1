//! Runs a coding agent in a container, a *bottle*, that reaches the world only through its sidecars.
//!
//! The launcher turns a manifest into a plan, shows it, launches it, provisions it, runs the
//! command, and removes every trace, also after a crash. It knows a sidecar as an image, a table,
//! a readiness answer and an exit code, and never links one.
//!
//! Imports run downwards only: `cli`, `bottle`, `plan`, `sidecars`, `manifest`, `host`, `secrets`,
//! `images`, `engine`; `digest`, `labels`, `proc` and `text` are below all of them.
#![forbid(unsafe_code)]

pub(crate) mod bottle;
pub mod cli;
pub(crate) mod digest;
pub mod engine;
pub(crate) mod host;
pub mod images;
pub(crate) mod labels;
pub mod manifest;
pub(crate) mod plan;
pub mod proc;
pub(crate) mod secrets;
pub(crate) mod sidecars;
pub(crate) mod text;
