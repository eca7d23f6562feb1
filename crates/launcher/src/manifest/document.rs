//! From JSON to a manifest: which keys there are, and what each must be.

use std::collections::BTreeMap;

use super::at::At;
use super::fault::Fault;
use super::json::Value;
use super::{Agent, Bottle, CredProxy, Egress, EnvValue, Limits, Manifest, UpstreamProxySetting};
use super::{names, numbers, proxy, routes, ssh};

/// The whole document.
pub(super) fn manifest(at: &At<'_>) -> Result<Manifest, Fault> {
    let fields = at.fields(&["$schema", "bottles", "agents"], &["egress_sets"])?;
    let schema = fields.read("$schema", At::text)?.map(str::to_owned);
    let bottles = all(fields.need("bottles")?, "a bottle's name", bottle)?;
    let mut agents = BTreeMap::new();
    for (name, at) in fields.need("agents")?.entries(names::own("an agent's name"))? {
        agents.insert(name, agent(&at, &bottles)?);
    }
    Ok(Manifest { schema, bottles, agents })
}

fn all<T>(
    at: &At<'_>,
    what: &'static str,
    read: fn(&At<'_>) -> Result<T, Fault>,
) -> Result<BTreeMap<String, T>, Fault> {
    let entries = at.entries(names::own(what))?;
    entries.into_iter().map(|(name, at)| Ok((name, read(&at)?))).collect()
}

const BOTTLE: &[&str] = &[
    "image",
    "user",
    "env",
    "ssh",
    "cred_proxy",
    "egress",
    "egress_network",
    "hosts",
    "upstream_proxy",
    "limits",
];

fn bottle(at: &At<'_>) -> Result<Bottle, Fault> {
    let fields = at.fields(BOTTLE, &["build", "git", "signing", "ports", "keep"])?;
    Ok(Bottle {
        image: fields.read("image", names::image)?,
        user: fields.read("user", names::container_user)?,
        env: fields.read("env", env)?.unwrap_or_default(),
        ssh: fields.read("ssh", ssh::ssh)?.unwrap_or_default(),
        cred_proxy: fields.read("cred_proxy", routes::cred_proxy)?.unwrap_or_else(CredProxy::default),
        egress: fields.read("egress", egress)?.unwrap_or_else(Egress::default),
        egress_network: fields.read("egress_network", names::network)?,
        hosts: fields.read("hosts", hosts)?.unwrap_or_default(),
        upstream_proxy: fields
            .read("upstream_proxy", proxy::upstream_proxy)?
            .unwrap_or(UpstreamProxySetting::Host),
        limits: fields.read("limits", numbers::limits)?.unwrap_or_else(Limits::default),
    })
}

fn hosts(at: &At<'_>) -> Result<BTreeMap<String, std::net::IpAddr>, Fault> {
    let entries = at.entries(names::dns)?;
    entries.into_iter().map(|(name, at)| Ok((name, names::address(&at)?))).collect()
}

fn env(at: &At<'_>) -> Result<BTreeMap<String, EnvValue>, Fault> {
    let name = |name: &str| match names::is_variable(name) {
        true => Ok(name.to_owned()),
        false => Err("a variable name of letters, digits and `_`".to_owned()),
    };
    let entries = at.clone().secret().entries(name)?;
    entries.into_iter().map(|(name, at)| Ok((name, variable(&at)?))).collect()
}

fn variable(at: &At<'_>) -> Result<EnvValue, Fault> {
    let what = "a string or {\"from_host\": NAME}";
    match at.value() {
        Value::Text(text) if text.contains(['\n', '\r', '\0']) => {
            Err(at.fault("a value with a newline cannot be exported to env files; use from_host"))
        }
        Value::Text(text) => Ok(EnvValue::Literal(text.clone())),
        Value::Object(_) => {
            let fields = at.fields(&["from_host"], &["ask"])?;
            names::variable(fields.need("from_host")?).map(EnvValue::FromHost)
        }
        Value::Number(_) | Value::Bool(_) => Err(at.expected(what).hint("put the value in double quotes")),
        _ => Err(at.expected(what)),
    }
}

fn egress(at: &At<'_>) -> Result<Egress, Fault> {
    let fields = at.fields(&["engine", "allow"], &[])?;
    if let Some(at) = fields.find("engine") {
        match at.text()? {
            "none" => {}
            engine @ ("builtin" | "pipelock") => return Err(at.not_yet(&format!("engine `{engine}`"))),
            _ => return Err(at.unfit("an engine: `builtin`, `pipelock` or `none`")),
        }
    }
    Ok(Egress { allow: fields.read("allow", texts)?.unwrap_or_default() })
}

fn texts(at: &At<'_>) -> Result<Vec<String>, Fault> {
    at.items()?.iter().map(|item| item.text().map(str::to_owned)).collect()
}

fn agent(at: &At<'_>, bottles: &BTreeMap<String, Bottle>) -> Result<Agent, Fault> {
    let fields = at.fields(&["bottle", "skills", "prompt", "command"], &[])?;
    let bottle_at = fields.need("bottle")?;
    let bottle = bottle_at.text()?;
    if !bottles.contains_key(bottle) {
        let known: Vec<_> = bottles.keys().map(|name| format!("{name:?}")).collect();
        let fault = bottle_at.unfit("the name of a bottle");
        return Err(match known.len() {
            0 => fault.hint("declare it in `bottles`"),
            1..8 => fault.hint(format!("the bottles are {}", known.join(", "))),
            _ => fault,
        });
    }
    let skills_at = fields.find("skills");
    let skills = fields.read("skills", texts)?.unwrap_or_default();
    if let Some(at) = skills_at.filter(|_| !skills.is_empty()) {
        return Err(at.not_yet("copying skills"));
    }
    Ok(Agent {
        bottle: bottle.to_owned(),
        skills,
        prompt: fields.read("prompt", At::text)?.unwrap_or_default().to_owned(),
        command: fields.read("command", command)?.unwrap_or_default(),
    })
}

fn command(at: &At<'_>) -> Result<Vec<String>, Fault> {
    let items = at.items()?;
    for (n, item) in items.iter().enumerate() {
        let text = item.text()?;
        if text.contains('\0') {
            return Err(item.fault("expected a string without NUL characters"));
        }
        if n == 0 && text.is_empty() {
            return Err(item.expected("the name of a program"));
        }
    }
    texts(at)
}
