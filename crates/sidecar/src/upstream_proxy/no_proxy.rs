//! The hosts that are reached without the proxy, as `NO_PROXY` lists them.

use std::fmt;
use std::net::Ipv6Addr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::upstream::{Host, Upstream};

/// A list of names, addresses and subnets, each perhaps with a port, or `*` for every host. A name
/// stands for itself and for all names below it, with or without a leading `.` or `*.`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Every,
    /// A name and all below it.
    Name(String, Option<u16>),
    Net(IpNet, Option<u16>),
}

impl NoProxy {
    /// Reads a list, separated by commas or white space. Entries that cannot be read are left out, as
    /// other programs do: the variable is shared with them.
    pub fn parse(text: &str) -> Self {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        Self(entries.filter_map(Entry::parse).collect())
    }

    /// Whether the list has no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an upstream is on the list.
    pub fn contains(&self, upstream: &Upstream) -> bool {
        self.0.iter().any(|entry| entry.takes(upstream))
    }
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Every);
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
        let bare = text.parse::<Ipv6Addr>().map(|address| Host::Address(address.into()));
        Some(named(bare.ok().or_else(|| text.parse().ok())?, None))
    }

    fn takes(&self, upstream: &Upstream) -> bool {
        let at = |port: &Option<u16>| port.is_none_or(|port| port == upstream.port);
        match (self, &upstream.host) {
            (Self::Every, _) => true,
            (Self::Net(net, port), Host::Address(address)) => {
                net.contains(&address.to_canonical()) && at(port)
            }
            (Self::Name(own, port), Host::Name(name)) => {
                let (own, name) = (own.trim_end_matches('.'), name.trim_end_matches('.'));
                let below = name.strip_suffix(own);
                below.is_some_and(|below| below.is_empty() || below.ends_with('.')) && at(port)
            }
            (Self::Net(..) | Self::Name(..), _) => false,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Name(name, None) => f.write_str(name),
            Self::Name(name, Some(port)) => write!(f, "{name}:{port}"),
            Self::Net(net, Some(port)) => write!(f, "{}:{port}", Host::Address(net.addr())),
            Self::Net(net, None) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Self::Net(net, None) => write!(f, "{net}"),
        }
    }
}

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, entry) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            write!(f, "{comma}{entry}")?;
        }
        Ok(())
    }
}

impl Serialize for NoProxy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NoProxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_host_and_all_below_it_are_on_the_list() {
        let list = NoProxy::parse(
            "corp.test,.inner.test *.star.test, 10.0.0.0/8,192.0.2.1:8443 ::1 [fd00::1]:1 port.test:444 dot.test. !?",
        );
        for (upstream, expected) in [
            ("api.test:443", false),
            ("corp.test:443", true),
            ("git.CORP.test:443", true),
            ("corp.test.:443", true),
            ("evilcorp.test:443", false),
            ("corp.test.evil.test:443", false),
            ("inner.test:443", true),
            ("a.star.test:443", true),
            ("dot.test:443", true),
            ("10.1.2.3:443", true),
            ("[::ffff:10.1.2.3]:443", true),
            ("11.1.2.3:443", false),
            ("192.0.2.1:443", false),
            ("192.0.2.1:8443", true),
            ("[::1]:443", true),
            ("[fd00::1]:1", true),
            ("[fd00::1]:2", false),
            ("port.test:444", true),
            ("port.test:443", false),
        ] {
            assert_eq!(list.contains(&upstream.parse().unwrap()), expected, "{upstream}");
        }
        assert!(NoProxy::parse("*").contains(&"a:1".parse().unwrap()));
        assert!(NoProxy::parse("!? ,").is_empty());
    }

    #[test]
    fn a_list_is_printed_as_it_is_read_again() {
        let text = "*,corp.test,port.test:444,10.0.0.0/8,192.0.2.1,192.0.2.1:8443,::1,[fd00::1]:1";
        let list = NoProxy::parse(text);
        assert_eq!(list.to_string(), text);
        assert_eq!(
            NoProxy::parse(&NoProxy::parse(".a.test !? *.b.test").to_string()).to_string(),
            "a.test,b.test"
        );
    }
}
