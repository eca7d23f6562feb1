//! Which requests a route takes: methods, and patterns of paths.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::parts::{PartError, plain_segments};

/// One rule: a request passes when its method and its path do.
///
/// ```
/// # use sidecar::routes::Rule;
/// let rule: Rule = serde_json::from_str(r#"{"methods": ["GET"], "path": "/v1/models/**"}"#).unwrap();
/// assert!(rule.path.matches(["v1", "models", "m-1"].into_iter()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a rule with `methods` and `path`")]
pub struct Rule {
    /// The methods, at least one.
    #[serde(deserialize_with = "methods")]
    pub methods: Vec<Method>,
    /// The paths, as they follow the route's own.
    pub path: Pattern,
}

/// A method that can be proxied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names say all (RFC 9110 section 9, RFC 5789)")]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

/// A pattern of paths: `/v1/models/*`. `*` stands for one segment that is not empty, `**` for
/// whatever is left, nothing included; both stand alone between slashes, `**` at the end.
/// Everything else is itself, byte by byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    segments: Vec<Segment>,
    /// Whether it ends with `**`.
    rest: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
}

impl Method {
    /// As it stands in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

impl Pattern {
    /// Whether these segments are of this pattern; `/v1/` is the two segments `v1` and an empty one.
    pub fn matches<'a>(&self, mut path: impl Iterator<Item = &'a str>) -> bool {
        for segment in &self.segments {
            let found = match (segment, path.next()) {
                (Segment::Literal(literal), Some(text)) => literal == text,
                (Segment::Any, Some(text)) => !text.is_empty(),
                (_, None) => false,
            };
            if !found {
                return false;
            }
        }
        self.rest || path.next().is_none()
    }
}

impl FromStr for Pattern {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let parse = || {
            let path = text.strip_prefix('/')?;
            let (path, rest) = match path.strip_suffix("**") {
                Some("") => return Some(Self { segments: Vec::new(), rest: true }),
                Some(path) => (path.strip_suffix('/')?, true),
                None => (path, false),
            };
            // The last segment alone may be empty: `/` and `/v1/` are paths of their own.
            let filled = if rest { path } else { path.strip_suffix('/').unwrap_or(path) };
            let starred = |segment: &str| segment.contains('*') && segment != "*";
            let fits = path.is_empty() && !rest || plain_segments(filled) && !filled.split('/').any(starred);
            let segment = |segment: &str| match segment {
                "*" => Segment::Any,
                _ => Segment::Literal(segment.to_owned()),
            };
            fits.then(|| Self { segments: path.split('/').map(segment).collect(), rest })
        };
        parse().ok_or_else(|| PartError {
            expected: "a path of plain segments that begins with `/`, with `*` for a segment and `**` for the rest",
            found: text.to_owned(),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(f, "/{literal}")?,
                Segment::Any => f.write_str("/*")?,
            }
        }
        if self.rest { f.write_str("/**") } else { Ok(()) }
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

fn methods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Method>, D::Error> {
    let methods = Vec::<Method>::deserialize(deserializer)?;
    if methods.is_empty() {
        return Err(serde::de::Error::custom("expected at least one method"));
    }
    Ok(methods)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_one_segment_and_two_are_the_rest() {
        for (pattern, path, expected) in [
            ("/v1/messages", "/v1/messages", true),
            ("/v1/messages", "/v1/messages/", false),
            ("/v1/messages", "/v1/message", false),
            ("/v1/messages", "/V1/messages", false),
            ("/v1/messages", "/v1", false),
            ("/v1/", "/v1/", true),
            ("/v1/", "/v1", false),
            ("/", "/", true),
            ("/", "/x", false),
            ("/*", "/x", true),
            ("/*", "/", false),
            ("/*", "/x/y", false),
            ("/*/", "/x/", true),
            ("/a/*/c", "/a/b/c", true),
            ("/a/*/c", "/a//c", false),
            ("/a/*/c", "/a/b/b/c", false),
            ("/a/**", "/a/b/c", true),
            ("/a/**", "/a/", true),
            ("/a/**", "/a", true),
            ("/a/**", "/ab", false),
            ("/**", "/", true),
            ("/**", "/x//y/", true),
        ] {
            let parsed: Pattern = pattern.parse().unwrap();
            assert_eq!(parsed.to_string(), pattern);
            assert_eq!(parsed.matches(path[1..].split('/')), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn what_would_be_read_as_something_else_is_no_pattern() {
        for text in [
            "", "v1", "**", "*", "/a/**/c", "/a**", "/a/x*", "/a/*x", "/***", "//", "//a", "/a//", "/a//b",
            "/./a", "/a/..", "/a?b", "/a%2Fb", "/a;b", "/a\\b", "/a b", "/a#b", "/a//**",
        ] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }
}
