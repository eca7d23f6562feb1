//! From a manifest and the facts of a machine to a plan.

use std::collections::{BTreeMap, BTreeSet};

use sidecar::ports::{PortTable, Protocol, Row, RowError};
use sidecar::routes::{Route, RouteError, RouteTable, TokenName};
use sidecar::upstream::Upstream;

use super::document::{
    AgentContainer, Credential, EgressPlan, EngineFacts, Hardening, HostKeyCheck, ImagePlan, Mode,
    NetworkPlan, Plan, Reach, SidecarPlan, SshPlan, State, Table,
};
use super::hash::hash;
use crate::host::settings::{Runtime, Settings};
use crate::host::{Host, image_name};
use crate::images::BuiltImage;
use crate::manifest::{Agent, Bottle, EnvValue, Manifest, SshHost};
use crate::plan::names::{NameError, Names};

/// What was asked for on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The agent's name in the manifest.
    pub agent: String,
    /// What to run in place of the manifest's command.
    pub command: Option<Vec<String>>,
    /// The environment's settings.
    pub settings: Settings,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    /// The manifest has no such agent.
    #[error("the manifest has no agent {name:?}")]
    NoAgent {
        /// The name asked for.
        name: String,
        /// Those it has.
        known: Vec<String>,
    },
    /// No name is free.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The engine has no such network.
    #[error("the egress network {0} is not there")]
    NoNetwork(String),
    /// The engine has no such runtime.
    #[error("the engine has no runtime {0}")]
    NoRuntime(&'static str),
    /// The agent would be root beside the ssh keys.
    #[error("the agent's user {0:?} is root, and root could read the ssh-agent's memory")]
    Root(String),
    /// Rows that are no table.
    #[error("the ssh hosts make no port table")]
    Ports(#[from] RowError),
    /// Routes that are no table.
    #[error("the routes make no route table")]
    Routes(#[from] RouteError),
    /// A sidecar's image is not there.
    #[error("the launcher carries no image of {0}")]
    NoImage(&'static str),
}

/// The first port that the gate listens on.
const FIRST_PORT: u16 = 30_000;
/// Enough for an agent with its compilers; the manifest may say more.
const AGENT_PIDS: i64 = 1024;

/// Decides everything that a start will do.
///
/// # Errors
/// [`PlanError`].
pub(crate) fn plan(manifest: &Manifest, request: &Request, host: &Host) -> Result<Plan, PlanError> {
    let (agent, bottle) = agent(manifest, &request.agent)?;
    let settings = &request.settings;
    let names = Names::pick(&request.agent, settings.container.as_deref(), &host.taken)?;
    let user = user(bottle, host);
    if is_root(&user) && !bottle.ssh.is_empty() {
        return Err(PlanError::Root(user));
    }
    let sidecars = sidecars(bottle, settings, host, &names)?;
    let networks = networks(bottle, host, &names, sidecars.is_empty())?;
    let mut plan = Plan {
        version: 1,
        instance: names.instance.clone(),
        agent: request.agent.clone(),
        mode: Mode::Attached,
        runtime: runtime(settings.runtime, host)?.to_owned(),
        engine: host.engine.as_ref().map(|engine| EngineFacts {
            version: engine.version.clone(),
            api: engine.api.clone(),
            arch: engine.arch.clone(),
        }),
        image: ImagePlan {
            name: image_name(settings, bottle),
            id: host.image.as_ref().map(|image| image.id.clone()),
            derived: None,
        },
        networks,
        reachability: reachability(&sidecars),
        sidecars,
        agent_container: agent_container(agent, bottle, request, &names, user),
        ssh: bottle.ssh.iter().enumerate().map(ssh).collect(),
        credentials: credentials(bottle, host),
        egress: EgressPlan { engine: "none", allow: Vec::new() },
        warnings: warnings(bottle, host),
        hash: String::new(),
        guest: image(host, "bottle-guest")?.clone(),
        guest_binary: host.guest.clone(),
        external_network: host.egress_network.as_ref().map(|network| network.id.clone()),
        names,
    };
    plan.hash = hash(&plan);
    Ok(plan)
}

fn agent<'m>(manifest: &'m Manifest, name: &str) -> Result<(&'m Agent, &'m Bottle), PlanError> {
    manifest
        .agents
        .get(name)
        .and_then(|agent| Some((agent, manifest.bottles.get(&agent.bottle)?)))
        .ok_or_else(|| PlanError::NoAgent {
            name: name.to_owned(),
            known: manifest.agents.keys().cloned().collect(),
        })
}

fn image<'h>(host: &'h Host, name: &'static str) -> Result<&'h BuiltImage, PlanError> {
    host.images.get(name).ok_or(PlanError::NoImage(name))
}

/// The manifest's user, else the image's own when it is not root, else `node`.
fn user(bottle: &Bottle, host: &Host) -> String {
    let own = host.image.as_ref().and_then(|image| image.user.clone()).filter(|user| !is_root(user));
    bottle.user.clone().or(own).unwrap_or_else(|| "node".to_owned())
}

fn is_root(user: &str) -> bool {
    let name = user.split(':').next().unwrap_or_default();
    name.is_empty() || name == "root" || name.parse() == Ok(0)
}

fn runtime(asked: Runtime, host: &Host) -> Result<&'static str, PlanError> {
    let gvisor =
        host.engine.as_ref().is_some_and(|engine| engine.runtimes.iter().any(|name| name == "runsc"));
    match asked {
        Runtime::Runc => Ok("runc"),
        Runtime::Runsc if host.engine.is_some() && !gvisor => Err(PlanError::NoRuntime("runsc")),
        Runtime::Runsc => Ok("runsc"),
        Runtime::Auto => Ok(if gvisor { "runsc" } else { "runc" }),
    }
}

fn sidecars(
    bottle: &Bottle,
    settings: &Settings,
    host: &Host,
    names: &Names,
) -> Result<Vec<SidecarPlan>, PlanError> {
    let mut sidecars = Vec::new();
    let mut add = |role: &'static str, table, port| -> Result<(), PlanError> {
        let built = image(host, role)?.clone();
        sidecars.push(SidecarPlan {
            role,
            name: names.sidecar(role),
            image: built.tag.clone(),
            digest: built.config_digest.clone(),
            source: "embedded",
            aliases: vec![role.to_owned()],
            table,
            hardening: Hardening::default(),
            port,
            built,
        });
        Ok(())
    };
    if !bottle.ssh.is_empty() {
        let rows = (FIRST_PORT..).zip(&bottle.ssh).map(|(listen, host)| Row {
            bind: None,
            listen,
            upstream: Upstream { host: host.host.clone(), port: host.port },
            alias: Some(host.alias.clone()),
            protocol: Protocol::Ssh,
        });
        add("ssh-gate", Table::Ports(PortTable::from_rows(rows)?), None)?;
    }
    if !bottle.cred_proxy.routes.is_empty() {
        let routes = bottle.cred_proxy.routes.iter().enumerate().map(|(n, route)| Route {
            path: route.path.clone(),
            upstream: route.upstream.clone(),
            auth: route.auth.clone(),
            token_env: token_name(n),
            allow: route.allow.clone(),
            allow_private_upstream: route.allow_private_upstream,
            redact: route.redact,
            cookies: route.cookies,
            ca: Vec::new(),
            ca_file: None,
        });
        let table = Table::Routes(RouteTable::from_routes(routes)?);
        add("cred-proxy", table, Some(settings.cred_proxy_port))?;
    }
    Ok(sidecars)
}

fn token_name(n: usize) -> TokenName {
    format!("CRED_PROXY_TOKEN_{n}").parse().expect("letters, digits and `_` make a variable name")
}

impl Default for Hardening {
    fn default() -> Self {
        Self {
            user: "65532:65532".to_owned(),
            read_only: true,
            cap_drop: vec!["ALL".to_owned()],
            no_new_privileges: true,
            // On two networks it would route packets between them (DESIGN.md, fact 3).
            sysctls: BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "0".to_owned())]),
            pids: 64,
            memory: 64 << 20,
        }
    }
}

fn networks(bottle: &Bottle, host: &Host, names: &Names, alone: bool) -> Result<Vec<NetworkPlan>, PlanError> {
    let mut networks =
        vec![NetworkPlan { name: names.internal(), internal: true, subnet: None, external: false }];
    match &bottle.egress_network {
        _ if alone => {}
        Some(name) if host.engine.is_some() && host.egress_network.is_none() => {
            return Err(PlanError::NoNetwork(name.clone()));
        }
        Some(name) => networks.push(NetworkPlan {
            name: name.clone(),
            internal: host.egress_network.as_ref().is_some_and(|network| network.internal),
            subnet: None,
            external: true,
        }),
        None => networks.push(NetworkPlan {
            name: names.egress(),
            internal: false,
            subnet: None,
            external: false,
        }),
    }
    Ok(networks)
}

fn agent_container(
    agent: &Agent,
    bottle: &Bottle,
    request: &Request,
    names: &Names,
    user: String,
) -> AgentContainer {
    let held = |value: &EnvValue| matches!(value, EnvValue::FromHost(_));
    let limits = &bottle.limits;
    AgentContainer {
        name: names.agent.clone(),
        user,
        env: bottle.env.keys().cloned().collect(),
        held_by_agent: bottle
            .env
            .iter()
            .filter(|(_, value)| held(value))
            .map(|(name, _)| name.clone())
            .collect(),
        mounts: Vec::new(),
        // The embedded resolver of old engines would send names outside (CVE-2024-29018).
        dns: vec!["127.0.0.1".to_owned()],
        cap_drop: vec!["ALL".to_owned()],
        command: request.command.clone().unwrap_or_else(|| agent.command.clone()),
        prompt: !agent.prompt.is_empty(),
        skills: agent.skills.clone(),
        env_values: bottle.env.clone(),
        prompt_text: agent.prompt.clone(),
        limits: (
            limits.memory.and_then(|size| i64::try_from(size.0).ok()),
            limits.nano_cpus,
            limits.pids.unwrap_or(AGENT_PIDS),
        ),
        home: request.settings.container_home.clone(),
    }
}

fn ssh((n, host): (usize, &SshHost)) -> SshPlan {
    let offset = u16::try_from(n).unwrap_or(u16::MAX);
    SshPlan {
        alias: host.alias.clone(),
        host: host.host.to_string(),
        port: host.port,
        user: host.user.clone(),
        listen: FIRST_PORT.saturating_add(offset),
        host_key: if host.known_host_key.is_some() { HostKeyCheck::Pinned } else { HostKeyCheck::AcceptNew },
        identity_file: host.identity_file.display().to_string(),
        key_name: host.key_name(),
        known_host_key: host.known_host_key.clone(),
    }
}

fn credentials(bottle: &Bottle, host: &Host) -> Vec<Credential> {
    let credential = |(n, route): (usize, &crate::manifest::Route)| Credential {
        route: route.path.to_string(),
        upstream: route.upstream.to_string(),
        token: token_name(n).to_string(),
        source: route.token.to_string(),
        state: if host.present.contains(&route.token.to_string()) { State::Present } else { State::Missing },
        reference: route.token.clone(),
        ca_file: route.ca_file.as_ref().map(|p| p.display().to_string()),
    };
    bottle.cred_proxy.routes.iter().enumerate().map(credential).collect()
}

fn reachability(sidecars: &[SidecarPlan]) -> Vec<Reach> {
    let mut reach = Vec::new();
    let mut forward = |role: &str, port: u16| {
        reach.push(Reach { from: "agent", to: format!("{role}:{port}"), verdict: "forward" });
    };
    for sidecar in sidecars {
        match &sidecar.table {
            Table::Ports(table) => table.forwards().iter().for_each(|row| forward(sidecar.role, row.listen)),
            Table::Routes(_) => sidecar.port.into_iter().for_each(|port| forward(sidecar.role, port)),
        }
    }
    reach.push(Reach { from: "agent", to: "*".to_owned(), verdict: "refuse" });
    reach
}

fn warnings(bottle: &Bottle, host: &Host) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut pinned = BTreeSet::new();
    for ssh in &bottle.ssh {
        match ssh.known_host_key {
            Some(_) => {
                pinned.insert(&ssh.identity_file);
            }
            None => warnings.push(format!(
                "ssh host {} has no KnownHostKey: the first key seen is believed, and {} signs for any host",
                ssh.alias,
                ssh.identity_file.display()
            )),
        }
    }
    for ssh in bottle.ssh.iter().filter(|ssh| ssh.known_host_key.is_none()) {
        if pinned.contains(&ssh.identity_file) {
            warnings.push(format!(
                "{} also serves {}, which is not pinned: it is bound to no host",
                ssh.identity_file.display(),
                ssh.alias
            ));
        }
    }
    for route in bottle.cred_proxy.routes.iter().filter(|route| route.allow.is_none()) {
        warnings.push(format!(
            "route {} has no `allow`: every method and path passes, and an API may mint credentials",
            route.path
        ));
    }
    for (name, value) in &bottle.env {
        if matches!(value, EnvValue::FromHost(_)) {
            warnings.push(format!(
                "{name} is held by the agent, which can read it and send it wherever it can reach"
            ));
        }
    }
    if host.egress_network.as_ref().is_some_and(|network| network.internal) {
        warnings.push("the egress network is internal: only hosts on that network are reachable".to_owned());
    }
    if host.engine.is_some() && host.image.is_none() {
        warnings.push("the engine does not have the agent's image".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests;
