//! One sidecar: created on both networks, started, told everything over stdin, and believed only
//! once it says that it is ready.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt as _;
use sidecar::bundle::Bundle;
use sidecar::exit::escape;
use sidecar::ready::Ready;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use super::{LaunchError, Networks, Walk};
use crate::engine::{
    ContainerId, ContainerSpec, Endpoint, Engine, EngineError, Input, NetworkMode, Output, OutputStream,
};
use crate::plan::{SidecarPlan, Table};

/// A sidecar that serves.
pub(crate) struct Running {
    /// What it is.
    pub role: &'static str,
    /// Its container.
    pub id: ContainerId,
    /// Its stdin: at its end the sidecar drains.
    lifeline: Input,
    reader: JoinHandle<()>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("role", &self.role).field("id", &self.id).finish_non_exhaustive()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Running {
    /// Half-closes the lifeline: the sidecar drains and ends.
    ///
    /// # Errors
    /// When the connection to the engine is broken.
    pub(crate) async fn let_go(&mut self) -> std::io::Result<()> {
        self.lifeline.shutdown().await
    }
}

/// From start to readiness; a healthy one takes milliseconds.
const READY: Duration = Duration::from_secs(15);
/// What is kept of what a sidecar says instead of being ready.
const KEPT: usize = 4096;

impl<E: Engine> Walk<'_, E> {
    pub(super) async fn sidecar(
        &self,
        plan: &SidecarPlan,
        image: &str,
        networks: &Networks,
    ) -> Result<Running, LaunchError> {
        let address = networks.addresses.role(plan.role);
        let id = self.engine.create_container(&self.sidecar_spec(plan, image, networks)).await?;
        if let Some(egress) = &networks.egress {
            let way_out = Endpoint { default_route: true, ..Endpoint::default() };
            self.engine.connect(egress, &id, &way_out).await?;
        }
        self.go_on()?;
        let mut streams = self.start(&id, true).await?.expect("it was attached to");
        let bundle = self.bundle(&plan.table, networks)?;
        // A sidecar that ended already says why on its stderr, which is the better message.
        let written = async {
            streams.input.write_all(&bundle).await?;
            streams.input.flush().await
        };
        let written = written.await;
        let ready = tokio::select! {
            ready = tokio::time::timeout(READY, ready(&mut streams.output)) => ready,
            () = self.interrupt.cancelled() => return Err(LaunchError::Interrupted),
        };
        let not_ready = |said: String| LaunchError::NotReady { role: plan.role, said };
        let ready = match ready {
            Ok(Ok(ready)) => ready,
            Ok(Err(said)) if said.is_empty() => {
                return Err(not_ready(
                    written.map_or_else(|error| error.to_string(), |()| "it ended without a word".into()),
                ));
            }
            Ok(Err(said)) => return Err(not_ready(said)),
            Err(_) => return Err(not_ready(format!("it said nothing within {} s", READY.as_secs()))),
        };
        // It serves on the internal side and nowhere else, or not at all.
        if let Some(other) = ready.listeners.iter().find(|listener| listener.ip() != address) {
            return Err(not_ready(format!("it listens on {other} instead of {address}")));
        }
        Ok(Running {
            role: plan.role,
            id,
            lifeline: streams.input,
            reader: tokio::spawn(discard(streams.output)),
        })
    }

    fn sidecar_spec(&self, plan: &SidecarPlan, image: &str, networks: &Networks) -> ContainerSpec {
        let address = networks.addresses.role(plan.role);
        let mut command = vec!["--stdin-bundle".to_owned()];
        match plan.port {
            Some(port) => {
                command.extend(["--listen".to_owned(), SocketAddr::new(address.into(), port).to_string()]);
            }
            None => command.extend(["--bind".to_owned(), address.to_string()]),
        }
        let endpoint =
            Endpoint { address: Some(address), aliases: plan.aliases.clone(), default_route: false };
        ContainerSpec {
            name: plan.name.clone(),
            image: image.to_owned(),
            entrypoint: Vec::new(),
            command,
            env: BTreeMap::new(),
            user: Some(plan.hardening.user.clone()),
            labels: self.labels.role(plan.role),
            network: NetworkMode::Network(networks.internal.clone(), endpoint),
            dns: Vec::new(),
            dns_options: Vec::new(),
            extra_hosts: BTreeMap::new(),
            read_only: plan.hardening.read_only,
            cap_add: Vec::new(),
            sysctls: plan.hardening.sysctls.clone(),
            pids: Some(plan.hardening.pids),
            memory: Some(plan.hardening.memory),
            nano_cpus: None,
            runtime: None,
            stdin: true,
            bounded_logs: true,
        }
    }

    fn bundle(&self, table: &Table, networks: &Networks) -> Result<Zeroizing<Vec<u8>>, LaunchError> {
        let line = match table {
            Table::Ports(table) => self.attached(Bundle::new(table), networks).to_line(),
            Table::Routes(table) => {
                let mut bundle = self.attached(Bundle::new(table), networks);
                bundle.tokens = self.secrets.tokens.clone();
                bundle.ca = self.secrets.ca.clone();
                bundle.to_line()
            }
        };
        line.map_err(|source| {
            EngineError::Broken { act: "hand over the bundle".to_owned(), source: Box::new(source) }.into()
        })
    }

    /// A bundle for the bottle's own containers, of a launcher that stays.
    fn attached<T>(&self, mut bundle: Bundle<T>, networks: &Networks) -> Bundle<T> {
        bundle.from = Some(vec![networks.addresses.subnet.into()]);
        bundle.lifeline = true;
        bundle
    }
}

/// The readiness line, or what was said instead of it.
async fn ready(output: &mut OutputStream) -> Result<Ready, String> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(piece) = output.next().await {
        match piece {
            Ok(Output::Stdout(bytes)) => stdout.extend_from_slice(&bytes),
            Ok(Output::Stderr(bytes)) => stderr.extend_from_slice(&bytes),
            Err(error) => return Err(sidecar::exit::chain(&error)),
        }
        if let Some(end) = stdout.iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&stdout[..end]);
            return Ready::parse(&line).map_err(|_| format!("it said {:?}", escape(&line)));
        }
        if stdout.len() > KEPT {
            return Err("it wrote something else than a readiness line".to_owned());
        }
        if stderr.len() > KEPT {
            stderr.drain(..stderr.len() - KEPT);
        }
    }
    // Its own words, but for the log lines around them: the plain ones are the error and its hint.
    let said = String::from_utf8_lossy(&stderr);
    let plain: Vec<_> = said.lines().filter(|line| !line.starts_with('{')).collect();
    Err(plain.join("; "))
}

/// Reads on, so that the engine never waits for us; the container's log keeps what is said.
async fn discard(mut output: OutputStream) {
    while output.next().await.is_some_and(|piece| piece.is_ok()) {}
}
