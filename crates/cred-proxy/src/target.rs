//! The request target: nothing in it may be read in two ways.
//!
//! A path is decoded until decoding changes nothing, and checked in that form; what is forwarded
//! are the bytes as they came. Scheme and authority of the upstream are never made of them.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use http::{Method, Uri, uri::PathAndQuery};
use percent_encoding::percent_decode;

use crate::refusal::Reason;

/// A target without ambiguity.
#[derive(Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A path, and its query.
    Path(CheckedPath<'a>),
    /// `*`, which only OPTIONS may ask for.
    Asterisk,
}

/// A path without dot segments, control characters and invalid UTF-8, however often it is decoded.
#[derive(Debug, PartialEq, Eq)]
pub struct CheckedPath<'a> {
    raw: &'a str,
    decoded: Cow<'a, [u8]>,
    query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Checks a target that the HTTP parser took.
    ///
    /// # Errors
    ///
    /// [`Reason::BadTarget`] when it could be read in two ways, [`Reason::TargetTooLong`] when it
    /// is over 8 KiB, [`Reason::Misdirected`] when it names another scheme than `http`.
    pub fn check(method: &Method, uri: &'a Uri) -> Result<Self, Reason> {
        if length(uri) > MAX_TARGET {
            return Err(Reason::TargetTooLong);
        }
        match (uri.scheme_str(), uri.authority()) {
            (None, None) => {}
            (Some(scheme), Some(_)) if scheme.eq_ignore_ascii_case("http") => {}
            (Some(_), Some(_)) => return Err(Reason::Misdirected),
            // `host:port` is a target for CONNECT alone.
            _ => return Err(Reason::BadTarget),
        }
        if uri.path() == "*" {
            return if method == Method::OPTIONS { Ok(Self::Asterisk) } else { Err(Reason::BadTarget) };
        }
        CheckedPath::check(uri.path(), uri.query()).map(Self::Path)
    }
}

impl<'a> CheckedPath<'a> {
    fn check(raw: &'a str, query: Option<&'a str>) -> Result<Self, Reason> {
        let decoded = decode(raw)?;
        let text = std::str::from_utf8(&decoded).map_err(|_| Reason::BadTarget)?;
        if !text.starts_with('/') || text.chars().any(char::is_control) {
            return Err(Reason::BadTarget);
        }
        // Some servers take `\` for `/`, and some cut a segment at its first `;`.
        let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
        if text.split(['/', '\\']).any(dots) {
            return Err(Reason::BadTarget);
        }
        Ok(Self { raw, decoded, query })
    }

    /// The path as it came.
    pub fn as_str(&self) -> &'a str {
        self.raw
    }

    /// The query as it came.
    pub fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The target at the upstream: `base`, then what follows the route's `prefix`, then the query.
    ///
    /// # Errors
    ///
    /// [`Reason::BadTarget`] when an empty segment follows the prefix: `//host` names a host to
    /// whoever resolves it as a reference.
    pub fn under(&self, prefix: &str, base: &str) -> Result<PathAndQuery, Reason> {
        let rest = self.raw.strip_prefix(prefix).ok_or(Reason::NoRoute)?;
        // A route's path has nothing to decode, so it stands in front of the decoded form too.
        let decoded = self.decoded.get(prefix.len()..).ok_or(Reason::BadTarget)?;
        if matches!(decoded.first(), Some(b'/' | b'\\')) {
            return Err(Reason::BadTarget);
        }
        let query = self.query.unwrap_or_default();
        let mut target = BytesMut::with_capacity(base.len() + rest.len() + query.len() + 2);
        target.put_slice(base.as_bytes());
        target.put_u8(b'/');
        target.put_slice(rest.as_bytes());
        if self.query.is_some() {
            target.put_u8(b'?');
            target.put_slice(query.as_bytes());
        }
        PathAndQuery::from_maybe_shared(target.freeze()).map_err(|_| Reason::BadTarget)
    }
}

/// Decodes until nothing changes; what a fourth decoding would still change is refused.
fn decode(raw: &str) -> Result<Cow<'_, [u8]>, Reason> {
    let mut decoded = Cow::Borrowed(raw.as_bytes());
    for _ in 0..=ROUNDS {
        // What needs no decoding is handed back borrowed.
        let Cow::Owned(next) = Cow::<[u8]>::from(percent_decode(&decoded)) else { return Ok(decoded) };
        decoded = Cow::Owned(next);
    }
    Err(Reason::BadTarget)
}

fn length(uri: &Uri) -> usize {
    let origin = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let scheme = uri.scheme_str().map_or(0, |scheme| scheme.len() + 3);
    scheme + uri.authority().map_or(0, |authority| authority.as_str().len()) + origin
}

/// Longer targets are no API's.
const MAX_TARGET: usize = 8 * 1024;

/// Clients encode once, and sometimes twice by mistake.
const ROUNDS: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn under(target: &str) -> Result<String, Reason> {
        let uri: Uri = target.parse().map_err(|_| Reason::BadTarget)?;
        match Target::check(&Method::GET, &uri)? {
            Target::Path(path) => path.under("/gh/", "/api").map(|target| target.to_string()),
            Target::Asterisk => panic!("no path"),
        }
    }

    #[test]
    fn a_path_is_forwarded_as_it_came() {
        for (target, expected) in [
            ("/gh/", "/api/"),
            ("/gh/user", "/api/user"),
            ("/gh/user?a=%2e%2e/..&b", "/api/user?a=%2e%2e/..&b"),
            ("/gh/projects/a%2Fb/x", "/api/projects/a%2Fb/x"),
            ("/gh/@scope%2fname", "/api/@scope%2fname"),
            ("/gh/a//b/", "/api/a//b/"),
            ("/gh/https://evil/x", "/api/https://evil/x"),
            ("/gh/...", "/api/..."),
            ("/gh/a;b=..", "/api/a;b=.."),
            ("/gh/%zz%", "/api/%zz%"),
            ("/gh/?", "/api/?"),
        ] {
            assert_eq!(under(target).as_deref(), Ok(expected), "{target}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for target in [
            "/gh/..",
            "/gh/../x",
            "/gh/./x",
            "/gh/a/..",
            "/gh/%2e%2e/x",
            "/gh/.%2E/x",
            "/gh/%252e%252e/x",
            "/gh/%25252e./x",
            "/gh/%2525252e/x",
            "/gh/..;/x",
            "/gh/..;a=b/x",
            "/gh/%2e%2e%3b/x",
            "/gh/..%2fx",
            "/gh/a%5c..%5cx",
            "/gh/..\\x",
            "/gh/%00",
            "/gh/%0d%0aHost:%20evil",
            "/gh/%7f",
            "/gh/%ff",
            "/gh/%c0%ae/",
            "/gh//x",
            "/gh/%2fx",
            "/gh/%5cx",
            "/gh/%252fx",
            "/gh/\\x",
            "/gh/%c2%85",
        ] {
            assert_eq!(under(target), Err(Reason::BadTarget), "{target}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_has_no_dot_segment_in_any_form(target in "/gh/[./%2eE5cCfF;a\\\\]{0,24}") {
            if let Ok(forwarded) = under(&target) {
                let mut bytes = forwarded.into_bytes();
                for _ in 0..8 {
                    let text = String::from_utf8(bytes.clone()).expect("checked");
                    prop_assert!(!text.split(['/', '\\']).any(|s| matches!(s.split(';').next(), Some("." | ".."))));
                    prop_assert!(text.starts_with("/api/") && !text.starts_with("/api//"));
                    bytes = percent_decode(&bytes).collect();
                }
            }
        }
    }
}
