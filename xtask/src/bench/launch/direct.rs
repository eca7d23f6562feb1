//! The floor of a launch: its engine calls in its order, without a launcher.
//!
//! It knows beforehand what a launcher must find out: it plans nothing, lists nothing, checks nothing and
//! inspects no image. Containers are as restricted as the launcher's, and sidecars are the real ones.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use claude_bottle::engine::docker::Docker;
use claude_bottle::engine::{
    ContainerId, ContainerSpec, Endpoint, Engine, EngineError, ExecSpec, NetworkId, NetworkMode, NetworkSpec,
    Output, Streams,
};
use claude_bottle::images::Layer;
use claude_bottle::proc::Routes;
use e2e::debian::layer::{ROOT, Tree as Files};
use e2e::scene::LABEL;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use sidecar::ready::Ready;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::figures::Life;

/// The ids of the images.
#[derive(Debug, Clone)]
pub(super) struct Images {
    /// The agent's.
    pub(super) agent: String,
    /// ssh-gate's.
    pub(super) gate: String,
    /// cred-proxy's.
    pub(super) proxy: String,
    /// The guest's, which seals.
    pub(super) guest: String,
}

/// What all bottles have in common.
#[derive(Debug)]
pub(super) struct Direct {
    engine: String,
    run: String,
    images: Images,
    files: Layer,
    routes: Routes,
    /// The number of the next subnet and of the next bottle.
    next: (AtomicU32, AtomicU32),
}

/// Why there is no bottle.
#[derive(Debug, thiserror::Error)]
pub enum DirectError {
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The archive could not be made.
    #[error("could not pack the agent's files")]
    Pack(#[from] e2e::debian::DebianError),
    /// Every subnet that was tried is in use.
    #[error("could not find a free subnet in 10.214.0.0/16")]
    NoSubnet,
    /// A container or a command did not do its work.
    #[error("{what} did not end as expected: {said}")]
    Failed {
        /// Which.
        what: &'static str,
        /// What it printed, or its exit code.
        said: String,
    },
    /// A bottle took too long.
    #[error("timeout: a bottle was not removed within {} s", LIFE.as_secs())]
    Late,
}

/// From the launch of a bottle to its removal: ten at once on two busy cores take half a minute.
const LIFE: Duration = Duration::from_secs(120);
/// From a sidecar's start to its readiness line, and for a command.
const READY: Duration = Duration::from_secs(20);
/// The deadline for the seal, as the launcher's.
const SEAL: Duration = Duration::from_secs(20);
/// Subnets that are tried for a network.
const TRIES: usize = 64;
/// Where the guest is in the agent's container.
const GUEST: &str = "/usr/local/lib/claude-bottle/bottle-guest";
/// The addresses in the internal subnet, counted from the network's own.
const GATE: u32 = 2;
const PROXY: u32 = 3;
const AGENT: u32 = 5;

/// A network, and the first address of its subnet.
struct Site {
    id: NetworkId,
    first: Ipv4Addr,
}

impl Site {
    fn address(&self, slot: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.first) + slot)
    }
}

/// A launched bottle.
struct Bottle {
    agent: ContainerId,
    sidecars: Vec<(ContainerId, Streams)>,
    networks: [NetworkId; 2],
}

/// What is particular to a sidecar.
struct Sidecar<'a> {
    name: &'static str,
    image: &'a str,
    address: Ipv4Addr,
    listen: [String; 2],
    bundle: Value,
}

impl Direct {
    /// For bottles on the engine at that address, whose objects carry the label of this run.
    ///
    /// # Errors
    ///
    /// The guest's binary does not fit into an archive.
    pub(super) fn new(
        engine: String,
        run: String,
        images: Images,
        guest: Vec<u8>,
    ) -> Result<Self, DirectError> {
        let mut files = Files::default();
        files.file(GUEST.trim_start_matches('/'), 0o111, ROOT, guest);
        let files = Layer(files.to_layer()?.into());
        // Runs begin at different places, so that those at the same time seldom meet.
        let first = AtomicU32::new(std::process::id() * 64);
        let next = (first, AtomicU32::default());
        Ok(Self { engine, run, images, files, routes: Routes::read(), next })
    }

    /// The same bottles through another socket of the engine.
    pub(super) fn through(&self, engine: String) -> Self {
        let (run, images, files) = (self.run.clone(), self.images.clone(), self.files.clone());
        let next = |number: &AtomicU32| AtomicU32::new(number.load(Ordering::Relaxed));
        let next = (next(&self.next.0), AtomicU32::new(COUNTED));
        Self { engine, run, images, files, routes: self.routes.clone(), next }
    }

    /// The label of everything of this run.
    pub(super) fn label(&self) -> String {
        format!("{LABEL}={}", self.run)
    }

    /// Launches that many bottles at once, and removes each as soon as its command has ended.
    ///
    /// # Errors
    ///
    /// That of the first bottle that failed. The others have ended by then; what is left carries the label.
    pub(super) async fn lives(self: &Arc<Self>, bottles: usize) -> Result<Vec<Life>, DirectError> {
        let began = Instant::now();
        let mut running = JoinSet::new();
        for _ in 0..bottles {
            let direct = Arc::clone(self);
            running.spawn(async move {
                timeout(LIFE, direct.life(began)).await.unwrap_or(Err(DirectError::Late))
            });
        }
        // All of them, before the first failure is returned.
        running.join_all().await.into_iter().collect()
    }

    async fn life(&self, began: Instant) -> Result<Life, DirectError> {
        let engine = Docker::connect(Some(&self.engine), false)?;
        let name = format!("direct-{}-{}", self.run, self.next.1.fetch_add(1, Ordering::Relaxed));
        let bottle = self.launch(&engine, &name).await?;
        let command = ExecSpec { stdin: true, ..command(&["echo", "ran"]) };
        let (ran, _) = run(&engine, &bottle.agent, &command, b"", began).await?;
        remove(&engine, bottle).await?;
        Ok(Life { ran, ended: began.elapsed() })
    }

    async fn launch(&self, engine: &Docker, name: &str) -> Result<Bottle, DirectError> {
        let internal = self.network(engine, name, true).await?;
        let (created, claim) = oneshot::channel();
        let agent = async {
            let id = engine.create_container(&self.agent(name, &internal)).await?;
            let _ = created.send(());
            engine.read_file(&id, "/etc/passwd").await?;
            engine.put(&id, self.files.0.clone()).await?;
            engine.start(&id).await?;
            let (sealed, prepared) = tokio::join!(self.seal(engine, name, &id), prepare(engine, &id));
            sealed.and(prepared).map(|()| id)
        };
        let sidecars = async {
            let (egress, _) = tokio::join!(self.network(engine, name, false), claim);
            let egress = egress?;
            let [gate, proxy] = self.sidecars(&internal);
            let start = |sidecar| self.sidecar(engine, name, sidecar, &internal, &egress);
            let (gate, proxy) = tokio::join!(start(gate), start(proxy));
            Ok::<_, DirectError>((vec![gate?, proxy?], egress.id))
        };
        // Both to their end: a call that is given up may still be carried out.
        let (agent, sidecars) = tokio::join!(agent, sidecars);
        let (agent, (sidecars, egress)) = (agent?, sidecars?);
        Ok(Bottle { agent, sidecars, networks: [internal.id, egress] })
    }

    async fn network(&self, engine: &Docker, name: &str, internal: bool) -> Result<Site, DirectError> {
        let options: &[(&str, &str)] = if internal {
            &[
                ("com.docker.network.bridge.inhibit_ipv4", "true"),
                ("com.docker.network.bridge.gateway_mode_ipv4", "isolated"),
                ("com.docker.network.bridge.gateway_mode_ipv6", "isolated"),
            ]
        } else {
            &[("com.docker.network.bridge.enable_icc", "false")]
        };
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let options: BTreeMap<_, _> = options.collect();
        for _ in 0..TRIES {
            let first = subnet(self.next.0.fetch_add(1, Ordering::Relaxed));
            let spec = NetworkSpec {
                name: format!("{name}-{}", if internal { "int" } else { "egress" }),
                internal,
                subnet: format!("{first}/28").parse().expect("an address and a length are a subnet"),
                options: options.clone(),
                labels: self.labels(),
            };
            if self.routes.overlapping(spec.subnet).is_some() {
                continue;
            }
            match engine.create_network(&spec).await {
                Ok(network) => return Ok(Site { id: network.id, first }),
                Err(EngineError::SubnetTaken { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(DirectError::NoSubnet)
    }

    fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL.to_owned(), self.run.clone())])
    }

    fn agent(&self, name: &str, internal: &Site) -> ContainerSpec {
        let endpoint = Endpoint { address: Some(internal.address(AGENT)), ..Endpoint::default() };
        let hosts = [("ssh-gate", GATE), ("cred-proxy", PROXY)];
        let hosts = hosts.map(|(name, slot)| (name.to_owned(), internal.address(slot).into()));
        ContainerSpec {
            entrypoint: vec![GUEST.to_owned()],
            command: vec!["idle".to_owned()],
            user: Some("node".to_owned()),
            labels: self.labels(),
            network: NetworkMode::Network(internal.id.clone(), endpoint),
            dns: vec!["127.0.0.1".to_owned()],
            dns_options: vec!["timeout:1".to_owned(), "attempts:1".to_owned()],
            extra_hosts: hosts.into(),
            pids: Some(128),
            memory: Some(256 << 20),
            runtime: Some("runc".to_owned()),
            ..ContainerSpec::new(name, &self.images.agent)
        }
    }

    async fn seal(&self, engine: &Docker, name: &str, agent: &ContainerId) -> Result<(), DirectError> {
        let spec = ContainerSpec {
            command: vec!["seal".to_owned()],
            user: Some("0:0".to_owned()),
            labels: self.labels(),
            network: NetworkMode::Container(agent.clone()),
            read_only: true,
            cap_add: vec!["NET_ADMIN".to_owned()],
            pids: Some(16),
            memory: Some(32 << 20),
            ..ContainerSpec::new(&format!("{name}-seal"), &self.images.guest)
        };
        let id = engine.create_container(&spec).await?;
        engine.start(&id).await?;
        let code = engine.wait(&id, SEAL).await?;
        if code != 0 {
            return Err(DirectError::Failed { what: "the seal", said: format!("exit code {code}") });
        }
        Ok(engine.remove_container(&id).await?)
    }

    /// The sidecars of a bottle with one SSH host and one route.
    fn sidecars(&self, internal: &Site) -> [Sidecar<'_>; 2] {
        let (gate, proxy) = (internal.address(GATE), internal.address(PROXY));
        let bundle = |table: Value, tokens: Value| {
            let mut bundle = json!({
                "version": 1, "table": table, "from": [format!("{}/28", internal.first)], "lifeline": true,
            });
            if !tokens.is_null() {
                bundle["tokens"] = tokens;
            }
            bundle
        };
        let forwards = json!([{
            "listen": 30000, "upstream": "git.lone.invalid:22", "alias": "git", "protocol": "ssh",
        }]);
        let routes = json!([{
            "path": "/api/", "upstream": "https://api.lone.invalid",
            "auth": { "scheme": "bearer" }, "token_env": "CRED_PROXY_TOKEN_0",
        }]);
        [
            Sidecar {
                name: "ssh-gate",
                image: &self.images.gate,
                address: gate,
                listen: ["--bind".to_owned(), gate.to_string()],
                bundle: bundle(json!({ "forwards": forwards }), Value::Null),
            },
            Sidecar {
                name: "cred-proxy",
                image: &self.images.proxy,
                address: proxy,
                listen: ["--listen".to_owned(), format!("{proxy}:9099")],
                bundle: bundle(
                    json!({ "routes": routes }),
                    json!({ "CRED_PROXY_TOKEN_0": format!("direct-token-{}", self.run) }),
                ),
            },
        ]
    }

    async fn sidecar(
        &self,
        engine: &Docker,
        name: &str,
        sidecar: Sidecar<'_>,
        internal: &Site,
        egress: &Site,
    ) -> Result<(ContainerId, Streams), DirectError> {
        let endpoint = Endpoint {
            address: Some(sidecar.address),
            aliases: vec![sidecar.name.to_owned()],
            default_route: false,
        };
        let [option, value] = sidecar.listen;
        let spec = ContainerSpec {
            command: vec!["--stdin-bundle".to_owned(), option, value],
            user: Some("65532:65532".to_owned()),
            labels: self.labels(),
            network: NetworkMode::Network(internal.id.clone(), endpoint),
            read_only: true,
            sysctls: BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "0".to_owned())]),
            pids: Some(64),
            memory: Some(64 << 20),
            stdin: true,
            healthcheck: true,
            ..ContainerSpec::new(&format!("{name}-{}", sidecar.name), sidecar.image)
        };
        let id = engine.create_container(&spec).await?;
        let way_out = Endpoint { default_route: true, ..Endpoint::default() };
        engine.connect(&egress.id, &id, &way_out).await?;
        let mut streams = engine.attach(&id).await?;
        engine.start(&id).await?;
        // One that has ended already has printed why.
        let _ = streams.input.write_all(format!("{}\n", sidecar.bundle).as_bytes()).await;
        let _ = streams.input.flush().await;
        let line = first_line(&mut streams, sidecar.name).await?;
        match Ready::parse(&line) {
            Ok(ready) if ready.name == sidecar.name => Ok((id, streams)),
            _ => Err(DirectError::Failed { what: sidecar.name, said: line }),
        }
    }
}

/// The two commands of a launch that has one key: one that stays, in place of the ssh-agent, and one that
/// reads its stdin, in place of ssh-add.
async fn prepare(engine: &Docker, agent: &ContainerId) -> Result<(), DirectError> {
    let root = || Some("0:0".to_owned());
    let stays = ExecSpec { user: root(), ..command(&["sh", "-c", "echo ready; exec sleep 600"]) };
    let exec = engine.exec(agent, &stays).await?;
    let mut streams = exec.streams.ok_or_else(|| unjoined("a command that stays"))?;
    first_line(&mut streams, "a command that stays").await?;
    let reads = ExecSpec { user: root(), stdin: true, ..command(&["cat"]) };
    let (_, said) = run(engine, agent, &reads, &[b'x'; 400], Instant::now()).await?;
    if said == 400 {
        Ok(())
    } else {
        Err(DirectError::Failed { what: "`cat`", said: format!("{said} bytes") })
    }
}

/// Runs a command to its end. Returns when its output came, and how many bytes that had.
async fn run(
    engine: &Docker,
    container: &ContainerId,
    spec: &ExecSpec,
    stdin: &[u8],
    began: Instant,
) -> Result<(Duration, usize), DirectError> {
    let exec = engine.exec(container, spec).await?;
    let mut streams = exec.streams.ok_or_else(|| unjoined("a command"))?;
    let (mut ran, mut length, mut said) = (None, 0, Vec::new());
    let whole = async {
        // A command that ends without reading has printed why.
        let _ = streams.input.write_all(stdin).await;
        let _ = streams.input.shutdown().await;
        while let Some(piece) = streams.output.next().await {
            match piece? {
                Output::Stdout(bytes) => {
                    ran.get_or_insert_with(|| began.elapsed());
                    length += bytes.len();
                }
                Output::Stderr(bytes) => said.extend_from_slice(&bytes),
            }
        }
        engine.exec_exit_code(&exec.id).await
    };
    let code = timeout(READY, whole).await.map_err(|_| late("a command"))??;
    match ran {
        Some(ran) if code == 0 => Ok((ran, length)),
        _ => {
            let said = format!("{} (exit code {code})", String::from_utf8_lossy(&said).trim());
            Err(DirectError::Failed { what: "a command", said })
        }
    }
}

/// Removes the containers, then the networks.
async fn remove(engine: &Docker, bottle: Bottle) -> Result<(), DirectError> {
    let Bottle { agent, sidecars, networks: [internal, egress] } = bottle;
    let containers = sidecars.iter().map(|(id, _)| id).chain([&agent]);
    let containers = containers.map(|id| engine.remove_container(id));
    for removed in futures_util::future::join_all(containers).await {
        removed?;
    }
    let (internal, egress) = tokio::join!(engine.remove_network(&internal), engine.remove_network(&egress));
    Ok(internal.and(egress)?)
}

/// The first line on stdout.
async fn first_line(streams: &mut Streams, what: &'static str) -> Result<String, DirectError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let read = async {
        while let Some(piece) = streams.output.next().await {
            match piece? {
                Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            }
            if let Some(end) = stdout.iter().position(|byte| *byte == b'\n') {
                return Ok(String::from_utf8_lossy(&stdout[..end]).into_owned());
            }
        }
        let said = String::from_utf8_lossy(&[&stdout[..], &stderr[..]].concat()).trim().to_owned();
        Err(DirectError::Failed { what, said })
    };
    timeout(READY, read).await.map_err(|_| late(what))?
}

fn late(what: &'static str) -> DirectError {
    DirectError::Failed { what, said: format!("timeout after {} s", READY.as_secs()) }
}

fn unjoined(what: &'static str) -> DirectError {
    DirectError::Failed { what, said: "the engine did not join its streams".to_owned() }
}

fn command(words: &[&str]) -> ExecSpec {
    ExecSpec {
        command: words.iter().map(|word| (*word).to_owned()).collect(),
        output: true,
        ..ExecSpec::default()
    }
}

/// The first address of the nth /28 of 10.214.0.0/16, over and over.
fn subnet(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 214, 0, 0)) + n % 4096 * 16)
}

/// The number of the first bottle behind a counting socket: no other has it.
const COUNTED: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_are_disjoint_and_begin_again_after_the_last() {
        assert_eq!(subnet(0), Ipv4Addr::new(10, 214, 0, 0));
        assert_eq!(subnet(17), Ipv4Addr::new(10, 214, 1, 16));
        assert_eq!(subnet(4095), Ipv4Addr::new(10, 214, 255, 240));
        assert_eq!(subnet(4096), subnet(0));
    }

    #[test]
    fn bundles_are_what_the_sidecars_read() {
        let images = Images { agent: "a".into(), gate: "g".into(), proxy: "p".into(), guest: "s".into() };
        let direct = Direct::new("unix:///e".into(), "1-2-3".into(), images, vec![0; 4096]).unwrap();
        let internal = Site { id: NetworkId("n".into()), first: Ipv4Addr::new(10, 214, 0, 16) };
        let [gate, proxy] = direct.sidecars(&internal);
        let line = |sidecar: &Sidecar<'_>| sidecar.bundle.to_string();
        let ports = sidecar::bundle::Bundle::<sidecar::ports::PortTable>::parse(line(&gate).as_bytes());
        assert_eq!(ports.unwrap().table.forwards()[0].listen, 30000);
        let routes = sidecar::bundle::Bundle::<sidecar::routes::RouteTable>::parse(line(&proxy).as_bytes());
        assert_eq!(routes.unwrap().table.routes()[0].path.as_str(), "/api/");
        assert_eq!(proxy.listen[1], "10.214.0.19:9099");
    }
}
