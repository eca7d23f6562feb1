//! Addresses that are not for everyone: what a proxy must not be led to.
//!
//! The check stands after the resolution of a name, and the address that was checked is the one
//! that is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of place an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A host of the internet.
    Public,
    /// RFC 1918 and unique local addresses (RFC 4193).
    Private,
    /// This machine.
    Loopback,
    /// Carrier-grade NAT, 100.64.0.0/10 (RFC 6598).
    Cgnat,
    /// Documentation and benchmarks (RFC 5737, 3849, 9637, 2544).
    Documentation,
    /// 169.254.0.0/16 and fe80::/10.
    LinkLocal,
    /// Where clouds hand out credentials.
    Metadata,
    /// Groups.
    Multicast,
    /// Unspecified, broadcast, and what is reserved.
    Reserved,
}

impl Class {
    /// The class of an address. An IPv6 form that embeds an IPv4 address (mapped, NAT64, 6to4,
    /// Teredo) is at least as closed as what it embeds.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => of_v6(address),
        }
    }

    /// Whether a proxy may connect there; `private` is what a row says of its own upstream, and
    /// lifts private, loopback, CGNAT and documentation addresses, nothing else.
    pub fn permitted(self, private: bool) -> bool {
        match self {
            Self::Public => true,
            Self::Private | Self::Loopback | Self::Cgnat | Self::Documentation => private,
            Self::LinkLocal | Self::Metadata | Self::Multicast | Self::Reserved => false,
        }
    }
}

/// Metadata services: AWS, GCP and most others; Azure; Alibaba.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200)];
/// AWS over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn of_v4(address: Ipv4Addr) -> Class {
    let [a, b, c, _] = address.octets();
    match (a, b, c) {
        _ if METADATA_V4.contains(&address) => Class::Metadata,
        (127, ..) => Class::Loopback,
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => Class::Private,
        (100, 64..=127, _) => Class::Cgnat,
        (169, 254, _) => Class::LinkLocal,
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) | (198, 18..=19, _) => Class::Documentation,
        (224..=239, ..) => Class::Multicast,
        // "This network", protocol assignments, the 6to4 relays' anycast, and the reserved end.
        (0, ..) | (192, 0, 0) | (192, 88, 99) | (240.., ..) => Class::Reserved,
        _ => Class::Public,
    }
}

fn of_v6(address: Ipv6Addr) -> Class {
    if address == METADATA_V6 {
        return Class::Metadata;
    }
    for embedded in embedded(address) {
        let class = of_v4(embedded);
        if class != Class::Public {
            return class;
        }
    }
    let [a, b, ..] = address.segments();
    match (a, b) {
        _ if address.is_loopback() => Class::Loopback,
        _ if address.is_unspecified() => Class::Reserved,
        (0, 0) => Class::Reserved,
        (0xfc00..=0xfdff, _) => Class::Private,
        // Site-local (RFC 3879) is deprecated and still routed inside some networks.
        (0xfec0..=0xfeff, _) => Class::Private,
        (0xfe80..=0xfebf, _) => Class::LinkLocal,
        (0xff00.., _) => Class::Multicast,
        (0x2001, 0xdb8) | (0x3fff, 0..=0x0fff) => Class::Documentation,
        (0x100, 0) => Class::Reserved,
        // RFC 8215: NAT64 with a prefix of the network's own.
        (0x64, 0xff9b) if address.segments()[2] == 1 => Class::Private,
        (0x64, 0xff9b) | (0x2000..=0x3fff, _) => Class::Public,
        _ => Class::Reserved,
    }
}

/// The IPv4 addresses that an IPv6 address carries inside.
fn embedded(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let s = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match s {
        // ::ffff:a.b.c.d (mapped), ::ffff:0:a.b.c.d (translated, RFC 2765)
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => vec![v4(high, low)],
        // ::a.b.c.d (compatible), but for :: and ::1
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => vec![v4(high, low)],
        // 64:ff9b::/96 (NAT64, RFC 6052)
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => vec![v4(high, low)],
        // 2002::/16 (6to4, RFC 3056)
        [0x2002, high, low, ..] => vec![v4(high, low)],
        // 2001::/32 (Teredo, RFC 4380): the server, and the client with its bits inverted
        [0x2001, 0, high, low, _, _, client_high, client_low] => {
            vec![v4(high, low), v4(!client_high, !client_low)]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_closed_place_is_known_in_all_its_spellings() {
        for (text, class) in [
            ("93.184.216.34", Class::Public),
            ("2606:4700::1111", Class::Public),
            ("10.1.2.3", Class::Private),
            ("172.31.255.255", Class::Private),
            ("172.32.0.0", Class::Public),
            ("192.168.0.1", Class::Private),
            ("fd12::1", Class::Private),
            ("fec0::1", Class::Private),
            ("127.8.9.1", Class::Loopback),
            ("::1", Class::Loopback),
            ("100.64.0.1", Class::Cgnat),
            ("169.254.1.1", Class::LinkLocal),
            ("fe80::1", Class::LinkLocal),
            ("169.254.169.254", Class::Metadata),
            ("168.63.129.16", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("fd00:ec2::254", Class::Metadata),
            ("198.51.100.1", Class::Documentation),
            ("198.18.0.1", Class::Documentation),
            ("2001:db8::1", Class::Documentation),
            ("224.0.0.1", Class::Multicast),
            ("ff02::1", Class::Multicast),
            ("0.0.0.0", Class::Reserved),
            ("255.255.255.255", Class::Reserved),
            ("::", Class::Reserved),
            ("::ffff:10.0.0.1", Class::Private),
            ("::ffff:169.254.169.254", Class::Metadata),
            ("::127.0.0.1", Class::Loopback),
            ("64:ff9b::a9fe:a9fe", Class::Metadata),
            ("64:ff9b::808:808", Class::Public),
            ("64:ff9b:1::1", Class::Private),
            ("2002:7f00:1::", Class::Loopback),
            ("2001:0:a00:1::", Class::Private),
            ("2001:0:808:808:0:0:f5ff:fffe", Class::Private),
        ] {
            assert_eq!(Class::of(text.parse().unwrap()), class, "{text}");
        }
    }

    #[test]
    fn a_private_upstream_lifts_what_is_private_and_nothing_else() {
        let lifted = [Class::Private, Class::Loopback, Class::Cgnat, Class::Documentation];
        assert!(lifted.iter().all(|class| class.permitted(true) && !class.permitted(false)));
        let never = [Class::LinkLocal, Class::Metadata, Class::Multicast, Class::Reserved];
        assert!(never.iter().all(|class| !class.permitted(true)));
    }
}
