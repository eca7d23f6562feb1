//! What has to be found out before planning: of this machine, of its secrets, and of its proxy.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::PlanError;
use crate::host::Needs;
use crate::host::settings::Settings;
use crate::images::Binary;
use crate::manifest::{Agent, Bottle, Manifest, SshHost, UpstreamProxySetting};
use crate::secrets::{CaFile, KeyFile, References, TokenUse};
use crate::sidecars::{Options, Role, token_name};

/// What was asked for on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Where the manifest is.
    pub manifest: PathBuf,
    /// The agent's name in the manifest.
    pub agent: String,
    /// What to run in place of the manifest's command.
    pub command: Option<Vec<String>>,
    /// The environment's settings.
    pub settings: Settings,
}

/// The image's name by default.
const DEFAULT_IMAGE: &str = "claude-bottle:latest";
/// What has to be found out of the machine before planning.
///
/// # Errors
/// [`PlanError::NoAgent`].
pub(crate) fn needs(manifest: &Manifest, request: &Request) -> Result<Needs, PlanError> {
    let (_, _, bottle) = agent(manifest, &request.agent)?;
    let options = Options { cred_proxy_port: request.settings.cred_proxy_port, cas: &BTreeMap::new() };
    // What is wrong with a table is the plan's to say.
    let needed = Role::ALL.into_iter().filter(|role| !matches!(role.table(bottle, &options), Ok(None)));
    let binaries = std::iter::once(Binary::Guest).chain(needed.map(Role::binary)).collect();
    Ok(Needs {
        image: image_name(&request.settings, bottle),
        egress_network: bottle.egress_network.clone(),
        binaries,
    })
}

/// Everything secret that the agent's bottle refers to.
///
/// # Errors
/// [`PlanError::NoAgent`].
pub(crate) fn references(manifest: &Manifest, name: &str) -> Result<References, PlanError> {
    let (_, _, bottle) = agent(manifest, name)?;
    let routes = || bottle.cred_proxy.routes.iter().enumerate();
    let user = |route: &crate::manifest::Route| format!("route {}", route.path);
    let key =
        |ssh: &SshHost| KeyFile { user: format!("ssh host {}", ssh.alias), path: ssh.identity_file.clone() };
    Ok(References {
        keys: bottle.ssh.iter().map(key).collect(),
        tokens: routes()
            .map(|(n, route)| TokenUse {
                user: user(route),
                name: token_name(n).to_string(),
                reference: route.token.clone(),
                redact: route.redact,
            })
            .collect(),
        cas: routes()
            .filter_map(|(_, route)| Some(CaFile { user: user(route), path: route.ca_file.clone()? }))
            .collect(),
        env: bottle.env.clone(),
    })
}

/// Which CONNECT proxy leads to the upstreams; none where no route would use it.
///
/// # Errors
/// [`PlanError::NoAgent`].
pub(crate) fn upstream_proxy<'m>(
    manifest: &'m Manifest,
    name: &str,
) -> Result<&'m UpstreamProxySetting, PlanError> {
    let (_, _, bottle) = agent(manifest, name)?;
    let direct = bottle.cred_proxy.routes.iter().all(|route| route.allow_private_upstream);
    Ok(if direct { &UpstreamProxySetting::Off } else { &bottle.upstream_proxy })
}

/// The agent of that name, and its bottle.
pub(super) fn agent<'m>(
    manifest: &'m Manifest,
    name: &str,
) -> Result<(&'m Agent, &'m str, &'m Bottle), PlanError> {
    let found = manifest.agents.get(name).and_then(|agent| {
        let (name, bottle) = manifest.bottles.get_key_value(&agent.bottle)?;
        Some((agent, name.as_str(), bottle))
    });
    found.ok_or_else(|| PlanError::NoAgent {
        name: name.to_owned(),
        known: manifest.agents.keys().cloned().collect(),
    })
}

/// Of the environment, else of the manifest, else the default.
pub(super) fn image_name(settings: &Settings, bottle: &Bottle) -> String {
    settings.image.clone().or_else(|| bottle.image.clone()).unwrap_or_else(|| DEFAULT_IMAGE.to_owned())
}
