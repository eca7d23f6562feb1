//! What is measured beside the load: what a window cost the forwarder, what else the machine did,
//! and how long answers took.
//!
//! Nothing here asserts or judges; [`crate::report`] does.

pub mod latency;
pub mod machine;
pub mod pace;
pub mod process;
pub mod spread;
pub mod tracked;
pub mod window;

pub use latency::{Latencies, LatencySummary};
pub use machine::MachineUse;
pub use process::ProcessUse;
pub use spread::Spread;
pub use window::{Costs, Window};
