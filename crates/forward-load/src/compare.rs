//! Several forwarders side by side.

pub mod http_peers;
