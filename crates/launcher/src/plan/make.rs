//! From a manifest, a request and the facts of a machine to a plan.

use std::collections::BTreeMap;

use serde_json::json;

use super::digest;
use super::document::{
    AgentContainer, Credential, EgressPlan, EngineFacts, GuestPlan, Hardening, HostKeyCheck, ImagePlan,
    LimitsPlan, Mode, NetworkPlan, Plan, ProxyPlan, Reach, SidecarPlan, SshPlan,
};
use super::error::PlanError;
use super::hash::hash;
use super::names::Names;
use super::needs::Request;
use super::needs::{agent, image_name};
use super::warnings::warnings;
use crate::host::Host;
use crate::host::settings::{Runtime, Settings};
use crate::images::Binary;
use crate::manifest::{Agent, Bottle, Manifest, SshHost};
use crate::secrets::{EnvValue, Found};
use crate::sidecars::{FIRST_PORT, Options, Role, token_name};

/// Enough for an agent with its compilers; the manifest can raise it.
const AGENT_PIDS: i64 = 1024;

/// Decides everything that a start will do.
///
/// # Errors
/// [`PlanError`].
pub(crate) fn plan(
    manifest: &Manifest,
    request: &Request,
    host: &Host,
    found: &Found,
) -> Result<Plan, PlanError> {
    let (agent, bottle_name, bottle) = agent(manifest, &request.agent)?;
    let settings = &request.settings;
    let names = Names::pick(&request.agent, settings.container.as_deref(), &host.taken)?;
    let user = user(bottle, host);
    if is_root(&user) && !bottle.ssh.is_empty() {
        return Err(PlanError::Root(user));
    }
    let sidecars = sidecars(bottle_name, bottle, settings, host, found, &names)?;
    let guest = image(host, Binary::Guest)?;
    let mut plan = Plan {
        version: 1,
        manifest: request.manifest.clone(),
        instance: names.instance.clone(),
        agent: request.agent.clone(),
        mode: Mode::Attached,
        runtime: runtime(settings.runtime, host)?,
        engine: host.engine.as_ref().map(|engine| EngineFacts {
            product: engine.product.clone(),
            version: engine.version.clone(),
            api: engine.api.clone(),
            arch: engine.arch.clone(),
        }),
        image: ImagePlan {
            name: image_name(settings, bottle),
            id: host.image.as_ref().map(|image| image.id.clone()),
            derived: (),
        },
        build: (),
        cwd: (),
        git: (),
        networks: networks(bottle_name, bottle, host, &names, sidecars.is_empty())?,
        reachability: reachability(&sidecars),
        sidecars,
        guest: GuestPlan {
            image: guest.tag.clone(),
            digest: guest.config_digest.clone(),
            built: guest.clone(),
            binary: host.guest.clone(),
        },
        agent_container: agent_container(agent, bottle, request, &names, user),
        ssh: bottle.ssh.iter().enumerate().map(|(n, host)| ssh(n, host, found)).collect(),
        credentials: credentials(bottle, found),
        egress: EgressPlan { engine: "none", allow: bottle.egress.allow.clone() },
        hosts: bottle.hosts.clone(),
        upstream_proxy: host.proxy.as_ref().map(|found| ProxyPlan {
            url: found.proxy.url.to_string(),
            no_proxy: (!found.proxy.no_proxy.is_empty()).then(|| found.proxy.no_proxy.to_string()),
            source: found.source.to_owned(),
        }),
        ports: [],
        keep: [],
        signing: (),
        warnings: warnings(bottle, settings, host),
        hash: String::new(),
        names,
    };
    plan.warnings.extend(plan.doubts());
    plan.hash = hash(&plan);
    Ok(plan)
}

fn image(host: &Host, binary: Binary) -> Result<&crate::images::BuiltImage, PlanError> {
    host.images.get(&binary).ok_or(PlanError::NoImage(binary.name()))
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

/// runsc only by name: under it the isolation is not proved yet.
fn runtime(asked: Runtime, host: &Host) -> Result<&'static str, PlanError> {
    match asked {
        Runtime::Runc | Runtime::Auto => Ok("runc"),
        Runtime::Runsc if host.engine.is_some() && !host.has_runtime("runsc") => {
            Err(PlanError::NoRuntime("runsc"))
        }
        Runtime::Runsc => Ok("runsc"),
    }
}

fn sidecars(
    bottle_name: &str,
    bottle: &Bottle,
    settings: &Settings,
    host: &Host,
    found: &Found,
    names: &Names,
) -> Result<Vec<SidecarPlan>, PlanError> {
    let options = Options { cred_proxy_port: settings.cred_proxy_port, cas: &found.cas };
    let mut sidecars = Vec::new();
    for role in Role::ALL {
        let table = role
            .table(bottle, &options)
            .map_err(|source| PlanError::Table { bottle: bottle_name.to_owned(), source })?;
        let Some(table) = table else { continue };
        let built = image(host, role.binary())?.clone();
        sidecars.push(SidecarPlan {
            role,
            name: names.sidecar(role),
            image: built.tag.clone(),
            digest: built.config_digest.clone(),
            source: "embedded",
            aliases: vec![role.name().to_owned()],
            table,
            hardening: Hardening::default(),
            built,
        });
    }
    Ok(sidecars)
}

impl Default for Hardening {
    fn default() -> Self {
        Self {
            user: "65532:65532".to_owned(),
            read_only: true,
            cap_drop: vec!["ALL".to_owned()],
            no_new_privileges: true,
            // A container on two networks would route packets between them.
            sysctls: BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "0".to_owned())]),
            pids: 64,
            memory: 64 << 20,
        }
    }
}

fn networks(
    bottle_name: &str,
    bottle: &Bottle,
    host: &Host,
    names: &Names,
    alone: bool,
) -> Result<Vec<NetworkPlan>, PlanError> {
    let own = |name, internal| NetworkPlan {
        name,
        internal,
        subnet: None,
        external: false,
        id: None,
        mtu: host.ground.mtu,
    };
    let mut networks = vec![own(names.internal(), true)];
    match &bottle.egress_network {
        _ if alone => {}
        Some(name) if host.engine.is_some() && host.egress_network.is_none() => {
            return Err(PlanError::NoNetwork { bottle: bottle_name.to_owned(), name: name.clone() });
        }
        Some(name) => networks.push(NetworkPlan {
            name: name.clone(),
            internal: host.egress_network.as_ref().is_some_and(|network| network.internal),
            subnet: None,
            external: true,
            id: host.egress_network.as_ref().map(|network| network.id.0.clone()),
            mtu: None,
        }),
        None => networks.push(own(names.egress(), false)),
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
    let held =
        |(name, value): (&String, &EnvValue)| matches!(value, EnvValue::FromHost(_)).then(|| name.clone());
    let written = bottle.env.iter().map(|(name, value)| match value {
        EnvValue::Literal(text) => (name.clone(), json!(text)),
        EnvValue::FromHost(from) => (name.clone(), json!({ "from_host": from })),
    });
    let limits = &bottle.limits;
    #[expect(clippy::cast_precision_loss, reason = "at most 4.1 * 10^12, far below 2^52")]
    let cpus = limits.nano_cpus.map(|nano| nano as f64 / 1e9);
    AgentContainer {
        name: names.agent.clone(),
        user,
        home: request.settings.container_home.clone(),
        env: bottle.env.keys().cloned().collect(),
        env_digest: digest(&serde_json::Value::Object(written.collect()).to_string()),
        held_by_agent: bottle.env.iter().filter_map(held).collect(),
        provided: BTreeMap::new(),
        mounts: Vec::new(),
        // The embedded resolver of old engines would send names outside (CVE-2024-29018).
        dns: vec!["127.0.0.1".to_owned()],
        cap_drop: vec!["ALL".to_owned()],
        limits: LimitsPlan {
            memory: limits.memory.and_then(|size| i64::try_from(size.0).ok()),
            cpus,
            pids: limits.pids.unwrap_or(AGENT_PIDS),
            nano_cpus: limits.nano_cpus,
        },
        command: request.command.clone().unwrap_or_else(|| agent.command.clone()),
        prompt: !agent.prompt.is_empty(),
        prompt_digest: digest(&agent.prompt),
        skills: agent.skills.clone(),
        prompt_text: agent.prompt.clone(),
    }
}

fn ssh(n: usize, host: &SshHost, found: &Found) -> SshPlan {
    let offset = u16::try_from(n).unwrap_or(u16::MAX);
    SshPlan {
        alias: host.alias.clone(),
        host: host.host.to_string(),
        port: host.port,
        user: host.user.clone(),
        listen: FIRST_PORT.saturating_add(offset),
        host_key: if host.known_host_key.is_some() { HostKeyCheck::Pinned } else { HostKeyCheck::AcceptNew },
        host_key_digest: host.known_host_key.as_ref().map(|key| digest(&key.0)),
        identity: host.identity_file.clone(),
        state: found.key(&host.identity_file),
        key_name: host.key_name(),
        known_host_key: host.known_host_key.clone(),
    }
}

fn credentials(bottle: &Bottle, found: &Found) -> Vec<Credential> {
    let credential = |(n, route): (usize, &crate::manifest::Route)| Credential {
        route: route.path.to_string(),
        upstream: route.upstream.to_string(),
        token: token_name(n).to_string(),
        source: route.token.to_string(),
        state: found.token(n),
    };
    bottle.cred_proxy.routes.iter().enumerate().map(credential).collect()
}

fn reachability(sidecars: &[SidecarPlan]) -> Vec<Reach> {
    let forwarded = sidecars.iter().flat_map(|sidecar| {
        let reach =
            |port| Reach { from: "agent", to: format!("{}:{port}", sidecar.role.name()), verdict: "forward" };
        sidecar.role.ports(&sidecar.table).into_iter().map(reach)
    });
    let rest = Reach { from: "agent", to: "*".to_owned(), verdict: "refuse" };
    forwarded.chain([rest]).collect()
}

#[cfg(test)]
mod tests;
