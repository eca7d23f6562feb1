//! Several forwarders side by side, each beside the bare path.
//!
//! Every sample has a forwarder of its own, freshly started, so that memory is that of the scenario
//! and a crash costs one row. The rounds are interleaved: in each round every scenario is measured
//! through DIRECT and every forwarder, one after another, in an order that rotates from round to
//! round.

pub mod groups;
pub mod http_peers;
pub mod limits;
pub mod peer;
pub mod ports;
pub mod rounds;
pub mod running;
pub mod select;
pub mod start;
pub mod tcp_peers;

pub use peer::{Launch, Needs, Peer, Setting, Site};
pub use rounds::{Act, Aim, Comparison, Measure, Probe, Scenario};
pub use running::{Ground, Running, StartError};

/// The name of the bare path.
pub const DIRECT: &str = "DIRECT";
