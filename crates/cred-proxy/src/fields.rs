//! Which fields pass, in both directions. What is the connection's own never does.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{location, route::Route};

/// Copies what may reach the upstream. The credential is not among it: it is injected last.
///
/// Left behind are hop-by-hop fields and those that `Connection` nominates, every credential of
/// the caller's, fields that make a server see another method, target, host or client than it
/// was sent, and all names with `_`, which some servers take for `-`.
pub fn to_upstream(fields: &HeaderMap, route: &Route, injected: &[HeaderName]) -> HeaderMap {
    let nominated = nominated(fields);
    let mut kept = HeaderMap::with_capacity(fields.len() + 2);
    for (name, value) in fields {
        let plain = plain_name(name.as_str());
        let plain = plain.as_deref().unwrap_or(name.as_str());
        let refused = HOP_BY_HOP.contains(&plain)
            || NEVER_TO_UPSTREAM.contains(&plain)
            || plain.starts_with("x-forwarded")
            || (plain == "cookie" && !route.cookies)
            || (route.redaction.is_some() && WHOLE_AND_PLAIN.contains(&plain))
            || injected.iter().any(|own| own.as_str() == plain)
            || name.as_str().contains('_')
            || nominated.iter().any(|own| own == name.as_str());
        if !refused {
            kept.append(name.clone(), value.clone());
        }
    }
    kept.insert(header::HOST, route.authority.clone());
    if route.redaction.is_some() {
        kept.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    }
    kept
}

/// Copies what may reach downstream, redirections rewritten under the route, echoed tokens
/// redacted. The length of the
/// content is not among it unless `without_content`: it is told anew by what is sent.
pub fn to_downstream(fields: &HeaderMap, route: &Route, without_content: bool) -> HeaderMap {
    let nominated = nominated(fields);
    let finder = route.redaction.as_ref().map(|redaction| redaction.finder().0);
    let mut kept = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let refused = HOP_BY_HOP.contains(&name.as_str())
            || NEVER_TO_DOWNSTREAM.contains(&name.as_str())
            || (matches!(name.as_str(), "set-cookie" | "set-cookie2") && !route.cookies)
            || (name == header::ACCEPT_RANGES && route.redaction.is_some())
            || (name == header::CONTENT_LENGTH && !without_content)
            || finder.as_ref().is_some_and(|finder| finder.is_in_name(name.as_str()))
            || nominated.iter().any(|own| own == name.as_str());
        if refused {
            continue;
        }
        let value = if name == header::LOCATION || name == header::CONTENT_LOCATION {
            rewritten(value, route).unwrap_or_else(|| value.clone())
        } else {
            value.clone()
        };
        let redacted = finder.as_ref().and_then(|finder| finder.redact(value.as_bytes()));
        // Asterisks can stand in any field.
        let redacted = redacted.and_then(|value| HeaderValue::from_maybe_shared(Bytes::from(value)).ok());
        kept.append(name.clone(), redacted.unwrap_or(value));
    }
    kept
}

fn rewritten(value: &HeaderValue, route: &Route) -> Option<HeaderValue> {
    let value = location::rewrite(value.to_str().ok()?, &route.upstream, &route.base, &route.path)?;
    HeaderValue::try_from(value).ok()
}

/// The fields that `Connection` says are of this connection only.
pub fn nominated(fields: &HeaderMap) -> Vec<String> {
    let values = fields.get_all(header::CONNECTION).iter();
    let options = values.flat_map(|value| value.as_bytes().split(|b| *b == b','));
    options.map(|option| String::from_utf8_lossy(option.trim_ascii()).to_ascii_lowercase()).collect()
}

/// The name with everything but letters and digits as `-`, when that makes a difference:
/// `x_api_key` and `x.api.key` reach some programs as `X_API_KEY`, like `x-api-key` does.
fn plain_name(name: &str) -> Option<String> {
    let odd = |b: u8| !b.is_ascii_alphanumeric() && b != b'-';
    name.bytes()
        .any(odd)
        .then(|| name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect())
}

/// RFC 9110 section 7.6.1, and older ones that are still about.
const HOP_BY_HOP: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// Credentials of the caller's; fields whose meaning we have answered or tell anew; fields that
/// override what the request line and Host say.
const NEVER_TO_UPSTREAM: &[&str] = &[
    "authorization",
    "private-token",
    "x-api-key",
    "content-length",
    "expect",
    "host",
    "forwarded",
    "front-end-https",
    "x-client-ip",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-uri",
    "x-rewrite-url",
    "true-client-ip",
];

/// A token can be found only in content that is whole and not encoded.
const WHOLE_AND_PLAIN: &[&str] = &["accept-encoding", "if-range", "range", "sec-websocket-extensions"];

/// Our own word must not be an upstream's.
const NEVER_TO_DOWNSTREAM: &[&str] = &["x-cred-proxy"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::tests::routes;

    fn fields(text: &[(&str, &str)]) -> HeaderMap {
        text.iter()
            .map(|(n, v)| (n.parse::<HeaderName>().unwrap(), HeaderValue::from_str(v).unwrap()))
            .collect()
    }

    #[test]
    fn nothing_of_the_callers_that_could_be_a_credential_or_an_override_passes() {
        let routes = routes(&["/gh/"]);
        let route = routes.first();
        for name in [
            "Authorization",
            "AUTHORIZATION",
            "x-api-key",
            "X_Api_Key",
            "x.api.key",
            "Private-Token",
            "Cookie",
            "Proxy-Authorization",
            "proxy_authorization",
            "X-Forwarded-For",
            "X-Forwarded-Host",
            "X_Forwarded_Host",
            "Forwarded",
            "X-HTTP-Method-Override",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Host",
            "Keep-Alive",
            "TE",
            "Upgrade",
            "HTTP2-Settings",
            "Transfer-Encoding",
            "Content-Length",
            "Expect",
            "Range",
            "any_thing",
        ] {
            let kept = to_upstream(&fields(&[(name, "x"), ("accept", "a")]), route, &routes.injected);
            let names: Vec<_> = kept.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["accept", "host", "accept-encoding"], "{name}");
        }
    }

    #[test]
    fn nominated_fields_go_and_the_rest_stays_as_it_was() {
        let routes = routes(&["/gh/"]);
        let sent = fields(&[
            ("connection", "x-gone , close"),
            ("x-gone", "1"),
            ("anthropic-beta", "a"),
            ("anthropic-beta", "b"),
            ("host", "localhost"),
        ]);
        let kept = to_upstream(&sent, routes.first(), &routes.injected);
        assert_eq!(kept.get_all("anthropic-beta").iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(!kept.contains_key("x-gone") && !kept.contains_key("connection"));
        assert_eq!(kept["host"], "up.test");
    }

    #[test]
    fn answers_lose_cookies_and_what_is_ours() {
        let routes = routes(&["/gh/"]);
        let got = fields(&[
            ("set-cookie", "a"),
            ("x-cred-proxy", "no_route"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("content-length", "5"),
            ("etag", "e"),
            ("location", "https://up.test/x"),
            ("accept-ranges", "bytes"),
        ]);
        let kept = to_downstream(&got, routes.first(), false);
        assert_eq!(kept.len(), 2);
        assert_eq!(
            (&kept["etag"], &kept["location"]),
            (&HeaderValue::from_static("e"), &HeaderValue::from_static("/gh/x"))
        );
        assert_eq!(to_downstream(&got, routes.first(), true)["content-length"], "5");
    }
}
