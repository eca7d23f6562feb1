//! The plan as a person reads it before agreeing.

use super::document::{HostKeyCheck, NetworkPlan, Plan, SidecarPlan};
use crate::secrets::State;
use crate::sidecars::Table;
use crate::text::Lines;

impl Plan {
    /// Its lines; everything that a careful reader must know is in them.
    pub(crate) fn lines(&self) -> Lines {
        let mut lines = Lines::default();
        lines.row("manifest", self.manifest.display());
        let mode = self.mode.as_str();
        lines.row(
            "bottle",
            format_args!("{} for agent {} ({mode}, {})", self.instance, self.agent, self.runtime),
        );
        match &self.engine {
            None => lines.row("engine", "none"),
            Some(engine) => {
                let (product, version, api, arch) =
                    (&engine.product, &engine.version, &engine.api, &engine.arch);
                lines.row("engine", format_args!("{product} {version} (API {api}, {arch})"))
            }
        };
        let id = self.image.id.as_deref().map_or("not in the engine".to_owned(), short);
        lines.row("image", format_args!("{} ({id})", self.image.name));
        self.networks.iter().for_each(|network| network_line(&mut lines, network));
        self.sidecars.iter().for_each(|sidecar| sidecar_lines(&mut lines, sidecar));
        for (name, address) in &self.hosts {
            lines.row("host", format_args!("{name} is {address} in the sidecars"));
        }
        if let Some(proxy) = &self.upstream_proxy {
            let except =
                proxy.no_proxy.as_ref().map_or_else(String::new, |hosts| format!(" except for {hosts}"));
            lines.row("proxy", format_args!("upstreams through {}{except} ({})", proxy.url, proxy.source));
        }
        self.agent_lines(&mut lines);
        self.secret_lines(&mut lines);
        for reach in &self.reachability {
            lines.row("reach", format_args!("{} -> {}: {}", reach.from, reach.to, reach.verdict));
        }
        for warning in &self.warnings {
            lines.row("warning", warning);
        }
        lines.row("plan", short(&self.hash));
        lines
    }

    fn agent_lines(&self, lines: &mut Lines) {
        let agent = &self.agent_container;
        lines.row("agent", format_args!("{} as user {}", agent.name, agent.user));
        if !agent.command.is_empty() {
            let words = agent.command.iter().map(String::as_str);
            let command = shlex::try_join(words).unwrap_or_else(|_| format!("{:?}", agent.command));
            lines.detail(format_args!("runs {command}"));
        }
        if let Some(home) = &agent.home {
            lines.detail(format_args!("home {home}"));
        }
        if agent.prompt {
            lines.detail(format_args!(
                "prompt {} bytes, {}",
                agent.prompt_text.len(),
                short(&agent.prompt_digest)
            ));
        }
        if !agent.env.is_empty() {
            lines.detail(format_args!("environment {}", agent.env.join(", ")));
        }
        let limits = &agent.limits;
        let memory = limits.memory.map_or("unlimited".to_owned(), |bytes| size(bytes.unsigned_abs()));
        let cpus = limits.cpus.map_or("unlimited".to_owned(), |cpus| cpus.to_string());
        lines.detail(format_args!("limits memory {memory}, cpus {cpus}, pids {}", limits.pids));
    }

    fn secret_lines(&self, lines: &mut Lines) {
        for ssh in &self.ssh {
            let key = match ssh.host_key {
                HostKeyCheck::Pinned => "host key pinned, the key signs for this host only",
                HostKeyCheck::AcceptNew => "host key NOT pinned",
            };
            let (alias, user, host, port) = (&ssh.alias, &ssh.user, &ssh.host, ssh.port);
            let identity = ssh.identity.display();
            let state = state(ssh.state);
            lines.row("ssh", format_args!("{alias} = {user}@{host}:{port} with {identity} ({state}; {key})"));
        }
        for credential in &self.credentials {
            let state = state(credential.state);
            lines
                .row("credential", format_args!("{} from {} ({state})", credential.route, credential.source));
        }
    }
}

fn network_line(lines: &mut Lines, network: &NetworkPlan) {
    let kind = match (network.external, network.internal) {
        (true, _) => "yours, joined by the sidecars only",
        (false, true) => "internal, no way out",
        (false, false) => "egress of the sidecars",
    };
    let mtu = network.mtu.map_or_else(String::new, |mtu| format!(", MTU {mtu}"));
    lines.row("network", format_args!("{} ({kind}{mtu})", network.name));
}

fn sidecar_lines(lines: &mut Lines, sidecar: &SidecarPlan) {
    let role = sidecar.role.name();
    lines.row("sidecar", format_args!("{} ({}, {})", sidecar.name, sidecar.image, short(&sidecar.digest)));
    match &sidecar.table {
        Table::Ports(table) => {
            for row in table.forwards() {
                lines.detail(format_args!("{role}:{} -> {} ({})", row.listen, row.upstream, row.alias));
            }
        }
        Table::Routes(table, port) => {
            for route in table.routes() {
                lines.detail(format_args!("http://{role}:{port}{} -> {}", route.path, route.upstream));
                for rule in route.allow.iter().flatten() {
                    let methods: Vec<_> = rule.methods.iter().map(|method| method.as_str()).collect();
                    lines.detail(format_args!("  only {} {}", methods.join(" "), rule.path));
                }
                if route.allow.as_ref().is_some_and(Vec::is_empty) {
                    lines.detail("  no request at all");
                }
                let switches = [
                    (!route.redact, "tokens are not redacted"),
                    (route.cookies, "cookies pass"),
                    (route.allow_private_upstream, "the upstream may have a private address"),
                    (!route.ca.is_empty(), "trusts a CA of the manifest"),
                ];
                for (_, text) in switches.into_iter().filter(|(on, _)| *on) {
                    lines.detail(format_args!("  {text}"));
                }
            }
        }
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Present => "present",
        State::Missing => "MISSING",
        State::Unreadable => "UNREADABLE",
    }
}

/// In the largest binary unit that divides it.
fn size(bytes: u64) -> String {
    let unit = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .find(|(_, shift)| bytes.trailing_zeros() >= *shift);
    match unit {
        Some((unit, shift)) if bytes > 0 => format!("{} {unit}", bytes >> shift),
        _ => format!("{bytes} bytes"),
    }
}

/// The first 12 digits of a digest.
fn short(digest: &str) -> String {
    let (kind, digits) = digest.split_once(':').unwrap_or(("", digest));
    format!("{kind}:{}", digits.get(..12).unwrap_or(digits))
}
