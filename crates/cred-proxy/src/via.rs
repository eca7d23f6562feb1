//! A proxy that upstreams are reached through: asked with CONNECT, and told nothing but a name.
//!
//! TLS is spoken through it with the upstream, so it sees neither requests nor tokens. Its own
//! credentials go to it alone.

use std::{fmt, io, str::FromStr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use sidecar::upstream::{Host, Upstream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use zeroize::Zeroizing;

/// A CONNECT proxy. Its `Debug` shows where it is, never its credentials.
#[derive(Clone)]
pub struct Via {
    /// Where it is.
    pub proxy: Upstream,
    credentials: Option<Zeroizing<String>>,
    direct: Vec<Direct>,
}

/// Who is reached without the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Direct {
    Everyone,
    /// A name and all below it.
    Name(String, Option<u16>),
    Net(IpNet, Option<u16>),
}

/// A text is no URL of a proxy. Never says the text: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a proxy as http://[USER:PASSWORD@]HOST[:PORT]")]
pub struct ViaError;

impl Via {
    /// Leaves out whom `NO_PROXY` names: names (with all below them), addresses and subnets, each
    /// perhaps with a port, or `*`. What cannot be read there names nobody.
    pub fn except(mut self, no_proxy: &str) -> Self {
        let entries = no_proxy.split([',', ' ']).filter(|entry| !entry.is_empty());
        self.direct = entries.filter_map(Direct::parse).collect();
        self
    }

    /// Whether this upstream is reached through the proxy.
    pub fn leads_to(&self, upstream: &Upstream) -> bool {
        !self.direct.iter().any(|direct| direct.is(upstream))
    }

    /// Asks for a tunnel to `upstream` on a connection to the proxy.
    ///
    /// # Errors
    ///
    /// I/O, or that the proxy refused; a status is told, nothing else of its answer.
    pub async fn ask(&self, stream: &mut TcpStream, upstream: &Upstream) -> io::Result<()> {
        let mut request = Zeroizing::new(format!("CONNECT {upstream} HTTP/1.1\r\nHost: {upstream}\r\n"));
        if let Some(credentials) = &self.credentials {
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(credentials);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_HEAD {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            // Byte by byte, so that nothing of the tunnel is taken: once for each connection.
            head.push(stream.read_u8().await?);
        }
        let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or_default();
        match std::str::from_utf8(status).unwrap_or_default().parse::<u16>() {
            Ok(200..=299) => Ok(()),
            Ok(status) => Err(io::Error::other(format!("the proxy answered {status}"))),
            Err(_) => Err(io::Error::other("the proxy does not speak HTTP")),
        }
    }
}

impl FromStr for Via {
    type Err = ViaError;

    fn from_str(text: &str) -> Result<Self, ViaError> {
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(ViaError),
            None => text,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (userinfo, authority) = match rest.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo), authority),
            None => (None, rest),
        };
        let proxy = match authority.parse::<Host>() {
            Ok(host) => Upstream { host, port: HTTP },
            Err(_) => authority.parse().map_err(|_| ViaError)?,
        };
        let credentials = userinfo.map(credentials).transpose()?;
        Ok(Self { proxy, credentials, direct: Vec::new() })
    }
}

/// `USER:PASSWORD`, percent-decoded, as Basic writes it.
fn credentials(userinfo: &str) -> Result<Zeroizing<String>, ViaError> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let decode =
        |text: &str| percent_decode_str(text).decode_utf8().map(|text| Zeroizing::new(text.into_owned()));
    let (user, password) = (decode(user).map_err(|_| ViaError)?, decode(password).map_err(|_| ViaError)?);
    if user.contains(':') || user.chars().chain(password.chars()).any(char::is_control) {
        return Err(ViaError);
    }
    let pair = Zeroizing::new(format!("{}:{}", *user, *password));
    Ok(Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes())))
}

impl Direct {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Everyone);
        }
        if let Ok(net) = text.parse() {
            return Some(Self::Net(net, None));
        }
        let named = |host, port| match host {
            Host::Address(address) => Self::Net(address.into(), port),
            Host::Name(name) => Self::Name(name, port),
        };
        let text = text.strip_prefix("*.").or(text.strip_prefix('.')).unwrap_or(text);
        if let Ok(upstream) = text.parse::<Upstream>() {
            return Some(named(upstream.host, Some(upstream.port)));
        }
        let bare = text.parse::<std::net::Ipv6Addr>().map(|address| Host::Address(address.into()));
        Some(named(bare.ok().or_else(|| text.parse().ok())?, None))
    }

    fn is(&self, upstream: &Upstream) -> bool {
        let at = |port: &Option<u16>| port.is_none_or(|port| port == upstream.port);
        match (self, &upstream.host) {
            (Self::Everyone, _) => true,
            (Self::Net(net, port), Host::Address(address)) => {
                net.contains(&address.to_canonical()) && at(port)
            }
            (Self::Name(own, port), Host::Name(name)) => {
                let name = name.trim_end_matches('.');
                let below = name.strip_suffix(own.as_str());
                below.is_some_and(|below| below.is_empty() || below.ends_with('.')) && at(port)
            }
            (Self::Net(..) | Self::Name(..), _) => false,
        }
    }
}

impl fmt::Debug for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Via")
            .field("proxy", &self.proxy)
            .field("direct", &self.direct)
            .finish_non_exhaustive()
    }
}

/// The port of a URL that names none.
const HTTP: u16 = 80;

/// A proxy that says more has not understood.
const MAX_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_written_as_everywhere_and_its_password_never_said_again() {
        for (text, proxy, credentials) in [
            ("http://proxy.test:3128", "proxy.test:3128", None),
            ("HTTP://proxy.test/", "proxy.test:80", None),
            ("10.0.0.1:3128", "10.0.0.1:3128", None),
            ("http://[::1]:3128", "[::1]:3128", None),
            ("http://me:p%40ss%3A@proxy.test:1", "proxy.test:1", Some("bWU6cEBzczo=")),
            ("http://me@proxy.test:1", "proxy.test:1", Some("bWU6")),
        ] {
            let via: Via = text.parse().unwrap();
            assert_eq!(
                (via.proxy.to_string().as_str(), via.credentials.as_ref().map(|c| c.as_str())),
                (proxy, credentials)
            );
            assert!(!format!("{via:?}").contains("bWU6"));
        }
        for text in [
            "",
            "https://a:1",
            "socks5://a:1",
            "http://",
            "http://a:0",
            "http://a/b",
            "http://a?b",
            "http://me:x%0a@a",
            "http://x%3ay:z@a",
        ] {
            assert!(text.parse::<Via>().is_err(), "{text}");
        }
        assert!(!"https://me:hunter2@a".parse::<Via>().unwrap_err().to_string().contains("hunter2"));
    }

    #[test]
    fn who_is_named_is_reached_without_it() {
        let via: Via = "http://p:1".parse().unwrap();
        let via = via.except(
            "corp.test,.inner.test *.star.test, 10.0.0.0/8,192.0.2.1:8443 ::1 [fd00::1]:1 port.test:444 !?",
        );
        for (upstream, through) in [
            ("api.test:443", true),
            ("corp.test:443", false),
            ("git.CORP.test:443", false),
            ("corp.test.:443", false),
            ("evilcorp.test:443", true),
            ("inner.test:443", false),
            ("a.star.test:443", false),
            ("10.1.2.3:443", false),
            ("11.1.2.3:443", true),
            ("192.0.2.1:443", true),
            ("192.0.2.1:8443", false),
            ("[::1]:443", false),
            ("[fd00::1]:1", false),
            ("[fd00::1]:2", true),
            ("port.test:444", false),
            ("port.test:443", true),
        ] {
            assert_eq!(via.leads_to(&upstream.parse().unwrap()), through, "{upstream}");
        }
        let all: Via = "http://p:1".parse().unwrap();
        assert!(!all.except("*").leads_to(&"a:1".parse().unwrap()));
    }
}
