//! What was measured: samples, the JSON file that grows by a round, and the tables.

pub mod file;
pub mod sample;
pub mod summary;
pub mod table;

pub use file::{Report, ReportError, ReportFile};
pub use sample::{Errors, Figure, Sample, Unit};
