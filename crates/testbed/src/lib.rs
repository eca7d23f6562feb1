//! Upstreams with faults as types, a test PKI, and waiting with a deadline.
//!
//! Everything here listens on loopback, on a port of the system's choosing, and runs until it
//! is dropped. It is for tests and for the demo: what cannot be set up panics, so that a test
//! reads as a scene.
//!
//! - [`tcp`]: upstreams that speak bytes, each named by its behaviour or fault.
//! - [`pki`]: a certificate authority, and server certificates, good and faulty.
//! - [`https`]: a TLS origin that records requests, and one that answers scripted bytes.
//! - [`cgi`]: a CGI program as an origin's answer, such as git's server.
//! - [`raw`]: a client that writes the bytes of a request as given and reads what comes back.
//! - [`eventually`]: waits until something holds.

#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

pub mod cgi;
pub mod connect_proxy;
pub mod https;
pub mod pki;
pub mod raw;
pub mod tcp;

mod eventually;

pub use eventually::{eventually, eventually_some};
