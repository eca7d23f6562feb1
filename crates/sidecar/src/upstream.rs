//! Whom a row or a route leads to: a host and a port, and the addresses its name stands for.

mod lookup;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A host: a name or a literal address, checked when it was parsed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name, in lower case.
    Name(String),
    /// A literal address; IPv6 literals stand in brackets.
    Address(IpAddr),
}

/// A host and a port, `github.com:22` or `[::1]:22`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// The host.
    pub host: Host,
    /// The port, never 0.
    pub port: u16,
}

/// Why a text is no host or no upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct UpstreamError {
    expected: &'static str,
    found: String,
}

impl UpstreamError {
    fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.to_owned() }
    }
}

impl FromStr for Host {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return literal
                .parse::<Ipv6Addr>()
                .map(|address| Self::Address(address.into()))
                .map_err(|_| UpstreamError::new("an IPv6 address in brackets", text));
        }
        if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let wrong =
            || UpstreamError::new("a host name, an IPv4 address or an IPv6 address in brackets", text);
        // RFC 1123 section 2.1, and `_`, which internal names use.
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let name = text.strip_suffix('.').unwrap_or(text);
        // A last label of digits only is some other way to write an address: 127.1, 0x7f000001.
        let last = name.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|b| b.is_ascii_digit())
            || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        if name.len() > 253 || numeric || !name.split('.').all(label) {
            return Err(wrong());
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let (host, port) = text.rsplit_once(':').ok_or_else(|| UpstreamError::new("HOST:PORT", text))?;
        let host = host.parse()?;
        let port = parse_port(port)
            .filter(|port| *port != 0)
            .ok_or_else(|| UpstreamError::new("a port between 1 and 65535", port))?;
        Ok(Self { host, port })
    }
}

/// A port in decimal digits only; `u16::from_str` would take `+22`.
pub fn parse_port(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Serialize for Upstream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The addresses of an upstream at this moment, asked of the system's resolver anew each time.
///
/// The caller sets the deadline: the system's resolver has its own, of many seconds.
///
/// # Errors
/// The resolver's, and [`io::ErrorKind::NotFound`] when it answers with no address.
pub async fn resolve(upstream: &Upstream) -> io::Result<Vec<SocketAddr>> {
    let name = match &upstream.host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, upstream.port)]),
        Host::Name(name) => name.as_str(),
    };
    let addresses = lookup::lookup(name, upstream.port).await?;
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read_as_written() {
        for text in ["github.com:22", "[::1]:22", "127.0.0.1:65535", "my_host:1", "git.example.com.:22"] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), text);
        }
        assert_eq!("GitHub.COM:22".parse::<Upstream>().unwrap().to_string(), "github.com:22");
    }

    #[test]
    fn what_is_no_upstream_says_what_was_expected() {
        for (text, expected) in [
            ("github.com", "HOST:PORT"),
            ("github.com:0", "a port between 1 and 65535"),
            ("github.com:70000", "a port between 1 and 65535"),
            ("github.com:+22", "a port between 1 and 65535"),
            ("::1:22", "a host name"),
            ("[::1:22", "a host name"),
            ("a b:22", "a host name"),
            ("user@host:22", "a host name"),
            ("127.1:22", "a host name"),
            ("0x7f000001:22", "a host name"),
            ("-a:22", "a host name"),
            (":22", "a host name"),
        ] {
            let error = text.parse::<Upstream>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
