//! The route table: which path prefix leads to which upstream, with which credential.

mod allow;
mod auth;
mod parts;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

pub use allow::{Method, Pattern, Rule};
pub use auth::{Auth, FieldFormat};
pub use parts::{PartError, RoutePath, TokenName, UpstreamUrl};

use crate::bundle::BundleTable;
use crate::ca::CaPem;

/// A route table: at least one route, no path twice.
///
/// ```
/// # use sidecar::routes::RouteTable;
/// let text = r#"{ "routes": [ {
///     "path": "/anthropic/",
///     "upstream": "https://api.anthropic.com",
///     "auth": { "scheme": "bearer" },
///     "token_env": "CRED_PROXY_TOKEN_0",
///     "allow": [ { "methods": ["POST"], "path": "/v1/messages" }, { "methods": ["GET"], "path": "/v1/models/**" } ],
///     "allow_private_upstream": false,
///     "redact": true,
///     "cookies": false,
///     "ca": [],
///     "ca_file": null
/// } ] }"#;
/// let table: RouteTable = serde_json::from_str(text).unwrap();
/// assert_eq!(table.routes()[0].path.as_str(), "/anthropic/");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteTable {
    routes: Vec<Route>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a route with `path`, `upstream`, `auth` and `token_env`")]
pub struct Route {
    /// The prefix of request paths that it takes.
    pub path: RoutePath,
    /// Where its requests go.
    pub upstream: UpstreamUrl,
    /// How the token is presented there.
    pub auth: Auth,
    /// The name of its token.
    pub token_env: TokenName,
    /// The requests it takes: those of any rule, all for `None`.
    #[serde(default, deserialize_with = "rules", skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<Rule>>,
    /// Whether the upstream may be at a private address.
    #[serde(default)]
    pub allow_private_upstream: bool,
    /// Whether the token is redacted from answers.
    #[serde(default = "yes")]
    pub redact: bool,
    /// Whether cookies pass.
    #[serde(default)]
    pub cookies: bool,
    /// CA certificates that are trusted beside the common ones, on this route alone.
    #[serde(default, deserialize_with = "authorities", skip_serializing_if = "Vec::is_empty")]
    pub ca: Vec<CaPem>,
    /// A file with more of them. It is not allowed in a bundle.
    #[serde(default, deserialize_with = "path", skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

/// Reads the rules of a route whose table has some. A `null` is no list: it must not mean that
/// everything passes.
///
/// # Errors
/// The deserializer's, for what is no list of rules.
pub fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Rule>>, D::Error> {
    Vec::deserialize(deserializer).map(Some)
}

/// Reads the CAs of a route. A text in place of the list is not quoted: it may be a private key.
fn authorities<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<CaPem>, D::Error> {
    struct Authorities;
    impl<'de> Visitor<'de> for Authorities {
        type Value = Vec<CaPem>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of PEM texts")
        }

        fn visit_str<E: de::Error>(self, _: &str) -> Result<Vec<CaPem>, E> {
            Err(E::custom("expected a list of PEM texts, found a string"))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Vec<CaPem>, A::Error> {
            let mut all = Vec::new();
            while let Some(ca) = texts.next_element()? {
                all.push(ca);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_any(Authorities)
}

/// Reads a path, which is quoted when the file cannot be read: a PEM text must not be.
fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let path = Option::<String>::deserialize(deserializer)?;
    if path.as_ref().is_some_and(|path| path.contains("-----BEGIN")) {
        return Err(de::Error::custom("expected `ca_file` to be a path, found PEM text; use `ca` for that"));
    }
    Ok(path.map(PathBuf::from))
}

/// What makes routes no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is none.
    #[error("expected at least one route in `routes`")]
    Empty,
    /// A path stands twice.
    #[error("path {0} stands twice")]
    PathTwice(RoutePath),
}

impl RouteTable {
    /// Checks routes against each other.
    ///
    /// # Errors
    /// [`RouteError`] for the first route that does not fit.
    pub fn from_routes(routes: impl IntoIterator<Item = Route>) -> Result<Self, RouteError> {
        let mut checked = Checked::default();
        for route in routes {
            checked.push(route)?;
        }
        checked.finish()
    }

    /// The routes, in their order.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The routes, to make another table of.
    pub fn into_routes(self) -> Vec<Route> {
        self.routes
    }
}

impl BundleTable for RouteTable {
    const KEYS: &'static [&'static str] = &["tokens", "ca", "upstream_proxy"];

    /// A sidecar has no file system of its own, so the launcher reads the file.
    fn fits_bundle(&self) -> Result<(), String> {
        match self.routes.iter().find(|route| route.ca_file.is_some()) {
            Some(route) => {
                Err(format!("route {}: `ca_file` is not allowed in a bundle, `ca` is", route.path))
            }
            None => Ok(()),
        }
    }
}

#[derive(Default)]
struct Checked {
    routes: Vec<Route>,
    paths: HashSet<RoutePath>,
}

impl Checked {
    fn push(&mut self, route: Route) -> Result<(), RouteError> {
        if !self.paths.insert(route.path.clone()) {
            return Err(RouteError::PathTwice(route.path));
        }
        self.routes.push(route);
        Ok(())
    }

    fn finish(self) -> Result<RouteTable, RouteError> {
        if self.routes.is_empty() { Err(RouteError::Empty) } else { Ok(RouteTable { routes: self.routes }) }
    }
}

impl<'de> Deserialize<'de> for RouteTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, expecting = "an object with `routes`")]
        struct Raw {
            #[serde(deserialize_with = "routes")]
            routes: RouteTable,
        }
        Raw::deserialize(deserializer).map(|raw| raw.routes)
    }
}

/// Checks each route as it is read, so that a fault carries the route's place.
fn routes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RouteTable, D::Error> {
    struct Routes;
    impl<'de> Visitor<'de> for Routes {
        type Value = RouteTable;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of routes")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut routes: A) -> Result<RouteTable, A::Error> {
            let mut checked = Checked::default();
            while let Some(route) = routes.next_element::<Route>()? {
                checked.push(route).map_err(de::Error::custom)?;
            }
            checked.finish().map_err(de::Error::custom)
        }
    }
    deserializer.deserialize_seq(Routes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table;

    fn parse(route: &str) -> Result<RouteTable, String> {
        let text = format!("{{\"routes\":[\n{route}]}}");
        table::parse("routes.json", text.as_bytes()).map_err(|error| error.to_string())
    }

    fn route(changes: &[(&str, &str)]) -> String {
        let mut fields = vec![
            ("path", "\"/gh/\""),
            ("upstream", "\"https://api.github.com\""),
            ("auth", "{\"scheme\":\"bearer\"}"),
            ("token_env", "\"T0\""),
        ];
        for change in changes {
            fields.retain(|(key, _)| *key != change.0);
            fields.push(*change);
        }
        let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }

    #[test]
    fn defaults_are_as_documented_and_what_is_printed_is_read_again() {
        let table = parse(&route(&[])).unwrap();
        let first = &table.routes()[0];
        assert!(first.redact && !first.cookies && !first.allow_private_upstream);
        let text = serde_json::to_vec(&table).unwrap();
        assert_eq!(table::parse::<RouteTable>("t", &text).unwrap(), table);
    }

    #[test]
    fn every_fault_of_a_table_is_named_with_its_place() {
        for (change, expected) in [
            (("path", "\"gh\""), "a path that begins and ends with `/`"),
            (("path", "\"/\""), "a path that begins and ends with `/`"),
            (("path", "\"/-/x/\""), "a path that begins and ends with `/`"),
            (("path", "\"/a/../b/\""), "a path that begins and ends with `/`"),
            (("path", "\"/a//b/\""), "a path that begins and ends with `/`"),
            (("path", "\"/a%2fb/\""), "a path that begins and ends with `/`"),
            (("upstream", "\"http://a\""), "an https:// URL"),
            (("upstream", "\"https://u:p@a\""), "an https:// URL"),
            (("upstream", "\"https://a?x\""), "an https:// URL"),
            (("upstream", "\"https://a#x\""), "an https:// URL"),
            (("upstream", "\"https://a/../b\""), "an https:// URL"),
            (("upstream", "\"https://a:0\""), "an https:// URL"),
            (("auth", "\"bearer\""), "expected an object with `scheme`, found string \"bearer\""),
            (("auth", "{\"scheme\":\"digest\"}"), "unknown variant `digest`"),
            (("auth", "{\"scheme\":\"basic\"}"), "scheme `basic` needs a `username`"),
            (("auth", "{\"scheme\":\"header\"}"), "scheme `header` needs a `name`"),
            (("auth", "{\"scheme\":\"bearer\",\"username\":\"x\"}"), "scheme `bearer` takes no `username`"),
            (("auth", "{\"scheme\":\"header\",\"name\":\"x-key\",\"format\":\"x\"}"), "{token}"),
            (("auth", "{\"scheme\":\"header\",\"name\":\"host\"}"), "a field name"),
            (("token_env", "\"A B\""), "a variable name"),
            (("allow", "null"), "expected a sequence"),
            (("allow", "[{\"methods\":[\"GET\"]}]"), "missing field `path`"),
            (("allow", "[{\"path\":\"/\"}]"), "missing field `methods`"),
            (("allow", "[{\"methods\":[],\"path\":\"/\"}]"), "at least one method"),
            (("allow", "[{\"methods\":[\"get\"],\"path\":\"/\"}]"), "unknown variant `get`"),
            (("allow", "[{\"methods\":[\"TRACE\"],\"path\":\"/\"}]"), "unknown variant `TRACE`"),
            (("allow", "[{\"methods\":[\"GET\"],\"path\":\"/a/**/b\"}]"), "a path of plain segments"),
            (("allow", "[{\"methods\":[\"GET\"],\"path\":\"/\",\"x\":1}]"), "unknown field `x`"),
            (("allow", "[7]"), "expected a rule with `methods` and `path`, found integer `7`"),
            (("surprise", "1"), "unknown field `surprise`"),
        ] {
            let said = parse(&route(&[change])).unwrap_err();
            assert!(said.contains(expected), "{change:?}: {said}");
            assert!(said.starts_with("routes.json:2:"), "{said}");
        }
        let twice = format!("{},\n{}", route(&[]), route(&[]));
        assert!(parse(&twice).unwrap_err().contains("path /gh/ stands twice"));
        assert!(parse("").unwrap_err().contains("at least one route"));
    }
}
