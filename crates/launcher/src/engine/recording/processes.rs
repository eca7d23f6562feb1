//! What runs in the containers of the recording: sidecars that become ready, one-shot containers
//! and commands that answer as the test says, agents that idle.

use tokio::sync::mpsc;

use super::objects::{State, missing, refused};
use super::streams::{OutputReceiver, OutputSender};
use super::{Answer, Run};
use crate::engine::{
    Container, ContainerId, ContainerSpec, Endpoint, EngineError, ExecId, ExecSpec, NetworkId, NetworkMode,
    Output,
};

/// A container and its first process.
pub(super) struct ContainerObject {
    pub(super) id: ContainerId,
    pub(super) spec: ContainerSpec,
    pub(super) endpoints: Vec<(NetworkId, Endpoint)>,
    pub(super) started: bool,
    pub(super) exit_code: Option<i64>,
    stdin: Vec<u8>,
    stdin_ended: bool,
    ready: bool,
    output: Option<OutputSender>,
    log: Vec<u8>,
}

/// A command in a container.
pub(super) struct ExecObject {
    id: ExecId,
    pub(super) container: ContainerId,
    run: Run,
    exit_code: Option<i64>,
    output: Option<OutputSender>,
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

    /// As it stands in lists.
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

    fn running(&self) -> bool {
        self.started && self.exit_code.is_none()
    }

    /// A container in another's network namespace does one thing and ends, as the seal does.
    fn one_shot(&self) -> bool {
        matches!(self.spec.network, NetworkMode::Container(_))
    }

    fn role(&self) -> &str {
        self.spec.labels.get("claude-bottle.role").map_or(self.spec.name.as_str(), String::as_str)
    }

    fn write(&mut self, piece: Output) {
        let (Output::Stdout(bytes) | Output::Stderr(bytes)) = &piece;
        self.log.extend_from_slice(bytes);
        send(self.output.as_ref(), piece);
    }

    fn answer(&mut self, answer: Answer) {
        self.write(Output::Stdout(answer.stdout.into()));
        self.write(Output::Stderr(answer.stderr.into()));
        self.end(answer.exit_code);
    }

    fn end(&mut self, exit_code: i64) {
        self.exit_code = Some(exit_code);
        self.output = None;
    }

    fn readiness(&self) -> String {
        let name = match self.role() {
            "egress" => "egress-proxy",
            role => role,
        };
        format!(
            "{{\"event\":\"ready\",\"name\":\"{name}\",\"version\":\"0.1.0\",\"listeners\":[],\"admin\":null}}\n"
        )
    }
}

/// The first processes of containers.
impl State {
    pub(super) fn start(&mut self, id: &ContainerId) -> Result<(), EngineError> {
        let at = self.must_have(id)?;
        if let NetworkMode::Container(other) = &self.containers[at].spec.network {
            let joined = self.must_have(other)?;
            if !self.containers[joined].running() {
                return Err(refused(
                    "start the container",
                    409,
                    "cannot join network of a non running container",
                ));
            }
        }
        let container = &mut self.containers[at];
        container.started = true;
        container.exit_code = None;
        self.proceed(at);
        Ok(())
    }

    pub(super) fn attach(&mut self, id: &ContainerId) -> Result<OutputReceiver, EngineError> {
        let at = self.must_have(id)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.containers[at].output = Some(sender);
        Ok(receiver)
    }

    pub(super) fn write_to_container(&mut self, id: &ContainerId, bytes: &[u8]) {
        let Some(at) = self.position(&id.0) else { return };
        if self.containers[at].spec.stdin {
            self.containers[at].stdin.extend_from_slice(bytes);
            let name = self.containers[at].spec.name.clone();
            self.stdin.entry(name).or_default().extend_from_slice(bytes);
            self.proceed(at);
        }
    }

    pub(super) fn end_stdin(&mut self, id: &ContainerId) {
        let Some(at) = self.position(&id.0) else { return };
        self.containers[at].stdin_ended = true;
        self.proceed(at);
    }

    /// Lets a process do what it can with what it has read.
    fn proceed(&mut self, at: usize) {
        let container = &mut self.containers[at];
        if !container.running() {
            return;
        }
        if container.one_shot() {
            if container.stdin_ended || !container.spec.stdin {
                let ContainerSpec { name, entrypoint, command, env, user, .. } = &container.spec;
                let run = Run {
                    container: name.clone(),
                    spec: ExecSpec {
                        command: entrypoint.iter().chain(command).cloned().collect(),
                        env: env.clone(),
                        user: user.clone(),
                        stdin: container.spec.stdin,
                        output: true,
                        ..ExecSpec::default()
                    },
                    stdin: container.stdin.clone(),
                };
                let answer = (self.answer)(&run);
                container.answer(answer);
                self.runs.push(run);
            }
            return;
        }
        if container.spec.stdin && container.stdin.contains(&b'\n') && !container.ready {
            match self.unready.get(container.role()) {
                None => {
                    container.ready = true;
                    container.write(Output::Stdout(container.readiness().into()));
                }
                Some(None) => {}
                Some(Some(answer)) => return container.answer(answer.clone()),
            }
        }
        let lifeline = String::from_utf8_lossy(&container.stdin).contains("\"lifeline\":true");
        if container.stdin_ended && lifeline {
            container.end(0);
        }
    }

    pub(super) fn end(&mut self, name: &str, exit_code: i64) {
        if let Some(at) = self.position(name) {
            self.containers[at].end(exit_code);
        }
    }

    /// `None` while it runs. Like an engine's, the answer for a container that never started is 0 at once.
    pub(super) fn exit_code(&self, id: &ContainerId) -> Option<i64> {
        match self.position(&id.0).map(|at| &self.containers[at]) {
            None => Some(KILLED),
            Some(container) if !container.started => Some(0),
            Some(container) => container.exit_code,
        }
    }

    pub(super) fn logs(&self, id: &ContainerId, tail: usize) -> Result<String, EngineError> {
        let log = String::from_utf8_lossy(&self.containers[self.must_have(id)?].log);
        let lines: Vec<&str> = log.split_inclusive('\n').collect();
        Ok(lines[lines.len().saturating_sub(tail)..].concat())
    }
}

/// Commands.
impl State {
    pub(super) fn exec(
        &mut self,
        container: &ContainerId,
        spec: &ExecSpec,
    ) -> Result<(ExecId, OutputReceiver), EngineError> {
        let at = self.must_have(container)?;
        if !self.containers[at].running() {
            let message = format!("Container {} is not running", container.0);
            return Err(refused("run a command in the container", 409, &message));
        }
        let id = ExecId(self.new_id());
        let (sender, receiver) = mpsc::unbounded_channel();
        let name = self.containers[at].spec.name.clone();
        self.execs.push(ExecObject {
            id: id.clone(),
            container: container.clone(),
            run: Run { container: name, spec: spec.clone(), stdin: Vec::new() },
            exit_code: None,
            output: Some(sender),
        });
        if !spec.stdin {
            self.run_exec(&id);
        }
        Ok((id, receiver))
    }

    pub(super) fn write_to_exec(&mut self, id: &ExecId, bytes: &[u8]) {
        if let Some(exec) = self.execs.iter_mut().find(|exec| exec.id == *id) {
            exec.run.stdin.extend_from_slice(bytes);
        }
    }

    /// Runs a command that has read its stdin to the end, once.
    pub(super) fn run_exec(&mut self, id: &ExecId) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.id == *id && exec.exit_code.is_none()) else {
            return;
        };
        let answer = (self.answer)(&exec.run);
        let output = exec.output.take();
        if exec.run.spec.output {
            send(output.as_ref(), Output::Stdout(answer.stdout.into()));
            send(output.as_ref(), Output::Stderr(answer.stderr.into()));
        }
        exec.exit_code = Some(answer.exit_code);
        self.runs.push(exec.run.clone());
    }

    pub(super) fn exec_exit_code(&mut self, id: &ExecId) -> Result<i64, EngineError> {
        self.run_exec(id);
        let ended = self.execs.iter().find(|exec| exec.id == *id).and_then(|exec| exec.exit_code);
        ended.ok_or_else(|| {
            missing("tell the command's exit code", &format!("No such exec instance: {}", id.0))
        })
    }
}

/// Sends a piece to whoever is attached; nobody need be.
fn send(output: Option<&OutputSender>, piece: Output) {
    let (Output::Stdout(bytes) | Output::Stderr(bytes)) = &piece;
    if let (Some(output), false) = (output, bytes.is_empty()) {
        drop(output.send(piece));
    }
}

/// How a container ends that is removed while it runs: 128 + SIGKILL.
const KILLED: i64 = 137;
