//! Measures any TCP forwarder and any HTTP reverse proxy beside the bare path, and tells what the
//! forwarder itself costs.
//!
//! - [`cli`]: the command line.
//! - [`tcp`], [`http`]: what is measured through a forwarder or a proxy, and the backends behind it.
//! - [`compare`]: several of them side by side, in rounds, beside the bare path.
//! - [`measure`]: what a window cost a process, what else the machine did, how long answers took.
//! - [`report`]: the JSON file that grows by a round, and the tables.
//! - [`target`], [`interrupt`], [`child`], [`progress`]: whom we may load, when to end, and what
//!   runs beside us.
//!
//! Everything here blocks: a measurement is a function that returns a [`report::Sample`], and has
//! threads or runtimes of its own. The backend is always another process, so that its CPU time is
//! not the load side's.

#![forbid(unsafe_code)]

pub mod child;
pub mod cli;
pub mod compare;
pub mod http;
pub mod interrupt;
pub mod measure;
pub mod progress;
pub mod report;
pub mod target;
pub mod tcp;

pub use cli::main;
