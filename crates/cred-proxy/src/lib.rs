//! An HTTP proxy that puts the credential on a request, so that the caller never holds a token.
//!
//! A request to `/github/user` is matched to a route, stripped of whatever the caller pretends
//! to be, given the route's token, and sent over verified TLS to the route's upstream and to
//! nobody else. The caller is hostile by assumption.
//!
//! | to understand | read |
//! |---|---|
//! | a request's way through | [`exchange`] |
//! | what is refused, and with which word | [`verdict`], [`refusal`], [`silence`] |
//! | why a request cannot leave its route | [`target`], [`allow`], [`authority`], [`route`] |
//! | which fields pass | [`fields`], [`inject`], [`location`], [`framing`] |
//! | connections to upstreams | [`dial`], [`via`], [`upstream`], [`link`], [`pool`] |
//! | connections from downstream | [`server`], [`downstream`], [`phase`], [`watch`], [`stall`], [`upload`], [`download`] |
//! | what follows a 101 | [`upgrade`], [`tunnel`] |
//! | tokens | [`tokens`], [`harden`] |
//! | how an echoed token is hidden | [`redact`] |
//! | the process | [`args`], [`run`], [`metrics`] |
//!

#![forbid(unsafe_code)]

pub mod allow;
pub mod args;
pub mod authority;
pub mod dial;
pub mod download;
pub mod downstream;
pub mod exchange;
pub mod fields;
pub mod framing;
pub mod harden;
pub mod inject;
pub mod link;
pub mod location;
pub mod metrics;
pub mod phase;
pub mod pool;
pub mod redact;
pub mod refusal;
pub mod request_log;
pub mod route;
pub mod run;
pub mod server;
pub mod silence;
pub mod stall;
pub mod target;
pub mod tokens;
pub mod tunnel;
pub mod upgrade;
pub mod upload;
pub mod upstream;
pub mod verdict;
pub mod via;
pub mod watch;
