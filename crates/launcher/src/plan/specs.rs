//! From a plan to what the engine is asked for: the exact specification of every network and
//! container. A launch sends these and nothing else.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::Ipv4Net;
use zeroize::Zeroizing;

use super::document::{Plan, SidecarPlan};
use crate::engine::{ContainerId, ContainerSpec, Endpoint, NetworkId, NetworkMode, NetworkSpec};
use crate::labels::{self, Labels};
use crate::sidecars::{Role, agent_address};

/// Where the guest is in the agent's container.
pub(crate) const GUEST: &str = "/usr/local/lib/claude-bottle/bottle-guest";
/// The filtered socket of the ssh-agent: everyone's.
pub(crate) const PUBLIC_SOCKET: &str = "/run/claude-bottle-agent-public.sock";

/// Derives specifications from a plan.
#[derive(Debug)]
pub(crate) struct Specs<'p> {
    plan: &'p Plan,
    common: Labels,
}

/// What is known of a bottle's networks once they are created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Site {
    /// The internal network.
    pub internal: NetworkId,
    /// Its subnet.
    pub subnet: Ipv4Net,
}

/// What an object is, in its label.
enum ObjectRole {
    Agent,
    Seal,
    Network,
    Sidecar(Role),
}

impl<'p> Specs<'p> {
    /// Those of a plan, for objects of this launcher.
    pub(crate) fn new(plan: &'p Plan, launcher: &str) -> Self {
        let common = [
            (labels::INSTANCE, plan.instance.as_str()),
            (labels::AGENT, &plan.agent),
            (labels::MODE, plan.mode.as_str()),
            (labels::LAUNCHER, launcher),
            (labels::PLAN, &plan.hash),
            (labels::VERSION, env!("CARGO_PKG_VERSION")),
        ];
        let common = common.map(|(key, value)| (key.to_owned(), value.to_owned()));
        Self { plan, common: common.into() }
    }

    fn labels(&self, role: &ObjectRole) -> Labels {
        let name = match role {
            ObjectRole::Agent => "agent",
            ObjectRole::Seal => "seal",
            ObjectRole::Network => "network",
            ObjectRole::Sidecar(role) => role.name(),
        };
        let mut labels = self.common.clone();
        labels.insert(labels::ROLE.to_owned(), name.to_owned());
        labels
    }

    /// The internal network.
    ///
    /// # Security
    /// Engines ignore options that they do not know, so the old and the new way to keep the bridge from
    /// the host are both asked for.
    pub(crate) fn internal_network(&self, subnet: Ipv4Net) -> NetworkSpec {
        let options = [
            ("com.docker.network.bridge.inhibit_ipv4", "true"),
            ("com.docker.network.bridge.gateway_mode_ipv4", "isolated"),
            ("com.docker.network.bridge.gateway_mode_ipv6", "isolated"),
        ];
        self.network(self.plan.names.internal(), true, subnet, &options)
    }

    /// The network by which the sidecars reach the world.
    pub(crate) fn egress_network(&self, subnet: Ipv4Net) -> NetworkSpec {
        // No sidecar needs its neighbours there.
        let options = [("com.docker.network.bridge.enable_icc", "false")];
        self.network(self.plan.names.egress(), false, subnet, &options)
    }

    fn network(
        &self,
        name: String,
        internal: bool,
        subnet: Ipv4Net,
        options: &[(&str, &str)],
    ) -> NetworkSpec {
        let planned =
            self.plan.networks.iter().find(|network| network.internal == internal && !network.external);
        let mtu = planned.and_then(|network| network.mtu).map(|mtu| mtu.to_string());
        let mtu = mtu.as_deref().map(|mtu| ("com.docker.network.driver.mtu", mtu));
        let options = options.iter().copied().chain(mtu);
        NetworkSpec {
            name,
            internal,
            subnet,
            options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            labels: self.labels(&ObjectRole::Network),
        }
    }

    /// A sidecar on the internal network, where it has a fixed address.
    pub(crate) fn sidecar(&self, sidecar: &SidecarPlan, image: &str, site: &Site) -> ContainerSpec {
        let address = sidecar.role.address(site.subnet);
        let endpoint =
            Endpoint { address: Some(address), aliases: sidecar.aliases.clone(), default_route: false };
        ContainerSpec {
            command: sidecar.role.command(address, &sidecar.table),
            user: Some(sidecar.hardening.user.clone()),
            labels: self.labels(&ObjectRole::Sidecar(sidecar.role)),
            network: NetworkMode::Network(site.internal.clone(), endpoint),
            extra_hosts: self.plan.hosts.clone(),
            read_only: sidecar.hardening.read_only,
            sysctls: sidecar.hardening.sysctls.clone(),
            pids: Some(sidecar.hardening.pids),
            memory: Some(sidecar.hardening.memory),
            stdin: true,
            healthcheck: true,
            ..ContainerSpec::new(&sidecar.name, image)
        }
    }

    /// How a sidecar is connected to the egress network.
    pub(crate) fn way_out() -> Endpoint {
        Endpoint { default_route: true, ..Endpoint::default() }
    }

    /// The agent's container, in which the guest idles as PID 1 and reaps what the agent leaves behind.
    pub(crate) fn agent(
        &self,
        image: &str,
        site: &Site,
        env: &BTreeMap<String, Zeroizing<String>>,
    ) -> ContainerSpec {
        let agent = &self.plan.agent_container;
        let mut env: BTreeMap<_, _> =
            env.iter().map(|(name, value)| (name.clone(), String::clone(value))).collect();
        if !self.plan.ssh.is_empty() {
            env.insert("SSH_AUTH_SOCK".to_owned(), PUBLIC_SOCKET.to_owned());
        }
        let endpoint = Endpoint { address: Some(agent_address(site.subnet)), ..Endpoint::default() };
        // The engine's resolver cannot be reached under every runtime; the addresses are fixed.
        let names = self.plan.sidecars.iter().flat_map(|sidecar| {
            let address = IpAddr::from(sidecar.role.address(site.subnet));
            sidecar.aliases.iter().map(move |alias| (alias.clone(), address))
        });
        ContainerSpec {
            entrypoint: vec![GUEST.to_owned()],
            command: vec!["idle".to_owned()],
            env,
            user: Some(agent.user.clone()),
            labels: self.labels(&ObjectRole::Agent),
            network: NetworkMode::Network(site.internal.clone(), endpoint),
            dns: agent.dns.clone(),
            dns_options: vec!["timeout:1".to_owned(), "attempts:1".to_owned()],
            extra_hosts: names.collect(),
            pids: Some(agent.limits.pids),
            memory: agent.limits.memory,
            nano_cpus: agent.limits.nano_cpus,
            runtime: Some(self.plan.runtime.to_owned()),
            ..ContainerSpec::new(&agent.name, image)
        }
    }

    /// The one-shot container that deletes the default routes of the agent's network namespace, with the
    /// one capability that this needs.
    pub(crate) fn seal(&self, image: &str, agent: &ContainerId) -> ContainerSpec {
        ContainerSpec {
            command: vec!["seal".to_owned()],
            // Another user gets no effective capability (run).
            user: Some("0:0".to_owned()),
            labels: self.labels(&ObjectRole::Seal),
            network: NetworkMode::Container(agent.clone()),
            read_only: true,
            cap_add: vec!["NET_ADMIN".to_owned()],
            pids: Some(16),
            memory: Some(32 << 20),
            ..ContainerSpec::new(&self.plan.names.seal(), image)
        }
    }
}
