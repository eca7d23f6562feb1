//! The routes of cred-proxy: where requests go, and which credential is put on them.

use sidecar::routes::{Auth, Method, Pattern, RoutePath, Rule, UpstreamUrl};

use super::at::At;
use super::fault::Fault;
use super::{CredProxy, Route, TokenRef, names};

pub(super) fn cred_proxy(at: &At<'_>) -> Result<CredProxy, Fault> {
    let fields = at.fields(&["routes"], &[])?;
    let routes = fields.need("routes")?.distinct(route, "path", |route| route.path.to_string())?;
    Ok(CredProxy { routes })
}

const KEYS: &[&str] =
    &["path", "upstream", "auth", "token", "allow", "allow_private_upstream", "redact", "cookies", "ca_file"];

fn route(at: &At<'_>) -> Result<Route, Fault> {
    // The table of the sidecar has `token_env`, which people copy with a route.
    let fields = at.fields(KEYS, &["provides", "rewrite_urls"])?;
    Ok(Route {
        path: path(fields.need("path")?)?,
        upstream: upstream(fields.need("upstream")?)?,
        auth: auth(&fields.need("auth")?.clone().secret())?,
        token: token(&fields.need("token")?.clone().secret())?,
        allow_private_upstream: fields.read("allow_private_upstream", At::bool)?.unwrap_or(false),
        redact: fields.read("redact", At::bool)?.unwrap_or(true),
        cookies: fields.read("cookies", At::bool)?.unwrap_or(false),
        ca_file: fields.read("ca_file", names::path)?,
        allow: fields.read("allow", rules)?,
    })
}

fn path(at: &At<'_>) -> Result<RoutePath, Fault> {
    let what = "a path that begins and ends with `/`, of plain segments, and not `/` or under `/-/`";
    at.text()?.parse().map_err(|_| at.unfit(what))
}

fn upstream(at: &At<'_>) -> Result<UpstreamUrl, Fault> {
    let text = at.text()?;
    let parsed = text.parse::<UpstreamUrl>();
    let what = "an https:// URL of a host, an optional port and an optional path";
    parsed.map_err(|_| match () {
        // What stands there may be a password or a key.
        () if text.contains('@') => at.fault(format!("expected {what}, without userinfo")),
        () if text.contains(['?', '#']) => at.fault(format!("expected {what}, without query and fragment")),
        () => at.unfit(what),
    })
}

/// How the token is presented. The sidecar's own type checks the parts; its words would print them.
fn auth(at: &At<'_>) -> Result<Auth, Fault> {
    let fields = at.fields(&["scheme", "username", "name", "format"], &[])?;
    let scheme_at = fields.need("scheme")?;
    let scheme = scheme_at.text()?;
    let (needed, optional): (&[_], &[_]) = match scheme {
        "bearer" | "token" => (&[], &[]),
        "basic" => (&["username"], &[]),
        "header" => (&["name"], &["format"]),
        "none" => return Err(scheme_at.not_yet("scheme `none`")),
        _ => return Err(scheme_at.fault("expected the scheme `bearer`, `token`, `basic` or `header`")),
    };
    let mut object = serde_json::Map::from_iter([("scheme".to_owned(), scheme.into())]);
    for key in ["username", "name", "format"] {
        match fields.find(key) {
            Some(at) if !needed.contains(&key) && !optional.contains(&key) => {
                return Err(at.fault(format!("scheme `{scheme}` does not use `{key}`")));
            }
            Some(at) => {
                object.insert(key.to_owned(), at.text()?.into());
                let what = match key {
                    "username" => "a user name without colons and control characters",
                    "name" => "the name of a header that may carry a token",
                    _ => "printable text that contains `{token}` once",
                };
                // Parsed after each part, so that a fault is that part's. A name alone is complete.
                let so_far = serde_json::Value::Object(object.clone());
                if serde_json::from_value::<Auth>(so_far).is_err() {
                    return Err(at.fault(format!("expected {what}")));
                }
            }
            None if needed.contains(&key) => {
                return Err(at.fault(format!("missing key `{key}`, which scheme `{scheme}` needs")));
            }
            None => {}
        }
    }
    serde_json::from_value(object.into()).map_err(|_| at.fault("expected a scheme and its parts"))
}

fn token(at: &At<'_>) -> Result<TokenRef, Fault> {
    let what = "{\"env\": NAME} or {\"file\": PATH}";
    let fields = at.fields(&["env", "file"], &["command", "refresh"]).map_err(|fault| match at.value() {
        super::json::Value::Text(_) => {
            fault.hint(format!("do not write the token into the manifest: use {what}"))
        }
        _ => fault,
    })?;
    match (fields.find("env"), fields.find("file")) {
        (Some(env), None) => names::variable(env).map(TokenRef::Env),
        (None, Some(file)) => names::path(file).map(TokenRef::File),
        (Some(_), Some(_)) => Err(at.fault(format!("expected {what}, found both"))),
        (None, None) => Err(at.fault(format!("expected {what}, found an empty object"))),
    }
}

fn rules(at: &At<'_>) -> Result<Vec<Rule>, Fault> {
    at.items()?.iter().map(rule).collect()
}

fn rule(at: &At<'_>) -> Result<Rule, Fault> {
    let fields = at.fields(&["methods", "path"], &[])?;
    let methods_at = fields.need("methods")?;
    let methods = methods_at.items()?.iter().map(method).collect::<Result<Vec<_>, _>>()?;
    if methods.is_empty() {
        return Err(methods_at.fault("expected at least one method"));
    }
    let at = fields.need("path")?;
    let what = "a path of plain segments that begins with `/`, with `*` for a segment and `**` for the rest";
    let path = at.text()?.parse::<Pattern>().map_err(|_| at.unfit(what))?;
    Ok(Rule { methods, path })
}

fn method(at: &At<'_>) -> Result<Method, Fault> {
    use Method::{Delete, Get, Head, Options, Patch, Post, Put};
    let text = at.text()?;
    let all = [Get, Head, Post, Put, Patch, Delete, Options];
    let found = all.into_iter().find(|method| method.as_str() == text);
    found.ok_or_else(|| at.unfit("a method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS"))
}
