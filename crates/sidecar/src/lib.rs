//! What every sidecar shares: the tables it serves, and the life of a server.
//!
//! A thing lives here only if two daemons use it, or if a daemon reads what the launcher writes:
//! both sides then use the same type, so that what one writes the other reads.
//!
//! | need | room |
//! |---|---|
//! | a port table, a route table | [`ports`], [`routes`] |
//! | the bundle over stdin, its tokens, the lifeline | [`bundle`], [`token`] |
//! | CA certificates, the proxy in front of upstreams | [`ca`], [`upstream_proxy`] |
//! | command line, environment, exit codes, messages | [`command`], [`exit`] |
//! | readiness line, admin endpoint, healthcheck | [`ready`], [`admin`], [`healthcheck`] |
//! | listeners and who is served | [`listen`] |
//! | a thread for each CPU, connections spread over them | [`workers`] |
//! | signals and draining | [`drain`] |
//! | addresses that are not for everyone; names | [`address`], [`upstream`] |
//! | logs, metrics | [`log`], [`metrics`] |
//!
//! There is no Docker here and no TLS.
#![forbid(unsafe_code)]

pub mod address;
pub mod admin;
pub mod bundle;
pub mod ca;
pub mod command;
pub mod drain;
pub mod exit;
pub mod healthcheck;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod ports;
pub mod ready;
pub mod routes;
pub mod table;
pub mod token;
pub mod upstream;
pub mod upstream_proxy;
pub mod workers;
