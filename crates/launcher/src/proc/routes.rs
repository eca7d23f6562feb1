//! The routes of this machine: proc_pid_net(5), /proc/net/route.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// The routes, and the MTU of the default one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// All but the default route.
    pub subnets: Vec<Route>,
    /// The MTU of the default route, where it differs from Ethernet's 1500.
    pub mtu: Option<u32>,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads.
    pub to: Ipv4Net,
    /// By which interface.
    pub interface: String,
}

impl Routes {
    /// Those of this network namespace.
    pub fn read() -> Self {
        let table = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
        Self::parse(&table, |interface| {
            std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok()
        })
    }

    /// The route that overlaps a subnet, other than the default one.
    pub fn overlapping(&self, subnet: Ipv4Net) -> Option<&Route> {
        self.subnets.iter().find(|route| route.to.contains(&subnet) || subnet.contains(&route.to))
    }

    /// Numbers are hexadecimal, in the machine's byte order.
    fn parse(table: &str, mtu_of: impl Fn(&str) -> Option<u32>) -> Self {
        let hex =
            |text: &str| u32::from_str_radix(text, 16).ok().map(|value| Ipv4Addr::from(value.swap_bytes()));
        let mut routes = Self::default();
        let mut best = u32::MAX;
        for line in table.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [interface, to, _, _, _, _, metric, mask, mtu, ..] = fields[..] else { continue };
            let Some(to) = hex(to).zip(hex(mask)).and_then(|(to, mask)| Ipv4Net::with_netmask(to, mask).ok())
            else {
                continue;
            };
            if to.prefix_len() > 0 {
                routes.subnets.push(Route { to, interface: interface.to_owned() });
            } else if let Some(metric) = metric.parse().ok().filter(|metric| *metric < best) {
                best = metric;
                let own = mtu.parse().ok().filter(|mtu| *mtu > 0);
                routes.mtu = own.into_iter().chain(mtu_of(interface)).min().filter(|mtu| *mtu != USUAL_MTU);
            }
        }
        routes
    }
}

/// Ethernet's, and the engine's for its bridges.
const USUAL_MTU: u32 = 1500;

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        wlan0\t00000000\t010011AC\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
        tun0\t00000000\t010011AC\t0003\t0\t0\t50\t00000000\t0\t0\t0\n\
        docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";

    #[test]
    fn the_machines_routes_are_read_without_the_default_one() {
        let routes = Routes::parse(TABLE, |_| None);
        let docker = Route { to: "172.17.0.0/16".parse().unwrap(), interface: "docker0".into() };
        assert_eq!(routes.subnets, [docker]);
    }

    #[test]
    fn a_subnet_of_a_route_and_a_route_in_a_subnet_overlap() {
        let routes = Routes::parse(TABLE, |_| None);
        for (subnet, overlaps) in [("172.17.5.0/28", true), ("172.16.0.0/12", true), ("172.18.0.0/16", false)]
        {
            assert_eq!(routes.overlapping(subnet.parse().unwrap()).is_some(), overlaps, "{subnet}");
        }
    }

    #[test]
    fn the_mtu_is_that_of_the_default_route_which_the_kernel_prefers() {
        let mtu_of = |interface: &str| Some(if interface == "tun0" { 1300 } else { 1500 });
        assert_eq!(Routes::parse(TABLE, mtu_of).mtu, Some(1300));
        assert_eq!(Routes::parse(TABLE, |_| Some(1500)).mtu, None);
        let own = TABLE.replace("\t50\t00000000\t0\t", "\t50\t00000000\t1280\t");
        assert_eq!(Routes::parse(&own, mtu_of).mtu, Some(1280));
    }
}
