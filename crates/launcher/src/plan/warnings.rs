//! What a careful reader of a plan should know.

use std::collections::BTreeSet;

use sidecar::upstream::Host as UpstreamHost;

use crate::host::Host;
use crate::host::settings::{Runtime, Settings};
use crate::manifest::Bottle;
use crate::secrets::EnvValue;

/// The warnings of a plan, in the order of the manifest.
pub(super) fn warnings(bottle: &Bottle, settings: &Settings, host: &Host) -> Vec<String> {
    let mut warnings = ssh(bottle);
    for route in &bottle.cred_proxy.routes {
        let path = &route.path;
        if route.allow.is_none() {
            warnings.push(format!(
                "route {path} has no `allow`: every method and path passes, and an API may mint credentials"
            ));
        }
        if !route.redact {
            warnings.push(format!("route {path} does not redact: an echoed token reaches the agent"));
        }
    }
    for (name, value) in &bottle.env {
        if matches!(value, EnvValue::FromHost(_)) {
            warnings.push(format!(
                "{name} is held by the agent, which can read it and send it to everything it can reach"
            ));
        }
    }
    for (name, is_set) in [("SSH_AUTH_SOCK", !bottle.ssh.is_empty()), ("CLAUDE_BOTTLE_PROMPT_FILE", true)] {
        if is_set && bottle.env.contains_key(name) {
            warnings.push(format!("env.{name} has no effect: the bottle sets its own"));
        }
    }
    if !bottle.egress.allow.is_empty() {
        warnings.push(
            "egress.allow has no effect: the engine is `none`, so the agent has no web access".to_owned(),
        );
    }
    warnings.extend(names_of_this_machine(bottle, host));
    network(&mut warnings, host);
    if settings.runtime == Runtime::Auto && host.has_runtime("runsc") {
        warnings.push(
            "the engine has runsc, but isolation is not proved under it yet: runc is used. \
             CLAUDE_BOTTLE_RUNTIME=runsc selects it by name"
                .to_owned(),
        );
    }
    if host.engine.is_some() && host.image.is_none() {
        warnings.push("the engine does not have the agent's image".to_owned());
    }
    warnings
}

fn ssh(bottle: &Bottle) -> Vec<String> {
    let mut warnings = Vec::new();
    for ssh in bottle.ssh.iter().filter(|ssh| ssh.known_host_key.is_none()) {
        let key = ssh.identity_file.display();
        warnings.push(format!(
            "ssh host {} has no KnownHostKey: the first host key seen is trusted, and {key} signs for any host",
            ssh.alias
        ));
    }
    let pinned: BTreeSet<_> =
        bottle.ssh.iter().filter(|ssh| ssh.known_host_key.is_some()).map(|ssh| &ssh.identity_file).collect();
    for ssh in bottle.ssh.iter().filter(|ssh| ssh.known_host_key.is_none()) {
        if pinned.contains(&ssh.identity_file) {
            warnings.push(format!(
                "{} is also used for {}, which is not pinned: the key is not bound to any host",
                ssh.identity_file.display(),
                ssh.alias
            ));
        }
    }
    warnings
}

/// Sidecars do not read this machine's /etc/hosts.
fn names_of_this_machine(bottle: &Bottle, host: &Host) -> Vec<String> {
    let upstreams = bottle.ssh.iter().map(|ssh| &ssh.host);
    let routed = bottle.cred_proxy.routes.iter().map(|route| &route.upstream.upstream.host);
    let names: BTreeSet<_> = upstreams
        .chain(routed)
        .filter_map(|host| match host {
            UpstreamHost::Name(name) => Some(name.to_ascii_lowercase()),
            UpstreamHost::Address(_) => None,
        })
        .filter(|name| host.known_names.contains(name) && !bottle.hosts.contains_key(name))
        .collect();
    names
        .into_iter()
        .map(|name| {
            format!("{name} is in this machine's /etc/hosts, which sidecars do not read: set its address in `hosts`")
        })
        .collect()
}

fn network(warnings: &mut Vec<String>, host: &Host) {
    if host.egress_network.as_ref().is_some_and(|network| network.internal) {
        warnings.push("the egress network is internal: only hosts on that network are reachable".to_owned());
    }
    if let Some(found) = &host.proxy {
        let proxy = found.proxy.url.upstream();
        let loopback = match &proxy.host {
            UpstreamHost::Address(address) => address.is_loopback(),
            UpstreamHost::Name(name) => name.eq_ignore_ascii_case("localhost"),
        };
        if loopback {
            warnings.push(format!(
                "the upstream proxy {proxy} is a loopback address, which sidecars cannot reach on this machine"
            ));
        }
    }
}
