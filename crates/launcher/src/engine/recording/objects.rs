//! The containers, networks and commands of the recording, each by itself.

use super::run::{Answer, Run};
use super::streams::{OutputSender, send};
use crate::engine::{
    Container, ContainerId, ContainerSpec, Endpoint, ExecId, Network, NetworkId, NetworkMode, Output,
};

/// A container and its first process.
pub(super) struct ContainerObject {
    pub(super) id: ContainerId,
    pub(super) spec: ContainerSpec,
    pub(super) endpoints: Vec<(NetworkId, Endpoint)>,
    pub(super) started: bool,
    pub(super) exit_code: Option<i64>,
    pub(super) stdin: Vec<u8>,
    pub(super) stdin_ended: bool,
    pub(super) ready: bool,
    pub(super) output: Option<OutputSender>,
    pub(super) log: Vec<u8>,
}

/// A command in a container.
pub(super) struct ExecObject {
    pub(super) id: ExecId,
    pub(super) container: ContainerId,
    pub(super) run: Run,
    pub(super) exit_code: Option<i64>,
    pub(super) output: Option<OutputSender>,
}

impl ContainerObject {
    pub(super) fn new(
        id: ContainerId,
        spec: ContainerSpec,
        endpoints: Vec<(NetworkId, Endpoint)>,
    ) -> ContainerObject {
        ContainerObject {
            id,
            spec,
            endpoints,
            started: false,
            exit_code: None,
            stdin: Vec::new(),
            stdin_ended: false,
            ready: false,
            output: None,
            log: Vec::new(),
        }
    }

    /// As lists show it.
    pub(super) fn row(&self) -> Container {
        let status = match (self.started, self.exit_code) {
            (false, _) => "created",
            (true, None) => "running",
            (true, Some(_)) => "exited",
        };
        Container {
            id: self.id.clone(),
            name: self.spec.name.clone(),
            status: status.to_owned(),
            started: None,
            exit_code: None,
            labels: self.spec.labels.clone(),
        }
    }

    pub(super) fn running(&self) -> bool {
        self.started && self.exit_code.is_none()
    }

    /// A container in another's network namespace does one thing and ends, as the seal does.
    pub(super) fn one_shot(&self) -> bool {
        matches!(self.spec.network, NetworkMode::Container(_))
    }

    pub(super) fn role(&self) -> &str {
        self.spec.labels.get("claude-bottle.role").map_or(self.spec.name.as_str(), String::as_str)
    }

    pub(super) fn write(&mut self, piece: Output) {
        let (Output::Stdout(bytes) | Output::Stderr(bytes)) = &piece;
        self.log.extend_from_slice(bytes);
        send(self.output.as_ref(), piece);
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        self.write(Output::Stdout(answer.stdout.into()));
        self.write(Output::Stderr(answer.stderr.into()));
        self.end(answer.exit_code);
    }

    pub(super) fn end(&mut self, exit_code: i64) {
        self.exit_code = Some(exit_code);
        self.output = None;
    }

    pub(super) fn readiness(&self) -> String {
        let name = match self.role() {
            "egress" => "egress-proxy",
            role => role,
        };
        let listeners = serde_json::json!(self.listeners());
        format!(
            "{{\"event\":\"ready\",\"name\":\"{name}\",\"version\":\"0.1.0\",\"listeners\":{listeners},\"admin\":null}}\n"
        )
    }

    /// The addresses it listens on, by its command and by the port table of its bundle.
    fn listeners(&self) -> Vec<String> {
        let after = |flag: &str| {
            let at = self.spec.command.iter().position(|word| word == flag)?;
            self.spec.command.get(at + 1)
        };
        if let Some(listen) = after("--listen") {
            return vec![listen.clone()];
        }
        let Some(bind) = after("--bind") else { return Vec::new() };
        let line = self.stdin.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let bundle: serde_json::Value = serde_json::from_slice(line).unwrap_or_default();
        let rows = bundle["table"]["forwards"].as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| format!("{bind}:{}", row["listen"])).collect()
    }
}

/// A network, and whose it is.
pub(super) struct NetworkObject {
    pub(super) network: Network,
    pub(super) owner: Owner,
}

/// Whose a network is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// It was created by a call.
    Caller,
    /// It was there before, and stays.
    User,
}
