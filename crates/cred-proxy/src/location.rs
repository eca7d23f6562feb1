//! Redirections of an upstream, as the caller must see them.

use sidecar::upstream::{Host, Upstream};

/// Rewrites a Location or Content-Location that stays under the route's upstream, so that it
/// leads through the route again. `None`: it stays as it is.
///
/// The outcome is a path: scheme and authority are then the ones that the caller used for us.
pub fn rewrite(value: &str, upstream: &Upstream, base: &str, prefix: &str) -> Option<String> {
    let path = match value.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => on_upstream(rest, upstream)?,
        Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) => {
            return None;
        }
        _ => match value.strip_prefix("//") {
            Some(rest) => on_upstream(rest, upstream)?,
            None if value.starts_with('/') => value,
            // Relative to what was asked for: right as it stands.
            None => return None,
        },
    };
    let rest = path.strip_prefix(base)?;
    let rest = match rest.strip_prefix('/') {
        Some(rest) => rest,
        None if rest.is_empty() || rest.starts_with(['?', '#']) => rest,
        // `/api2` is not under `/api`.
        None => return None,
    };
    Some(format!("{prefix}{rest}"))
}

/// What follows the authority, when that is the upstream's.
fn on_upstream<'a>(rest: &'a str, upstream: &Upstream) -> Option<&'a str> {
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, 443),
    };
    let host: Host = host.parse().ok()?;
    (host == upstream.host && port == upstream.port).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_under_the_upstream_leads_through_the_route() {
        let upstream = "git.test:443".parse().unwrap();
        for (value, base, expected) in [
            ("https://git.test/x?y#z", "", Some("/gh/x?y#z")),
            ("https://GIT.test:443/x", "", Some("/gh/x")),
            ("https://git.test", "", Some("/gh/")),
            ("https://git.test?x", "", Some("/gh/?x")),
            ("//git.test/x", "", Some("/gh/x")),
            ("/x", "", Some("/gh/x")),
            ("/next?to=https://a/b", "", Some("/gh/next?to=https://a/b")),
            ("/api/v1/x", "/api/v1", Some("/gh/x")),
            ("https://git.test/api/v1", "/api/v1", Some("/gh/")),
            ("/api/v12/x", "/api/v1", None),
            ("/login", "/api/v1", None),
            ("https://git.test:8443/x", "", None),
            ("http://git.test/x", "", None),
            ("https://evil.test/x", "", None),
            ("https://git.test@evil.test/x", "", None),
            ("https://user@git.test/x", "", None),
            ("https://git.test.evil.test/x", "", None),
            ("https://git.test\\@evil.test/x", "", None),
            ("next", "", None),
            ("?page=2", "", None),
        ] {
            assert_eq!(rewrite(value, &upstream, base, "/gh/").as_deref(), expected, "{value}");
        }
        let six = "[::1]:8443".parse().unwrap();
        assert_eq!(rewrite("https://[::1]:8443/x", &six, "", "/gh/").as_deref(), Some("/gh/x"));
    }
}
