//! What proc(5) says of this machine: its routes, and which of its processes live.

mod process;
mod routes;

pub use process::{Process, process};
pub use routes::{Route, Routes};
