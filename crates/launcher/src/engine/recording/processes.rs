//! What runs in the containers of the recording: sidecars that become ready, one-shot containers
//! and commands that answer as the test says, agents that idle.

use tokio::sync::mpsc;

use super::objects::ExecObject;
use super::refusals::{missing, refused};
use super::run::Run;
use super::state::State;
use super::streams::{OutputReceiver, send};
use crate::engine::{
    ContainerId, ContainerSpec, EngineError, ExecId, ExecSpec, NetworkMode, ObjectKind, Output,
};

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
        let endpoints = self.containers[at].endpoints.iter();
        if let Some((gone, _)) = endpoints.clone().find(|(network, _)| self.network(&network.0).is_none()) {
            let message = format!("network {} not found", gone.0);
            return Err(missing(ObjectKind::Network, "start the container", &message));
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

    pub(super) fn is_deaf(&self, id: &ContainerId) -> bool {
        self.position(&id.0).is_some_and(|at| self.deaf.contains(self.containers[at].role()))
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
            missing(
                ObjectKind::Container,
                "report the command's exit code",
                &format!("No such exec instance: {}", id.0),
            )
        })
    }
}

/// How a container ends that is removed while it runs: 128 + SIGKILL.
const KILLED: i64 = 137;
