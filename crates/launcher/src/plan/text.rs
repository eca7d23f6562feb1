//! The plan as a person reads it, before saying yes.

use std::fmt::{self, Display, Formatter};

use super::document::{HostKeyCheck, Plan, State, Table};

impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let engine = self
            .engine
            .as_ref()
            .map_or("none".to_owned(), |e| format!("Docker {} (API {}, {})", e.version, e.api, e.arch));
        writeln!(
            f,
            "bottle     {} for agent {} ({}, {})",
            self.instance,
            self.agent,
            self.mode.as_str(),
            self.runtime
        )?;
        writeln!(f, "engine     {engine}")?;
        let id = self.image.id.as_deref().map_or("not in the engine".to_owned(), short);
        writeln!(f, "image      {} ({id})", self.image.name)?;
        for network in &self.networks {
            let kind = match (network.external, network.internal) {
                (true, _) => "yours, joined by the sidecars only",
                (false, true) => "internal: leads nowhere",
                (false, false) => "the sidecars' way out",
            };
            writeln!(f, "network    {} ({kind})", network.name)?;
        }
        for sidecar in &self.sidecars {
            writeln!(f, "sidecar    {} ({}, {})", sidecar.name, sidecar.image, short(&sidecar.digest))?;
            match &sidecar.table {
                Table::Ports(table) => {
                    for row in table.forwards() {
                        writeln!(
                            f,
                            "             {}:{} -> {} ({})",
                            sidecar.role, row.listen, row.upstream, row.alias
                        )?;
                    }
                }
                Table::Routes(table) => {
                    for route in table.routes() {
                        let port = sidecar.port.unwrap_or_default();
                        writeln!(
                            f,
                            "             http://{}:{port}{} -> {}",
                            sidecar.role, route.path, route.upstream
                        )?;
                        for rule in route.allow.iter().flatten() {
                            let methods: Vec<_> = rule.methods.iter().map(|method| method.as_str()).collect();
                            writeln!(f, "               only {} {}", methods.join(" "), rule.path)?;
                        }
                        if route.allow.as_ref().is_some_and(Vec::is_empty) {
                            writeln!(f, "               no request at all")?;
                        }
                    }
                }
            }
        }
        self.agent_lines(f)?;
        for reach in &self.reachability {
            writeln!(f, "reach      {} -> {}: {}", reach.from, reach.to, reach.verdict)?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning    {warning}")?;
        }
        writeln!(f, "plan       {}", short(&self.hash))
    }
}

impl Plan {
    fn agent_lines(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let agent = &self.agent_container;
        writeln!(f, "agent      {} as user {}", agent.name, agent.user)?;
        if !agent.command.is_empty() {
            let words = agent.command.iter().map(String::as_str);
            let command = shlex::try_join(words).unwrap_or_else(|_| format!("{:?}", agent.command));
            writeln!(f, "             runs {}", sidecar::exit::escape(&command))?;
        }
        if !agent.env.is_empty() {
            writeln!(f, "             environment {}", agent.env.join(", "))?;
        }
        for ssh in &self.ssh {
            let key = match ssh.host_key {
                HostKeyCheck::Pinned => "host key pinned, its key signs for this host only",
                HostKeyCheck::AcceptNew => "host key NOT pinned",
            };
            writeln!(
                f,
                "ssh        {} = {}@{}:{} by {} ({key})",
                ssh.alias, ssh.user, ssh.host, ssh.port, ssh.identity_file
            )?;
        }
        for credential in &self.credentials {
            let state = match credential.state {
                State::Present => "present",
                State::Missing => "MISSING",
            };
            writeln!(f, "credential {} from {} ({state})", credential.route, credential.source)?;
        }
        Ok(())
    }
}

/// The first 12 digits of a digest.
fn short(digest: &str) -> String {
    let (kind, digits) = digest.split_once(':').unwrap_or(("", digest));
    format!("{kind}:{}", digits.get(..12).unwrap_or(digits))
}
