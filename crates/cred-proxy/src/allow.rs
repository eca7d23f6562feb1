//! Whether a route's `allow` rules take a request, however its upstream may read the path.
//!
//! A server may decode a path once, twice or not at all, take `\` for `/`, cut segments at `;`,
//! or cut the path where an encoded `?` or `#` stood, in any order. Every form that the path can
//! take in this way must be of some rule of the request's method: what is harmless in one reading
//! and not in another is refused.

use std::borrow::Cow;

use http::Method;
use percent_encoding::percent_decode_str;
use sidecar::routes::Rule;

/// Whether the request passes. `rest` is its path as it came, without the route's prefix and the
/// slash before it.
pub fn permits(rules: &[Rule], method: &Method, rest: &str) -> bool {
    let of_method = |rule: &&Rule| rule.methods.iter().any(|own| own.as_str() == method.as_str());
    let passes = |form: &str| rules.iter().filter(of_method).any(|rule| rule.path.matches(form.split('/')));
    let mut forms = vec![Cow::Borrowed(rest)];
    let mut at = 0;
    while let Some(form) = forms.get(at).cloned() {
        if !passes(&form) || forms.len() > MAX_FORMS {
            return false;
        }
        for read in READINGS {
            match read(&form) {
                Some(Cow::Owned(next)) if !forms.iter().any(|form| *form == next) => forms.push(next.into()),
                Some(_) => {}
                None => return false,
            }
        }
        at += 1;
    }
    true
}

/// One step of a reading: borrowed where it changes nothing, `None` where the outcome is no text.
type Reading = for<'a> fn(&'a str) -> Option<Cow<'a, str>>;

const READINGS: [Reading; 4] = [decoded, slashed, without_parameters, without_query];

fn decoded(path: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(path).decode_utf8().ok()
}

fn slashed(path: &str) -> Option<Cow<'_, str>> {
    Some(if path.contains('\\') { path.replace('\\', "/").into() } else { path.into() })
}

fn without_parameters(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains(';') {
        return Some(path.into());
    }
    let cut: Vec<_> = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default()).collect();
    Some(cut.join("/").into())
}

fn without_query(path: &str) -> Option<Cow<'_, str>> {
    Some(path.find(['?', '#']).map_or(path.into(), |at| path[..at].to_owned().into()))
}

/// Few paths have more than one form, and none that is meant well has so many.
const MAX_FORMS: usize = 64;

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode;
    use proptest::prelude::*;

    use super::*;

    fn rules(rows: &[(&str, &str)]) -> Vec<Rule> {
        let rows: Vec<_> = rows.iter().map(|(m, p)| serde_json::json!({"methods": [m], "path": p})).collect();
        serde_json::from_value(rows.into()).unwrap()
    }

    #[test]
    fn a_request_passes_by_method_and_path_together() {
        let rules = rules(&[("POST", "/v1/messages"), ("GET", "/v1/models/**"), ("GET", "/p/*/x")]);
        for (method, rest, expected) in [
            (Method::POST, "v1/messages", true),
            (Method::GET, "v1/messages", false),
            (Method::POST, "v1/models/m", false),
            (Method::HEAD, "v1/models/m", false),
            (Method::GET, "v1/models", true),
            (Method::GET, "v1/models/", true),
            (Method::GET, "v1/models/a%2Fb/c", true),
            (Method::GET, "p/a/x", true),
            (Method::GET, "p/a%20b/x", true),
        ] {
            assert_eq!(permits(&rules, &method, rest), expected, "{method} {rest}");
        }
        assert!(!permits(&[], &Method::GET, ""));
    }

    #[test]
    fn what_another_reading_would_take_elsewhere_is_refused() {
        let rules = rules(&[("GET", "/p/*/x"), ("GET", "/ok/*"), ("GET", "/v1/models")]);
        for rest in [
            "P/a/x",
            "p/a/X",
            "p/a/x/",
            "p//x",
            "p/a//x",
            "p/a%2fb/x",
            "p/a%252fb/x",
            "p/a%5cb/x",
            "p/a\\b/x",
            "p/a/x;y",
            "p/;a/x",
            "p/%3b/x",
            "p/a%3fb/x",
            "p/a%23/x",
            "%70/a/x",
            "p/a/%78",
            "ok/",
            "ok/a/b",
            "ok/a%2F",
            "ok/%3F",
            "ok/a%2Fb;c",
            "ok/%2Fa",
            "v1/models%2f",
            "v1/model%73",
            "v1%2fmodels",
            "v1/models%00",
            "v1/models;",
            "v1/models/",
            "v1//models",
            "v1/models%3f",
            "v1/models%20",
            "",
            "ok/%ff",
        ] {
            assert!(!permits(&rules, &Method::GET, rest), "{rest}");
        }
    }

    #[test]
    fn a_slash_in_a_name_passes_where_both_readings_are_allowed() {
        let rules = rules(&[("GET", "/projects/*/issues"), ("GET", "/projects/*/*/issues")]);
        assert!(permits(&rules, &Method::GET, "projects/group%2Fname/issues"));
        assert!(!permits(&rules, &Method::GET, "projects/a%2Fb%2Fc/issues"));
    }

    /// A server's own way to read a path: steps in the order that it happens to take them.
    fn served(rest: &[u8], steps: &[u8]) -> Vec<u8> {
        let mut path = rest.to_vec();
        for step in steps {
            path = match step % 4 {
                0 => percent_decode(&path).collect(),
                1 => path.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect(),
                2 => {
                    let segments = path.split(|b| *b == b'/');
                    let cut = segments.map(|s| s.split(|b| *b == b';').next().unwrap_or_default());
                    cut.collect::<Vec<_>>().join(&b'/')
                }
                _ => path.split(|b| matches!(b, b'?' | b'#')).next().unwrap_or_default().to_vec(),
            };
        }
        path
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn whatever_the_server_reads_is_of_some_rule(
            rest in "(a|b|c|/|%2[fF]|%5[cC]|%3[bB]|%3[fF]|%25|2f|5c|%|;|\\\\|%61|A){0,10}",
            steps in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let allowed = rules(&[("GET", "/a/*"), ("GET", "/b/*/c"), ("GET", "/c/**"), ("GET", "/a")]);
            if permits(&allowed, &Method::GET, &rest) {
                let read = served(rest.as_bytes(), &steps);
                let segments: Vec<_> = read.split(|b| *b == b'/').collect();
                let inside = match segments[..] {
                    [b"a"] | [b"c", ..] => true,
                    [b"a", name] | [b"b", name, b"c"] => !name.is_empty(),
                    _ => false,
                };
                prop_assert!(inside, "{rest} is read as {}", String::from_utf8_lossy(&read));
            }
        }
    }
}
