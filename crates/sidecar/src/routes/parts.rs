//! The parts of a route that are checked when they are parsed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::upstream::{Host, Upstream, parse_port};

/// Why a text is no part of a route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct PartError {
    pub(super) expected: &'static str,
    pub(super) found: String,
}

/// The prefix of a route: begins and ends with `/`, whole segments, no dot segments, nothing to decode.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RoutePath(String);

/// Where a route leads: `https://HOST[:PORT][/BASE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamUrl {
    /// The host and port; 443 when the URL names none.
    pub upstream: Upstream,
    /// The base path, empty or `/api/v1`, without a `/` at its end.
    pub base: String,
}

/// The name of a token: that of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenName(String);

impl RoutePath {
    /// The path, both slashes included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TokenName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Segments between slashes: none empty, none of dots, and only what RFC 3986 lets stand in a path
/// unescaped, without `;`, which some servers cut at.
pub(super) fn plain_segments(path: &str) -> bool {
    path.split('/').all(|segment| {
        !matches!(segment, "" | "." | "..")
            && segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b))
    })
}

impl FromStr for RoutePath {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        text.strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'))
            .filter(|inner| plain_segments(inner) && inner.split('/').next() != Some("-"))
            .map(|_| Self(text.to_owned()))
            .ok_or_else(|| PartError {
                expected: "a path that begins and ends with `/`, of plain segments, neither `/` nor under `/-/`",
                found: text.to_owned(),
            })
    }
}

impl FromStr for UpstreamUrl {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let parse = || {
            let rest = text.strip_prefix("https://")?;
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let base = path.strip_suffix('/').unwrap_or(path);
            let plain = base.is_empty() || plain_segments(&base[1..]);
            let host_only = authority.parse::<Host>().ok();
            let upstream = match (host_only, authority.rsplit_once(':')) {
                (Some(host), _) => Upstream { host, port: 443 },
                (None, Some((host, port))) => {
                    Upstream { host: host.parse().ok()?, port: parse_port(port).filter(|port| *port != 0)? }
                }
                (None, None) => return None,
            };
            plain.then(|| Self { upstream, base: base.to_owned() })
        };
        parse().ok_or_else(|| PartError {
            expected: "an https:// URL of host, optional port and plain base path, without userinfo, query or fragment",
            // A URL with userinfo holds a secret: nothing before its last `@` is said again.
            found: text.rsplit_once('@').map_or(text.to_owned(), |(_, rest)| format!("...@{rest}")),
        })
    }
}

impl FromStr for TokenName {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if first && text.len() <= 128 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            Ok(Self(text.to_owned()))
        } else {
            Err(PartError { expected: "a variable name of letters, digits and `_`", found: text.to_owned() })
        }
    }
}

impl UpstreamUrl {
    /// What stands in the Host field: the port only where it is not 443.
    pub fn authority(&self) -> String {
        match self.upstream.port {
            443 => self.upstream.host.to_string(),
            _ => self.upstream.to_string(),
        }
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}{}", self.authority(), self.base)
    }
}

impl fmt::Display for RoutePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! as_text {
    ($($part:ty),*) => {$(
        impl Serialize for $part {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $part {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(RoutePath, UpstreamUrl, TokenName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_may_have_a_port_and_a_base_path() {
        let url: UpstreamUrl = "https://git.example.com:8443/api/v1/".parse().unwrap();
        assert_eq!((url.upstream.port, url.base.as_str()), (8443, "/api/v1"));
        assert_eq!(url.authority(), "git.example.com:8443");
        let plain: UpstreamUrl = "https://[::1]".parse().unwrap();
        assert_eq!((plain.authority().as_str(), plain.base.as_str()), ("[::1]", ""));
    }

    #[test]
    fn the_password_of_a_url_is_not_said_again() {
        let error = "https://user:hunter2@host".parse::<UpstreamUrl>().unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
