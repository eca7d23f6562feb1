//! The routing tables as text: the default routes in `/proc/net/route` and `/proc/net/ipv6_route`.
//!
//! Pure parsing. A line that is not understood is an error, because it may be a default route.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// An address family that has routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A default route that leads somewhere: not of type `unreachable` or the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The address family.
    pub family: Family,
    /// The network interface.
    pub interface: String,
    /// The gateway, unless the route is to the link itself.
    pub gateway: Option<IpAddr>,
}

/// Lists the default routes in the text of `/proc/net/route`, which is the main table.
///
/// A network namespace that has had no IPv4 route yet has an empty file, without the heading.
///
/// # Errors
///
/// The heading or a line is not as the kernel writes it (`fib_route_seq_show` in `fib_trie.c`).
pub fn parse_v4(table: &str) -> Result<Vec<DefaultRoute>, TableError> {
    let mut lines = numbered(table);
    if let Some((number, heading)) = lines.next()
        && !heading.starts_with("Iface\tDestination\tGateway")
    {
        return Err(TableError::new(number, heading));
    }
    defaults(lines, v4_row)
}

/// Lists the default routes in the text of `/proc/net/ipv6_route`, which is all tables.
///
/// # Errors
///
/// A line is not as the kernel writes it (`rt6_info_route` in `ip6_fib.c`).
pub fn parse_v6(table: &str) -> Result<Vec<DefaultRoute>, TableError> {
    defaults(numbered(table), v6_row)
}

/// A route: a default one that leads somewhere, or another.
type Row = Option<DefaultRoute>;

fn defaults<'a>(
    lines: impl Iterator<Item = (usize, &'a str)>,
    parse: fn(&str) -> Option<Row>,
) -> Result<Vec<DefaultRoute>, TableError> {
    lines
        .filter_map(|(number, line)| parse(line).ok_or_else(|| TableError::new(number, line)).transpose())
        .collect()
}

fn v4_row(line: &str) -> Option<Row> {
    let columns: Vec<_> = line.split_ascii_whitespace().collect();
    let [interface, destination, gateway, flags, _, _, _, mask, _, _, _] = columns[..] else { return None };
    let (destination, mask) = (v4_address(destination)?, v4_address(mask)?);
    let is_default = destination.is_unspecified() && mask.is_unspecified() && leads_somewhere(flags)?;
    Some(route(is_default, Family::V4, interface, v4_address(gateway)?.into()))
}

fn v6_row(line: &str) -> Option<Row> {
    let columns: Vec<_> = line.split_ascii_whitespace().collect();
    let [destination, length, _, _, gateway, _, _, _, flags, interface] = columns[..] else { return None };
    let (destination, length) = (v6_address(destination)?, hexadecimal(length, 2)?);
    let is_default = destination.is_unspecified() && length == 0 && leads_somewhere(flags)?;
    Some(route(is_default, Family::V6, interface, v6_address(gateway)?.into()))
}

fn route(is_default: bool, family: Family, interface: &str, gateway: IpAddr) -> Row {
    let gateway = (!gateway.is_unspecified()).then_some(gateway);
    is_default.then(|| DefaultRoute { family, interface: interface.to_owned(), gateway })
}

fn leads_somewhere(flags: &str) -> Option<bool> {
    // IPv4 writes at least four digits, IPv6 always eight.
    let flags = (4..=8).contains(&flags.len()).then(|| hexadecimal(flags, flags.len())).flatten()?;
    Some(flags & RTF_UP != 0 && flags & RTF_REJECT == 0)
}

/// The bytes of the address are in network order, and are written as a number of this machine.
fn v4_address(text: &str) -> Option<Ipv4Addr> {
    let number = u32::try_from(hexadecimal(text, 8)?).ok()?;
    Some(number.to_ne_bytes().into())
}

fn v6_address(text: &str) -> Option<Ipv6Addr> {
    hexadecimal(text, 32).map(Ipv6Addr::from)
}

/// Exactly so many digits; `from_str_radix` alone would accept a sign.
fn hexadecimal(text: &str, digits: usize) -> Option<u128> {
    let all = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

fn numbered(table: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(table.lines())
}

// linux/route.h.
const RTF_UP: u128 = 0x0001;
/// A route that answers "unreachable". The kernel keeps such an IPv6 default route on `lo`.
const RTF_REJECT: u128 = 0x0200;

/// A line that the kernel does not write.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("line {number} is not a route: `{}`", .line.escape_debug())]
pub struct TableError {
    /// Counted from 1.
    number: usize,
    line: String,
}

impl TableError {
    fn new(number: usize, line: &str) -> Self {
        Self { number, line: line.trim_end().to_owned() }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl fmt::Display for DefaultRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, interface {}, ", self.family, self.interface.escape_debug())?;
        match self.gateway {
            Some(gateway) => write!(f, "gateway {gateway}"),
            None => f.write_str("no gateway"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Linux 6.18: a default route, a bridge without carrier, the subnet.
    const LINUX_V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       \n\
        eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0                                                                               \n\
        docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0                                                                            \n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0                                                                               \n";

    /// The same, sealed, with an unreachable default route.
    const SEALED_V4: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       \n\
        *\t00000000\t00000000\t0201\t0\t0\t5\t00000000\t0\t0\t0                                                                                  \n\
        eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0                                                                               \n";

    /// gVisor's heading has single tabs.
    const GVISOR_V4: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT   \n\
        eth0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0   \n\
        eth0\t00000000\t010011AC\t0003\t0\t0\t0\t00000000\t0\t0\t0   \n";

    /// Linux 6.18: a subnet, a link's, a default route, addresses of our own, multicast, and
    /// the kernel's own last line.
    const LINUX_V6: &str = "\
fd000000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd000000000000000000000000000001 00000400 00000002 00000000 00000003     eth0
00000000000000000000000000000001 80 00000000000000000000000000000000 00 00000000000000000000000000000000 00000000 00000002 00000000 80200001       lo
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000003 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
";

    fn v4(interface: &str, gateway: &str) -> DefaultRoute {
        let gateway = Some(gateway.parse().unwrap());
        DefaultRoute { family: Family::V4, interface: interface.to_owned(), gateway }
    }

    /// A table with one line more; its route is default, through eth0, on the link itself.
    fn v4_with(flags: &str, destination: &str, mask: &str) -> String {
        format!("{SEALED_V4}eth0\t{destination}\t00000000\t{flags}\t0\t0\t0\t{mask}\t0\t0\t0\n")
    }

    #[test]
    fn default_routes_are_found_with_interface_and_gateway() {
        assert_eq!(parse_v4(LINUX_V4), Ok(vec![v4("eth0", "192.0.2.1")]));
        assert_eq!(parse_v4(GVISOR_V4), Ok(vec![v4("eth0", "172.17.0.1")]));
        let gateway = Some("fd00::1".parse().unwrap());
        let v6 = DefaultRoute { family: Family::V6, interface: "eth0".to_owned(), gateway };
        assert_eq!(parse_v6(LINUX_V6), Ok(vec![v6]));
    }

    #[test]
    fn every_default_route_of_a_table_is_found() {
        let table = format!("{LINUX_V4}eth1\t00000000\t090200C0\t0003\t0\t0\t7\t00000000\t0\t0\t0\n");
        assert_eq!(parse_v4(&table), Ok(vec![v4("eth0", "192.0.2.1"), v4("eth1", "192.0.2.9")]));
    }

    #[test]
    fn a_default_route_needs_no_gateway() {
        let found = parse_v4(&v4_with("0001", "00000000", "00000000")).unwrap();
        assert_eq!(found[0].to_string(), "IPv4, interface eth0, no gateway");
    }

    #[test]
    fn subnets_and_unreachable_default_routes_are_not_reported() {
        let sealed_v6: Vec<_> =
            LINUX_V6.lines().filter(|line| !line.contains("fd000000000000000000000000000001")).collect();
        assert_eq!(sealed_v6.len(), 5);
        assert_eq!(parse_v4(""), Ok(vec![]));
        assert_eq!(parse_v6(""), Ok(vec![]));
        assert_eq!(parse_v4(SEALED_V4), Ok(vec![]));
        assert_eq!(parse_v6(&sealed_v6.join("\n")), Ok(vec![]));
    }

    #[test]
    fn a_default_route_has_destination_0_and_mask_0_is_up_and_not_rejected() {
        for (flags, destination, mask, expected) in [
            ("0001", "00000000", "00000000", 1),
            ("0003", "00000000", "00000000", 1),
            ("10001", "00000000", "00000000", 1),
            ("0000", "00000000", "00000000", 0),
            ("0201", "00000000", "00000000", 0),
            ("0001", "00000080", "00000080", 0),
            ("0001", "00000000", "00000080", 0),
        ] {
            let found = parse_v4(&v4_with(flags, destination, mask)).unwrap();
            assert_eq!(found.len(), expected, "{flags} {destination} {mask}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_an_error() {
        let heading = SEALED_V4.lines().next().unwrap();
        for (line, why) in [
            ("", "blank"),
            ("eth0", "one column"),
            ("eth0\t00000000\t00000000\t0003\t0\t0\t0\t00000000\t0\t0", "a column too few"),
            ("eth0\t00000000\t00000000\t0003\t0\t0\t0\t00000000\t0\t0\t0\t0", "a column too many"),
            ("eth0\t0000000\t00000000\t0003\t0\t0\t0\t00000000\t0\t0\t0", "a digit too few"),
            ("eth0\t00000000\t00000000\t0x03\t0\t0\t0\t00000000\t0\t0\t0", "not hexadecimal"),
            ("eth0\t+0000000\t00000000\t0003\t0\t0\t0\t00000000\t0\t0\t0", "a sign"),
            ("eth0\t00000000\t00000000\t0003\t0\t0\t0\tFFFFFFFFF\t0\t0\t0", "a digit too many"),
            ("eth0\t00000000\t1.2.3.4\t0003\t0\t0\t0\t00000000\t0\t0\t0", "a dotted gateway"),
        ] {
            let error = parse_v4(&format!("{heading}\n{line}\n")).expect_err(why);
            assert_eq!(error, TableError { number: 2, line: line.to_owned() }, "{why}");
        }
        let zeros = "0".repeat(32);
        for (line, why) in [
            (format!("{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 00000003"), "no interface"),
            (format!("{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 3 eth0"), "short flags"),
            (
                format!("{zeros} 000 {zeros} 00 {zeros} 00000400 00000001 00000000 00000003 eth0"),
                "long length",
            ),
            (format!("0 00 {zeros} 00 {zeros} 00000400 00000001 00000000 00000003 eth0"), "short address"),
            ("::/0 via fd00::1".to_owned(), "another format"),
        ] {
            let error = parse_v6(&format!("{LINUX_V6}{line}\n")).expect_err(why);
            assert_eq!(error, TableError { number: 7, line }, "{why}");
        }
    }

    #[test]
    fn a_table_without_its_heading_is_an_error() {
        let body = LINUX_V4.split_once('\n').unwrap().1;
        let error = parse_v4(body).unwrap_err().to_string();
        assert_eq!(
            error,
            "line 1 is not a route: `eth0\\t00000000\\t010200C0\\t0003\\t0\\t0\\t0\\t00000000\\t0\\t0\\t0`"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}", columns in "([0-9A-Fa-f+é]{0,9}[ \t]){8,12}[0-9a-z]{0,4}") {
            for text in [&text, &columns, &format!("{SEALED_V4}{text}"), &format!("{SEALED_V4}{columns}")] {
                let _ = parse_v4(text);
                let _ = parse_v6(text);
            }
        }
    }
}
