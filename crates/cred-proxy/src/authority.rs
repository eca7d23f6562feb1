//! Our own authority: who a request may be addressed to.
//!
//! A web page that rebinds its name to our address still sends its own name, and is refused.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, Uri, header, uri::Authority};

use crate::refusal::Reason;

/// The names that a request may use for us, beside those that are always ours.
#[derive(Clone, Debug, Default)]
pub struct OwnNames {
    any: bool,
    names: Vec<String>,
}

impl OwnNames {
    /// The names of `--server-name`; `*` is any.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut own = Self::default();
        for name in names {
            if name == "*" {
                own.any = true;
            } else {
                own.names.push(name.to_ascii_lowercase());
            }
        }
        own
    }

    /// Checks that a request is addressed to us, on the connection whose local address this is.
    ///
    /// # Errors
    ///
    /// [`Reason::BadHost`] when the Host field is missing, doubled or no host,
    /// [`Reason::BadTarget`] when the target has userinfo, [`Reason::Misdirected`] when either
    /// names someone else.
    pub fn check(&self, fields: &HeaderMap, uri: &Uri, local: IpAddr) -> Result<(), Reason> {
        let mut hosts = fields.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(Reason::BadHost) };
        let host = host.to_str().ok().and_then(parse).ok_or(Reason::BadHost)?;
        if let Some(authority) = uri.authority() {
            self.check_target(authority, local)?;
        }
        if self.are_ours(&host, local) { Ok(()) } else { Err(Reason::Misdirected) }
    }

    fn check_target(&self, authority: &Authority, local: IpAddr) -> Result<(), Reason> {
        let host = parse(authority.as_str()).ok_or(Reason::BadTarget)?;
        if self.are_ours(&host, local) { Ok(()) } else { Err(Reason::Misdirected) }
    }

    fn are_ours(&self, host: &Host<'_>, local: IpAddr) -> bool {
        self.any
            || match host {
                Host::Address(ip) => {
                    ip.to_canonical().is_loopback() || ip.to_canonical() == local.to_canonical()
                }
                Host::Name(name) => {
                    let is = |own: &str| name.eq_ignore_ascii_case(own);
                    is("localhost") || is("cred-proxy") || self.names.iter().any(|own| is(own))
                }
            }
    }
}

enum Host<'a> {
    Name(&'a str),
    Address(IpAddr),
}

/// A host with or without a port; no userinfo, list, path or white space.
fn parse(text: &str) -> Option<Host<'_>> {
    if let Some(rest) = text.strip_prefix('[') {
        let (literal, port) = rest.split_once(']')?;
        let address: Ipv6Addr = literal.parse().ok()?;
        return is_port(port).then_some(Host::Address(address.into()));
    }
    let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
    let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    if host.is_empty() || !host.bytes().all(named) || !is_port(port) {
        return None;
    }
    Some(host.parse().map_or(Host::Name(host), Host::Address))
}

/// Nothing, or a colon and a port (RFC 3986 lets it be empty).
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        None => text.is_empty(),
        Some("") => true,
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(hosts: &[&str], target: &str) -> Result<(), Reason> {
        let mut fields = HeaderMap::new();
        for host in hosts {
            fields.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        let own = OwnNames::new(["api.internal".to_owned()]);
        own.check(&fields, &target.parse().unwrap(), "10.0.0.7".parse().unwrap())
    }

    #[test]
    fn our_own_names_are_served_on_any_port() {
        for host in [
            "localhost",
            "LOCALHOST:1",
            "localhost:",
            "cred-proxy:9099",
            "127.0.0.1:9099",
            "127.9.9.9",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
            "10.0.0.7",
            "[::ffff:10.0.0.7]:5",
            "API.internal",
        ] {
            assert_eq!(check(&[host], "/"), Ok(()), "{host}");
        }
        assert_eq!(check(&["localhost"], "http://cred-proxy:9099/"), Ok(()));
    }

    #[test]
    fn other_names_are_misdirected_and_what_is_no_host_is_bad() {
        for host in
            ["evil.com", "localhost.evil.com", "localhost.", "10.0.0.8", "127.1", "2130706433", "[::2]"]
        {
            assert_eq!(check(&[host], "/"), Err(Reason::Misdirected), "{host}");
        }
        for hosts in [
            &[][..],
            &["localhost", "localhost"],
            &["localhost, evil.com"],
            &["a@localhost"],
            &["localhost/x"],
            &[""],
            &["localhost:x"],
            &["localhost:99999"],
            &["[::1"],
            &["[::1]x"],
            &["::1"],
            &["localhost:80:80"],
            &["a b"],
            &["local\u{e9}"],
            &[":80"],
        ] {
            assert_eq!(check(hosts, "/"), Err(Reason::BadHost), "{hosts:?}");
        }
        assert_eq!(check(&["localhost"], "http://evil.com/"), Err(Reason::Misdirected));
        assert_eq!(check(&["evil.com"], "http://localhost/"), Err(Reason::Misdirected));
        assert_eq!(check(&["localhost"], "http://a@localhost/"), Err(Reason::BadTarget));
    }
}
