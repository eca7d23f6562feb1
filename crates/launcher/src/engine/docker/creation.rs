//! What the engine is sent to create networks and containers.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use bollard_stubs::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig,
    NetworkingConfig, RestartPolicy, RestartPolicyNameEnum,
};
use serde_json::{Value, json};

use crate::engine::{ContainerSpec, Endpoint, NetworkMode, NetworkSpec};

/// The body that creates a network.
///
/// By hand, because bollard has no `CheckDuplicate`, without which engine 20.10 makes a second
/// network of the same name.
pub(super) fn network(spec: &NetworkSpec) -> Value {
    json!({
        "Name": spec.name,
        "CheckDuplicate": true,
        "Driver": "bridge",
        "Internal": spec.internal,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Config": [ { "Subnet": spec.subnet.to_string() } ] },
        "Options": spec.options,
        "Labels": spec.labels,
    })
}

/// The body that creates a container.
///
/// # Security
///
/// Every container loses all capabilities but those its specification keeps, cannot gain
/// privileges, and is never restarted (a restarted agent would be unsealed).
pub(super) fn container(spec: &ContainerSpec, priorities: Priorities) -> ContainerCreateBody {
    let (network_mode, networking_config) = match &spec.network {
        NetworkMode::Network(id, endpoint) => {
            let endpoints = HashMap::from([(id.0.clone(), endpoint_settings(endpoint, priorities))]);
            (id.0.clone(), Some(NetworkingConfig { endpoints_config: Some(endpoints) }))
        }
        NetworkMode::Container(id) => (format!("container:{}", id.0), None),
        NetworkMode::None => ("none".to_owned(), None),
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: filled(&spec.entrypoint),
        cmd: filled(&spec.command),
        env: filled(&variables(&spec.env)),
        user: spec.user.clone(),
        labels: Some(spec.labels.clone().into_iter().collect()),
        attach_stdin: Some(spec.stdin),
        open_stdin: Some(spec.stdin),
        stdin_once: Some(spec.stdin),
        tty: Some(false),
        // An image's own check would run beside provisioning, inside the bottle.
        healthcheck: (!spec.healthcheck)
            .then(|| HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host_config(spec, network_mode)),
        networking_config,
        ..Default::default()
    }
}

fn host_config(spec: &ContainerSpec, network_mode: String) -> HostConfig {
    let bounded = || HostConfigLogConfig {
        typ: Some("json-file".to_owned()),
        config: Some(HashMap::from([
            ("max-size".to_owned(), "10m".to_owned()),
            ("max-file".to_owned(), "3".to_owned()),
        ])),
    };
    HostConfig {
        network_mode: Some(network_mode),
        dns: filled(&spec.dns),
        dns_options: filled(&spec.dns_options),
        extra_hosts: filled(&extra_hosts(&spec.extra_hosts)),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: filled(&spec.cap_add),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        readonly_rootfs: Some(spec.read_only),
        sysctls: (!spec.sysctls.is_empty()).then(|| spec.sysctls.clone().into_iter().collect()),
        pids_limit: spec.pids,
        memory: spec.memory,
        // Equal to the memory: no swap on top of it.
        memory_swap: spec.memory,
        nano_cpus: spec.nano_cpus,
        runtime: spec.runtime.clone(),
        log_config: spec.bounded_logs.then(bounded),
        ..Default::default()
    }
}

/// Whether the engine lets the client choose the network of the default route (API 1.48).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Priorities {
    /// It does.
    Known,
    /// It does not, or the endpoint does not need it.
    Unknown,
}

impl Priorities {
    /// What an engine of this API version does.
    pub(super) fn of(api: &str) -> Priorities {
        let number =
            api.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        match number {
            Some(version) if version >= (1_u32, 48_u32) => Priorities::Known,
            _ => Priorities::Unknown,
        }
    }
}

/// A container's connection to a network, as the engine takes it.
pub(super) fn endpoint_settings(endpoint: &Endpoint, priorities: Priorities) -> EndpointSettings {
    EndpointSettings {
        ipam_config: endpoint.address.map(|address| EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..Default::default()
        }),
        aliases: filled(&endpoint.aliases),
        gw_priority: (endpoint.default_route && priorities == Priorities::Known).then_some(1),
        ..Default::default()
    }
}

/// `NAME=value`, as the engine takes variables.
pub(super) fn variables(env: &BTreeMap<String, String>) -> Vec<String> {
    env.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// `NAME:ADDRESS`, as the engine takes additional hosts.
fn extra_hosts(hosts: &BTreeMap<String, IpAddr>) -> Vec<String> {
    hosts.iter().map(|(name, address)| format!("{name}:{address}")).collect()
}

fn filled(list: &[String]) -> Option<Vec<String>> {
    (!list.is_empty()).then(|| list.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_sent_only_to_engines_that_know_them() {
        let endpoint = Endpoint { default_route: true, ..Endpoint::default() };
        for (api, sent) in [
            ("1.41", None),
            ("1.47", None),
            ("1.48", Some(1)),
            ("1.53", Some(1)),
            ("2.0", Some(1)),
            ("?", None),
        ] {
            assert_eq!(endpoint_settings(&endpoint, Priorities::of(api)).gw_priority, sent, "{api}");
        }
    }
}
