//! `upstream_proxy`: the CONNECT proxy between the sidecars and their upstreams.

use sidecar::upstream::{Host, parse_port};

use super::UpstreamProxySetting;
use super::at::At;
use super::fault::Fault;
use super::json::Value;

const WHAT: &str = "a URL such as http://proxy.example:3128, or false";

/// A URL, or `false` for none. Its userinfo is a password: nothing of the URL is printed.
pub(super) fn upstream_proxy(at: &At<'_>) -> Result<UpstreamProxySetting, Fault> {
    match at.value() {
        Value::Bool(false) => Ok(UpstreamProxySetting::Off),
        Value::Text(url) => match check(url) {
            Ok(()) => Ok(UpstreamProxySetting::Url(url.clone())),
            Err(wrong) => Err(at.fault(format!("expected {WHAT}: {wrong}"))),
        },
        Value::Bool(true) => Err(at
            .expected(WHAT)
            .hint("remove the key to use the proxy that HTTPS_PROXY names on this machine")),
        _ => Err(at.expected(WHAT)),
    }
}

fn check(url: &str) -> Result<(), &'static str> {
    let scheme = "http://";
    let Some(rest) = url.get(..scheme.len()).filter(|start| start.eq_ignore_ascii_case(scheme)) else {
        return Err("the scheme is not http");
    };
    let rest = &url[rest.len()..];
    let (userinfo, address) = match rest.rsplit_once('@') {
        Some((userinfo, address)) => (Some(userinfo), address),
        None => (None, rest),
    };
    let address = address.strip_suffix('/').unwrap_or(address);
    if address.contains(['/', '?', '#']) {
        return Err("a path, query or fragment is not used");
    }
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return Err("the port is missing"),
    };
    if host.parse::<Host>().is_err() {
        return Err("the host is neither a name nor an IP address");
    }
    if parse_port(port).is_none_or(|port| port == 0) {
        return Err("the port is not between 1 and 65535");
    }
    // RFC 3986 section 3.2.1: what is reserved is escaped.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:%".contains(&b);
    match userinfo {
        Some(userinfo) if userinfo.is_empty() || !userinfo.bytes().all(plain) || !escapes(userinfo) => {
            Err("special characters in the user name or password must be percent-encoded")
        }
        _ => Ok(()),
    }
}

/// Whether each `%` begins an escape, of no control character.
fn escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|rest| {
        let value = rest.get(..2).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        value.and_then(|hex| u8::from_str_radix(hex, 16).ok()).is_some_and(|byte| !byte.is_ascii_control())
    })
}
