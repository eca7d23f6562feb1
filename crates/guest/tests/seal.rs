//! After the seal no default route is left; what leads to the subnet stays.
//!
//! Runs in network namespaces of the test's own: as root, or where users may make namespaces.

#![allow(clippy::unwrap_used, reason = "a scene that cannot be set is a failed test")]

mod common;

use std::process::{Command, Output};

use common::{GUEST, UNSHARE_IS_MISSING, unshare};

/// Runs a script in a new network namespace, where `$0` is the guest.
#[track_caller]
fn in_namespace(script: &str) -> Output {
    let ip = Command::new("ip").arg("-Version").output();
    assert!(ip.is_ok(), "ip is needed for this test: install Debian's iproute2");
    let script = format!("set -e; {script}");
    unshare().args(["--net", "--mount", "sh", "-c", &script, GUEST]).output().expect(UNSHARE_IS_MISSING)
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Asserts that the check found the routes left, printed `message`, and nothing on stdout.
#[track_caller]
fn found(output: &Output, message: &str) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    assert_eq!(String::from_utf8(output.stderr.clone()).unwrap(), format!("bottle-guest: {message}\n"));
}

/// A veth pair, because the engine needs this kind of device, too.
const ROUTES: &str = "\
    ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; \
    ip address add 198.51.100.2/24 dev v0; \
    ip -6 address add 2001:db8::2/64 dev v0 nodad; \
    ip route add default via 198.51.100.1 dev v0; ";

const MORE_ROUTES: &str = "\
    ip route add default via 198.51.100.9 dev v0 metric 7 src 198.51.100.2; \
    ip route add default metric 9 nexthop via 198.51.100.5 dev v0 nexthop via 198.51.100.6 dev v0; \
    ip route add default dev v0 table 100; \
    ip route add unreachable default metric 4000; \
    ip route add 203.0.113.0/24 via 198.51.100.1; \
    ip -6 route add default via 2001:db8::1 dev v0; \
    ip -6 route append default via 2001:db8::8 dev v0; \
    ip -6 route add default dev v0 metric 5; \
    ip -6 route add unreachable default metric 4000; ";

#[test]
fn the_default_route_goes_and_the_subnet_s_stays() {
    let script = format!("{ROUTES} \"$0\" seal; ip route");
    let output = succeeded(&in_namespace(&script));
    let (said, routes) = output.split_once('\n').unwrap();
    assert_eq!(said, r#"{"event":"sealed","removed":1}"#);
    assert_eq!(routes.trim_end(), "198.51.100.0/24 dev v0 proto kernel scope link src 198.51.100.2");
}

#[test]
fn every_kind_of_default_route_goes_and_unreachable_stays() {
    let script = format!(
        "{ROUTES} {MORE_ROUTES} \"$0\" seal >&2; ip route show table all; ip -6 route show table all"
    );
    let routes = succeeded(&in_namespace(&script));
    let defaults: Vec<_> = routes.lines().filter(|row| row.contains("default")).collect();
    assert!(defaults.len() >= 2, "{routes}");
    assert!(defaults.iter().all(|row| row.starts_with("unreachable default")), "{routes}");
    assert!(routes.contains("203.0.113.0/24 via 198.51.100.1"), "{routes}");
    assert!(routes.contains("2001:db8::/64 dev v0"), "{routes}");
}

#[test]
fn a_connection_to_the_outside_then_fails_at_once() {
    let script = format!("{ROUTES} \"$0\" seal >&2; ip route get 203.0.113.1 2>&1 || true");
    let output = succeeded(&in_namespace(&script));
    assert_eq!(output.trim_end(), "RTNETLINK answers: Network is unreachable");
}

#[test]
fn a_second_seal_and_a_namespace_without_routes_are_success() {
    for script in [format!("{ROUTES} \"$0\" seal >&2; \"$0\" seal"), "\"$0\" seal".to_owned()] {
        let output = succeeded(&in_namespace(&script));
        assert_eq!(output, "{\"event\":\"sealed\",\"removed\":0}\n");
    }
}

#[test]
fn without_the_capability_it_fails_and_says_so() {
    let script = format!("{ROUTES} setpriv --bounding-set -net_admin \"$0\" seal");
    let output = in_namespace(&script);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(output.stdout, b"");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("bottle-guest: could not delete an IPv4 default route: Operation not permitted"),
        "{told}"
    );
}

const CHECKED: &str = "{\"event\":\"checked\"}\n";

/// Puts tables of the test's own in place of the kernel's, after the network has been set up.
const NO_TABLES: &str = "mount -t tmpfs none /proc; mkdir /proc/net; ";
const NO_ROUTES: &str =
    "printf 'Iface\\tDestination\\tGateway\\n' >/proc/net/route; : >/proc/net/ipv6_route; ";

#[test]
fn the_check_passes_after_the_seal() {
    let script = format!("{ROUTES} {MORE_ROUTES} \"$0\" seal >&2; \"$0\" seal --check");
    assert_eq!(succeeded(&in_namespace(&script)), CHECKED);
}

#[test]
fn the_check_passes_where_no_route_ever_was() {
    assert_eq!(succeeded(&in_namespace("\"$0\" seal --check")), CHECKED);
}

#[test]
fn the_check_needs_no_capability() {
    let script = format!("{ROUTES} \"$0\" seal >&2; setpriv --bounding-set -all \"$0\" seal --check");
    assert_eq!(succeeded(&in_namespace(&script)), CHECKED);
}

#[test]
fn the_check_names_interface_and_gateway_and_deletes_nothing() {
    let script = format!("{ROUTES} \"$0\" seal --check && exit 9; ip route show default >&2; exit 1");
    found(
        &in_namespace(&script),
        "a default route remains: IPv4, interface v0, gateway 198.51.100.1\ndefault via 198.51.100.1 dev v0 ",
    );
}

#[test]
fn the_check_names_every_default_route_of_both_families() {
    let script = format!(
        "{ROUTES} ip route add default dev v0 metric 7; ip -6 route add default via 2001:db8::1 dev v0; \
         \"$0\" seal --check"
    );
    found(
        &in_namespace(&script),
        "a default route remains: IPv4, interface v0, gateway 198.51.100.1; \
         IPv4, interface v0, no gateway; IPv6, interface v0, gateway 2001:db8::1",
    );
}

#[test]
fn the_check_finds_a_default_route_outside_the_main_table() {
    let script = format!(
        "{ROUTES} \"$0\" seal >&2; ip route add default via 198.51.100.5 dev v0 table 100; \"$0\" seal --check"
    );
    let output = in_namespace(&script);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(told.ends_with("a default route remains: IPv4, interface v0, gateway 198.51.100.5\n"), "{told}");
}

/// rtnetlink lists nothing here: no route exists.
#[test]
fn the_check_does_not_trust_rtnetlink_alone() {
    let v4 = r"printf 'eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n' >>/proc/net/route; ";
    let script = format!("{NO_TABLES} {NO_ROUTES} {v4} \"$0\" seal --check");
    found(&in_namespace(&script), "a default route remains: IPv4, interface eth0, gateway 192.0.2.1");

    let zeros = "0".repeat(32);
    let v6 = format!(
        "echo {zeros} 00 {zeros} 00 fd000000000000000000000000000009 00000400 1 0 00000003 eth0 \
         >/proc/net/ipv6_route; "
    );
    let script = format!("{NO_TABLES} {NO_ROUTES} {v6} \"$0\" seal --check");
    found(&in_namespace(&script), "a default route remains: IPv6, interface eth0, gateway fd00::9");
}

/// gVisor's `/proc/net/ipv6_route` is empty whatever its routes are.
#[test]
fn the_check_does_not_trust_proc_alone() {
    let script = format!(
        "{ROUTES} ip -6 route add default via 2001:db8::1 dev v0; {NO_TABLES} {NO_ROUTES} \"$0\" seal --check"
    );
    found(
        &in_namespace(&script),
        "a default route remains: IPv4, interface v0, gateway 198.51.100.1; \
         IPv6, interface v0, gateway 2001:db8::1",
    );
}

#[test]
fn the_check_passes_on_a_kernel_without_ipv6() {
    let script = format!("{NO_TABLES} {NO_ROUTES} rm /proc/net/ipv6_route; \"$0\" seal --check");
    assert_eq!(succeeded(&in_namespace(&script)), CHECKED);
}

#[test]
fn the_check_fails_if_a_table_cannot_be_read_or_understood() {
    let script = format!("{NO_TABLES} {NO_ROUTES} rm /proc/net/route; \"$0\" seal --check");
    found(&in_namespace(&script), "could not read `/proc/net/route`: No such file or directory (os error 2)");
    let script = format!("{NO_TABLES} {NO_ROUTES} echo eth0 >>/proc/net/route; \"$0\" seal --check");
    found(&in_namespace(&script), "could not parse `/proc/net/route`: line 2 is not a route: `eth0`");
}
