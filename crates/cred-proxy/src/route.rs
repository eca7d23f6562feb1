//! The routes as requests are matched to them: the longest prefix, whole segments, byte by byte.

use std::{collections::HashMap, sync::Arc};

use http::{HeaderName, HeaderValue};
use sidecar::{
    exit::Failure,
    routes::{Auth, RouteTable, Rule, TokenName},
    token::{Token, Tokens},
    upstream::Upstream,
};

use crate::{
    inject::Credential,
    metrics::RouteMetrics,
    pool::Pool,
    redact::{Redaction, Secret},
    upstream::trust::{RouteTls, Trust},
};

/// A route with its token at hand.
#[derive(Debug)]
pub struct Route {
    /// The prefix, both slashes included.
    pub path: String,
    /// Where its requests go.
    pub upstream: Upstream,
    /// The upstream's base path, without a slash at its end.
    pub base: String,
    /// The Host field at the upstream.
    pub authority: HeaderValue,
    /// The requests it takes, all for `None`.
    pub allow: Option<Vec<Rule>>,
    /// Whether the upstream may be at a private address.
    pub allow_private: bool,
    /// How its upstream's certificate is verified.
    pub tls: RouteTls,
    /// What hides echoed tokens; `None`: the route's answers pass as they are.
    pub redaction: Option<Arc<Redaction>>,
    /// Whether cookies pass.
    pub cookies: bool,
    /// The name of its token.
    pub token: TokenName,
    /// How it is presented.
    pub auth: Auth,
    /// What is put on its requests.
    pub credential: Credential,
    /// Connections to its upstream that wait for a request.
    pub pool: Pool,
    /// What is counted of it.
    pub metrics: Arc<RouteMetrics>,
}

/// All routes.
#[derive(Debug)]
pub struct Routes {
    all: Vec<Arc<Route>>,
    /// By path without the slash at its end.
    by_path: HashMap<String, Arc<Route>>,
    longest: usize,
    /// The fields that any route injects: no caller may set them, on any route.
    pub injected: Vec<HeaderName>,
}

/// What a path is matched to.
#[derive(Debug)]
pub enum Match<'a> {
    /// The route with the longest prefix.
    Route(&'a Arc<Route>),
    /// A route's path without the slash at its end.
    Bare(&'a Arc<Route>),
    /// Nothing.
    None,
}

impl Route {
    /// Takes another token, if that can be presented and redacted.
    fn replace_token(&self, token: &Token) -> bool {
        if let Some(redaction) = &self.redaction {
            if token.expose().len() < SHORTEST_REDACTED || Credential::new(&self.auth, token).is_err() {
                return false;
            }
            // Before the first request with it goes out.
            redaction.replace(Secret::new(&self.auth, token));
        }
        self.credential.replace(token).is_ok()
    }
}

impl Routes {
    /// Gives each route of a table its token and its TLS configuration.
    ///
    /// # Errors
    ///
    /// A failure that names the variable of a token that is missing, too short to be redacted,
    /// or cannot stand in a field. Never its value.
    pub fn new(table: &RouteTable, tokens: &Tokens, trust: &Trust) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for (route, tls) in table.routes().iter().zip(trust.routes()) {
            let name = route.token_env.as_str();
            let refuse =
                |what: &str| Failure::config(format!("token {name} of route {}: {what}", route.path));
            let token = tokens.get(name).ok_or_else(|| {
                refuse("it is missing").hint(format!("set {name} or {name}_FILE, or hand it over on stdin"))
            })?;
            if route.redact && token.expose().len() < SHORTEST_REDACTED {
                return Err(refuse("it is shorter than 8 bytes, too short to be redacted from answers"));
            }
            let credential =
                Credential::new(&route.auth, token).map_err(|error| refuse(&error.to_string()))?;
            let authority = HeaderValue::try_from(route.upstream.authority())
                .map_err(|_| refuse("its upstream's name cannot stand in a Host field"))?;
            all.push(Arc::new(Route {
                path: route.path.as_str().to_owned(),
                upstream: route.upstream.upstream.clone(),
                base: route.upstream.base.clone(),
                authority,
                allow: route.allow.clone(),
                allow_private: route.allow_private_upstream,
                tls: tls.clone(),
                redaction: route.redact.then(|| Arc::new(Redaction::new(Secret::new(&route.auth, token)))),
                cookies: route.cookies,
                token: route.token_env.clone(),
                auth: route.auth.clone(),
                credential,
                pool: Pool::default(),
                metrics: Arc::default(),
            }));
        }
        let bare = |route: &Arc<Route>| route.path.trim_end_matches('/').to_owned();
        let by_path = all.iter().map(|route| (bare(route), route.clone())).collect();
        let longest = all.iter().map(|route| route.path.len()).max().unwrap_or(0);
        let injected = all.iter().map(|route| route.credential.name().clone()).collect();
        Ok(Self { all, by_path, longest, injected })
    }

    /// Takes other tokens, for requests from now on. Tokens that no route names are ignored.
    pub fn replace_tokens(&self, tokens: &Tokens) {
        for route in &self.all {
            let Some(token) = tokens.get(route.token.as_str()) else { continue };
            if route.replace_token(token) {
                tracing::info!(event = "token_replaced", token = %route.token, route = %route.path);
            } else {
                tracing::warn!(event = "token_refused", token = %route.token, route = %route.path);
            }
        }
    }

    /// The route of a path as it came; nothing is decoded.
    pub fn find(&self, path: &str) -> Match<'_> {
        if let Some(route) = self.by_path.get(path) {
            return Match::Bare(route);
        }
        // Looking at no more than the longest route keeps a path of slashes cheap.
        let head = path.as_bytes().get(..self.longest).unwrap_or(path.as_bytes());
        let mut slashes = head.iter().enumerate().rev().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        // A slash is a character of its own, so the cut is at a character's edge.
        slashes.find_map(|at| self.by_path.get(&path[..at])).map_or(Match::None, Match::Route)
    }

    /// All routes, in the table's order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.all.iter()
    }
}

/// A shorter token would be found in answers that never held it.
const SHORTEST_REDACTED: usize = 8;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    impl Routes {
        pub(crate) fn first(&self) -> &Route {
            &self.all[0]
        }
    }

    pub(crate) fn routes(paths: &[&str]) -> Routes {
        let rows: Vec<_> = paths
            .iter()
            .map(|path| {
                serde_json::json!({"path": path, "upstream": "https://up.test", "auth": {"scheme": "bearer"}, "token_env": "T"})
            })
            .collect();
        let table: RouteTable = serde_json::from_value(serde_json::json!({ "routes": rows })).unwrap();
        let tokens = Tokens::from([("T".to_owned(), Token::parse("tok-12345".into()).unwrap())]);
        Routes::new(&table, &tokens, &Trust::new(Vec::new(), &table).unwrap()).unwrap()
    }

    #[test]
    fn the_longest_prefix_of_whole_segments_wins() {
        let routes = routes(&["/gh/", "/gh/raw/", "/a/"]);
        for (path, expected) in [
            ("/gh/", "route /gh/"),
            ("/gh/x", "route /gh/"),
            ("/gh/raw/x", "route /gh/raw/"),
            ("/gh/rawx/y", "route /gh/"),
            ("/gh/ra\u{e9}", "route /gh/"),
            ("/gh/raw", "bare /gh/raw/"),
            ("/gh", "bare /gh/"),
            ("/ghevil", "none"),
            ("/gh.evil", "none"),
            ("/gh@x", "none"),
            ("/gh:443@x", "none"),
            ("/GH", "none"),
            ("/GH/", "none"),
            ("/%67h/", "none"),
            ("/gh;a", "none"),
            ("/gh;a/", "none"),
            ("/gh\\x", "none"),
            ("//gh/", "none"),
            ("/", "none"),
            ("", "none"),
        ] {
            let found = match routes.find(path) {
                Match::Route(route) => format!("route {}", route.path),
                Match::Bare(route) => format!("bare {}", route.path),
                Match::None => "none".to_owned(),
            };
            assert_eq!(found, expected, "{path}");
        }
    }
}
