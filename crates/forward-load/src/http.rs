//! What is measured through an HTTP proxy, and the origin behind it.
//!
//! The load side uses plain HTTP/1.1 to a forwarder, and TLS to the origin when there is nothing
//! between; the origin uses TLS and checks that the credential arrived. Both check every byte.

pub mod args;
pub mod backend;
pub mod clock;
pub mod command;
pub mod compare;
pub mod events;
pub mod fault;
pub mod idle;
pub mod link;
pub mod load;
pub mod message;
pub mod origin;
pub mod pattern;
pub mod pki;
pub mod target;
pub mod wire;
mod worker;

pub use args::HttpCommand;
pub use backend::{OriginError, OriginProcess};
pub use idle::Idle;
pub use load::{Job, Load, Outcome, Until};
