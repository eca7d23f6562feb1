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
    unshare().args(["--net", "sh", "-c", &script, GUEST]).output().expect(UNSHARE_IS_MISSING)
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
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
