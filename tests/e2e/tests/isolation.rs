//! A bottle's walls, tried from inside as its user and as root, and from outside as a neighbour.
//!
//! Every attack is also made where it must succeed: a probe that cannot reach anything proves nothing.
#![forbid(unsafe_code)]
// Set-up that fails is a failed test: here a panic is the message.
#![allow(clippy::unwrap_used)]

#[path = "isolation/probes.rs"]
mod probes;
#[path = "isolation/wires.rs"]
mod wires;

use std::net::Ipv4Addr;

use e2e::Stage;
use e2e::stage::{Idle, Place};
use probes::{
    CLOSED, LINK_LOCAL, Machine, NO_ROUTE, NO_ROUTE6, NOBODY, NOT_PERMITTED, NOT_SERVED, Probes, REACHED,
};
use wires::Wires;

/// The agent's user, and root in the agent's container.
const INSIDE: [&str; 2] = ["node", "0:0"];

/// The ports on which a sidecar listens somewhere: the gate's row, the proxy, their admin endpoints.
const SIDECAR_PORTS: [u16; 4] = [30000, 9099, 9901, 9902];

/// Where the sidecars and the agent of a bottle stand.
struct Addresses {
    gateway: Ipv4Addr,
    gate: Ipv4Addr,
    proxy: Ipv4Addr,
    agent: Ipv4Addr,
    /// The sidecars' on the scene's network.
    egress: Vec<Ipv4Addr>,
}

impl Addresses {
    /// A shell of the scene's image in each sidecar's network namespace looks them up.
    async fn find(stage: &Stage, bottle: &Idle) -> Self {
        let agent = stage.addresses(&bottle.container).await;
        let [agent] = agent[..] else { panic!("the agent has one address, not {agent:?}") };
        let mut internal = Vec::new();
        let mut egress = Vec::new();
        for role in ["ssh-gate", "cred-proxy"] {
            let name = format!("in-{role}-{}", bottle.instance);
            let inside = stage.neighbour(&name, Place::Inside(&bottle.sidecar(role)), &[]).await;
            let subnet = |address: &Ipv4Addr| u32::from(*address) >> 4 == u32::from(agent) >> 4;
            let (ours, theirs): (Vec<_>, Vec<_>) =
                stage.addresses(&inside).await.into_iter().partition(subnet);
            assert_eq!((ours.len(), theirs.len()), (1, 1), "{role}: {ours:?} {theirs:?}");
            internal.extend(ours);
            egress.extend(theirs);
            // It stands on two networks and must be no router between them.
            let forwards = stage.exec(&inside, "0:0", "cat /proc/sys/net/ipv4/ip_forward", b"").await;
            assert_eq!(forwards.said, "0\n", "{role}");
            // The admin endpoint that nobody else reaches is there.
            let mut own = Probes::default();
            own.add(format!("tcp 127.0.0.1 {}", if role == "ssh-gate" { 9901 } else { 9902 }), REACHED);
            own.assert(stage, &inside, "0:0").await;
        }
        let gateway = Ipv4Addr::from((u32::from(agent) & !15) + 1);
        Self { gateway, gate: internal[0], proxy: internal[1], agent, egress }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_sidecars_can_be_reached_from_inside() {
    let stage = Stage::set().await;
    let machine = Machine::listen().await;
    let bottle = stage.idle(&stage.scene.manifest(), "iso-inside").await;
    let at = Addresses::find(&stage, &bottle).await;
    let (git, api) = (stage.scene.git_hosts[0].address, stage.scene.api.address);
    let (tcp, udp) = (machine.tcp, machine.udp);

    // A plain container on the scene's network reaches all that it is near to.
    let plain = stage.neighbour("plain", Place::Scene, &[]).await;
    let gateway = stage.scene.network.gateway;
    let mut open = Probes::default();
    for probe in [
        format!("tcp {git} 22"),
        format!("tcp {api} 443"),
        format!("tcp {gateway} {tcp}"),
        format!("udp {gateway} {udp}"),
        format!("icmp {gateway}"),
        format!("icmp {git}"),
        "name api.demo.internal".to_owned(),
    ] {
        open.add(probe, REACHED);
    }
    open.assert(&stage, &plain, "0:0").await;
    machine.hears(2).await;
    let before = machine.came();

    let mut walls = Probes::default();
    walls.add("tcp ssh-gate 30000", REACHED);
    walls.add("answer ssh-gate 30000", REACHED);
    walls.add("answer cred-proxy 9099", REACHED);
    for probe in ["tcp 198.51.100.1 443", "udp 198.51.100.1 53", "icmp 198.51.100.1"] {
        walls.add(probe, NO_ROUTE);
    }
    walls.add("tcp 2001:db8::1 443", NO_ROUTE6);
    walls.add("udp 2001:db8::1 53", NO_ROUTE6);
    for metadata in ["169.254.169.254", "168.63.129.16", "100.100.100.200"] {
        walls.add(format!("tcp {metadata} 80"), NO_ROUTE);
        walls.add(format!("udp {metadata} 53"), NO_ROUTE);
    }
    walls.add("tcp fd00:ec2::254 80", NO_ROUTE6);
    for (address, port) in [(git, 22), (api, 443)] {
        walls.add(format!("tcp {address} {port}"), NO_ROUTE);
        walls.add(format!("icmp {address}"), NO_ROUTE);
    }
    let addresses = Machine::addresses();
    assert!(addresses.contains(&gateway), "this machine's addresses are {addresses:?}");
    assert!(!addresses.contains(&at.gateway), "the bottle's gateway is no address of this machine");
    for address in addresses {
        walls.add(format!("tcp {address} {tcp}"), NO_ROUTE);
        walls.add(format!("udp {address} {udp}"), NO_ROUTE);
        walls.add(format!("icmp {address}"), NO_ROUTE);
    }
    for address in Machine::link_local() {
        walls.add(format!("tcp {address}%eth0 {tcp}"), LINK_LOCAL);
    }
    walls.add(format!("tcp {} {tcp}", at.gateway), NOBODY);
    walls.add(format!("icmp {}", at.gateway), NOBODY);
    for name in ["api.demo.internal", "git.demo.internal", "example.invalid", "host.docker.internal"] {
        walls.add(format!("name {name}"), &["no such name"]);
    }
    // Only what they serve: not their admin endpoints, not each other's ports, not their other side.
    for (address, served) in [(at.gate, 30000), (at.proxy, 9099)] {
        for port in SIDECAR_PORTS.into_iter().filter(|port| *port != served) {
            walls.add(format!("tcp {address} {port}"), NOT_SERVED);
        }
    }
    for address in &at.egress {
        for port in SIDECAR_PORTS {
            walls.add(format!("tcp {address} {port}"), NO_ROUTE);
        }
    }
    for user in INSIDE {
        walls.assert(&stage, &bottle.container, user).await;
    }
    assert_eq!(machine.came(), before, "something of the bottle came to this machine");
    bottle.end().await;
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_the_outside_fails_at_once() {
    let stage = Stage::set().await;
    let bottle = stage.idle(&stage.scene.manifest(), "iso-seal").await;
    let script = "cut -f 2,8 /proc/net/route; begin=${EPOCHREALTIME/[.,]/}; \
        timeout 10 bash -c ': 3<>/dev/tcp/198.51.100.1/443'; echo took $(((${EPOCHREALTIME/[.,]/} - begin) / 1000))";
    for user in INSIDE {
        let done = stage.exec(&bottle.container, user, script, b"").await;
        assert!(done.said.contains("Network is unreachable"), "{}", done.said);
        let routes: Vec<&str> = done.said.lines().filter(|line| line.contains('\t')).collect();
        assert_eq!(routes.len(), 2, "a heading and the bottle's own network: {}", done.said);
        assert!(routes[1].ends_with("\tF0FFFFFF"), "a /28: {}", done.said);
        let took = done.said.lines().find_map(|line| line.strip_prefix("took "));
        assert!(took.unwrap().parse::<u64>().unwrap() < 1500, "{}", done.said);
    }
    bottle.end().await;
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lookup_of_an_outside_name_puts_no_packet_on_the_machines_interfaces() {
    let stage = Stage::set().await;
    let run = &stage.scene.run;
    let [by_node, by_root, by_plain] = ["node", "root", "plain"].map(|who| format!("asked-by-{who}-{run}"));
    let wires = Wires::listen(&stage, &[&by_node, &by_root, &by_plain]).await;
    let bottle = stage.idle(&stage.scene.manifest(), "iso-names").await;
    let plain = stage.neighbour("plain", Place::Scene, &[]).await;
    // Twice: as any program asks, and as one that is more patient than the bottle's settings.
    let lookup = |name: &str| {
        format!(
            "timeout 20 getent hosts {name}.invalid; RES_OPTIONS='timeout:2 attempts:2' timeout 20 getent ahosts {name}.invalid"
        )
    };
    for (user, name) in [("node", &by_node), ("0:0", &by_root)] {
        let done = stage.exec(&bottle.container, user, &lookup(name), b"").await;
        assert_eq!(done.said, "", "as {user}");
    }
    // Packets come in order: when the last is noted, so would be those before it.
    stage.exec(&plain, "0:0", &lookup(&by_plain), b"").await;
    wires.carry(&by_plain).await;
    for name in [&by_node, &by_root] {
        assert!(!wires.carried(name).await, "{name} left the bottle");
    }
    bottle.end().await;
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_inside_has_a_capability_a_raw_socket_or_the_engines_socket() {
    let stage = Stage::set().await;
    let bottle = stage.idle(&stage.scene.manifest(), "iso-caps").await;
    let able = stage.neighbour("able", Place::Scene, &["NET_RAW", "NET_ADMIN"]).await;

    let mut may = Probes::default();
    may.add("raw ip", REACHED);
    may.add("raw packet", REACHED);
    // A network it may change without harm: its own, by the gateway that it has.
    let gateway = stage.scene.network.gateway;
    may.add(format!("default-route {gateway}"), &["File exists"]);
    may.assert(&stage, &able, "0:0").await;

    let at = Addresses::find(&stage, &bottle).await;
    let mut may_not = Probes::default();
    may_not.add("raw ip", NOT_PERMITTED);
    may_not.add("raw packet", NOT_PERMITTED);
    may_not.add(format!("default-route {}", at.gate), NOT_PERMITTED);
    for socket in ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"] {
        may_not.add(format!("file {socket}"), &["no such file"]);
    }
    let status = "grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs)' /proc/self/status; \
        grep -c docker.sock /proc/self/mountinfo; find / -xdev -type s -name '*docker*' 2>/dev/null";
    for user in INSIDE {
        may_not.assert(&stage, &bottle.container, user).await;
        let done = stage.exec(&bottle.container, user, status, b"").await;
        let none = "0000000000000000";
        let expected = format!(
            "CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t1\n0\n"
        );
        assert_eq!(done.said, expected, "as {user}");
    }
    bottle.end().await;
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bottle_cannot_be_reached() {
    let stage = Stage::set().await;
    let manifest = stage.scene.manifest();
    let (one, two) = tokio::join!(stage.idle(&manifest, "iso-one"), stage.idle(&manifest, "iso-two"));
    let (at, other) = (Addresses::find(&stage, &one).await, Addresses::find(&stage, &two).await);
    assert_ne!(at.gateway, other.gateway);

    // What is tried in vain from the other bottle is there.
    let mut own = Probes::default();
    own.add(format!("answer {} 30000", other.gate), REACHED);
    own.add(format!("answer {} 9099", other.proxy), REACHED);
    own.add(format!("icmp {}", other.agent), REACHED);
    own.assert(&stage, &two.container, "node").await;

    let mut walls = Probes::default();
    for address in [other.gate, other.proxy, other.agent].into_iter().chain(other.egress) {
        walls.add(format!("tcp {address} 30000"), NO_ROUTE);
        walls.add(format!("tcp {address} 9099"), NO_ROUTE);
        walls.add(format!("icmp {address}"), NO_ROUTE);
    }
    for name in [&two.container, &two.sidecar("ssh-gate"), &two.sidecar("cred-proxy")] {
        walls.add(format!("name {name}"), &["no such name"]);
    }
    for user in INSIDE {
        walls.assert(&stage, &one.container, user).await;
    }
    one.end().await;
    two.end().await;
    stage.clear().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_of_the_sidecars_is_not_served_even_with_a_route_to_their_inner_side() {
    let stage = Stage::set().await;
    let bottle = stage.idle(&stage.scene.manifest(), "iso-outside").await;
    let at = Addresses::find(&stage, &bottle).await;
    let neighbour = stage.neighbour("neighbour", Place::Scene, &["NET_ADMIN"]).await;

    // The sidecars' side of the scene's network serves nobody.
    let mut egress = Probes::default();
    for address in &at.egress {
        for port in SIDECAR_PORTS {
            egress.add(format!("tcp {address} {port}"), NOT_SERVED);
        }
    }
    egress.assert(&stage, &neighbour, "0:0").await;

    for (role, inner, outer, port) in
        [("ssh-gate", at.gate, at.egress[0], 30000), ("cred-proxy", at.proxy, at.egress[1], 9099)]
    {
        let route = include_str!("isolation/route.sh");
        let added = stage.exec(&neighbour, "0:0", route, format!("{inner} {outer}\n").as_bytes()).await;
        assert_eq!((added.code, added.said.as_str()), (0, ""), "{role}");

        // A naive service in the sidecar's place, on its inner address, answers the neighbour.
        let naive =
            stage.neighbour(&format!("naive-{role}"), Place::Inside(&bottle.sidecar(role)), &[]).await;
        let serve = include_str!("isolation/naive.sh");
        let started = stage.exec(&naive, "0:0", serve, format!("{inner}\n").as_bytes()).await;
        let naive_port: u16 = started.said.trim().parse().unwrap_or_else(|_| panic!("{}", started.said));

        let mut attack = Probes::default();
        attack.add(format!("answer {inner} {naive_port}"), REACHED);
        attack.add(format!("answer {inner} {port}"), CLOSED);
        attack.assert(&stage, &neighbour, "0:0").await;
    }
    // The agent is served all the same; and the neighbour has no way to the agent through them.
    let mut inside = Probes::default();
    inside.add("answer ssh-gate 30000", REACHED);
    inside.add("answer cred-proxy 9099", REACHED);
    inside.assert(&stage, &bottle.container, "node").await;
    let route = include_str!("isolation/route.sh");
    let stdin = format!("{} {}\n", at.agent, at.egress[0]);
    assert_eq!(stage.exec(&neighbour, "0:0", route, stdin.as_bytes()).await.code, 0);
    let mut through = Probes::default();
    through.add(format!("icmp {}", at.agent), NOBODY);
    through.add(format!("tcp {} 22", at.agent), NOBODY);
    through.assert(&stage, &neighbour, "0:0").await;
    bottle.end().await;
    stage.clear().await;
}
