//! The engine behind a Docker socket: Docker Engine from 20.10 on, or podman's service.
//!
//! Requests and streams go through bollard over a transport of our own; what is read as JSON is
//! read with lenient types of our own. No request names an API version, so each engine answers
//! with its newest. Every call has a deadline but [`Engine::wait`] and the streams, which last as
//! long as what they watch.

mod address;
mod answers;
mod creation;
mod files;
mod output;
mod target;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::NetworkConnectRequest;
use bollard::query_parameters::AttachContainerOptionsBuilder;
use bytes::Bytes;
use hyper::Method;
use tokio::sync::OnceCell;

use self::address::Address;
use self::answers::{
    ContainerAnswer, ContainerRow, Created, ExecAnswer, ImageAnswer, Info, NetworkAnswer, Version, Waited,
    read,
};
use self::creation::Priorities;
use self::target::{escaped, label_filter};
use self::transport::{Ask, Payload};
use super::{
    Container, ContainerId, ContainerSpec, CreatedNetwork, Endpoint, Engine, EngineError, EngineInfo, Exec,
    ExecId, ExecSpec, Image, Network, NetworkId, NetworkMode, NetworkSpec, ObjectKind, Streams,
};

/// A container engine that is asked over its API.
pub struct Docker {
    address: Arc<Address>,
    client: bollard::Docker,
    priorities: OnceCell<Priorities>,
}

impl Docker {
    /// Finds the engine: `host` as typed (`unix://`, `tcp://`, `http://`), else `DOCKER_HOST`, else
    /// the current Docker context, else the usual sockets. Asks it nothing yet.
    ///
    /// # Errors
    ///
    /// [`EngineError::Address`] for an address that makes no sense; [`EngineError::Unreachable`] or
    /// [`EngineError::Permission`] when none of the usual sockets answers.
    pub fn connect(host: Option<&str>) -> Result<Docker, EngineError> {
        let address = Arc::new(Address::find(host, |name| std::env::var(name).ok())?);
        let to = Arc::clone(&address);
        let transport = move |request: bollard::BollardRequest| {
            let to = Arc::clone(&to);
            async move { transport::send(&to, request).await }
        };
        let client = bollard::Docker::connect_with_custom_transport(
            transport,
            Some("http://localhost"),
            LOAD_DEADLINE.as_secs(),
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|error| transport::meaning(&address, "prepare the client", error))?;
        Ok(Docker { address, client, priorities: OnceCell::new() })
    }

    async fn ask(
        &self,
        act: &str,
        method: Method,
        target: String,
        payload: Payload,
    ) -> Result<Bytes, EngineError> {
        self.ask_within(Some(DEADLINE), act, method, target, payload).await
    }

    async fn ask_within(
        &self,
        deadline: Option<Duration>,
        act: &str,
        method: Method,
        target: String,
        payload: Payload,
    ) -> Result<Bytes, EngineError> {
        transport::ask(&self.address, Ask { act, method, target, payload, deadline }).await
    }

    async fn get(&self, act: &str, target: String) -> Result<Bytes, EngineError> {
        self.ask(act, Method::GET, target, Payload::Nothing).await
    }

    async fn within<T>(
        &self,
        act: &str,
        answer: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        transport::within(&self.address, act, Some(DEADLINE), answer).await
    }

    /// Asked once, and only when an endpoint wants the default route.
    async fn priorities(&self, endpoint: &Endpoint) -> Result<Priorities, EngineError> {
        if !endpoint.default_route {
            return Ok(Priorities::Unknown);
        }
        let asked = self.priorities.get_or_try_init(|| async {
            let act = "tell its version";
            let version: Version = read(act, &self.get(act, "/version".into()).await?)?;
            Ok(Priorities::of(&version.api_version))
        });
        asked.await.copied()
    }
}

impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let act = "describe itself";
        let (version, info) =
            tokio::try_join!(self.get(act, "/version".into()), self.get(act, "/info".into()))?;
        let version: Version = read(act, &version)?;
        let info: Info = read(act, &info)?;
        Ok(EngineInfo {
            product: version.product(),
            version: version.version,
            api: version.api_version,
            arch: answers::arch(&version.arch),
            runtimes: info.runtimes.into_keys().collect(),
            local: matches!(*self.address, Address::Unix(_)),
        })
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, EngineError> {
        let act = format!("inspect image {reference}");
        let answer = self.get(&act, format!("/images/{}/json", escaped(reference))).await;
        let Some(body) = unless_missing(answer)? else { return Ok(None) };
        Ok(Some(read::<ImageAnswer>(&act, &body)?.into()))
    }

    async fn load_image(&self, archive: Bytes) -> Result<(), EngineError> {
        let act = "load the image";
        let target = "/images/load?quiet=1".to_owned();
        let progress =
            self.ask_within(Some(LOAD_DEADLINE), act, Method::POST, target, Payload::Tar(archive)).await?;
        files::load_refusal(&progress)
            .map_or(Ok(()), |message| Err(EngineError::Refused { act: act.to_owned(), status: 200, message }))
    }

    async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        let act = format!("remove image {reference}");
        let target = format!("/images/{}", escaped(reference));
        unless_missing(self.ask(&act, Method::DELETE, target, Payload::Nothing).await).map(drop)
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<CreatedNetwork, EngineError> {
        let act = format!("create network {}", spec.name);
        let payload = Payload::Json(creation::network(spec));
        let answer = self.ask(&act, Method::POST, "/networks/create".into(), payload).await;
        let body = answer.map_err(|error| match error {
            EngineError::Refused { message, .. } if subnet_taken(&message) => {
                EngineError::SubnetTaken { subnet: spec.subnet.to_string() }
            }
            EngineError::Refused { message, .. } if message.contains("already exists") => {
                EngineError::NameTaken { kind: ObjectKind::Network, name: spec.name.clone() }
            }
            other => other,
        })?;
        let created = read::<Created>(&act, &body)?;
        let warning = created.warning.filter(|warning| !warning.is_empty());
        Ok(CreatedNetwork { id: NetworkId(created.id), warning })
    }

    async fn network(&self, reference: &str) -> Result<Option<Network>, EngineError> {
        let act = format!("inspect network {reference}");
        let answer = self.get(&act, format!("/networks/{}", escaped(reference))).await;
        let Some(body) = unless_missing(answer)? else { return Ok(None) };
        Ok(Some(read::<NetworkAnswer>(&act, &body)?.into()))
    }

    async fn networks(&self, label: Option<&str>) -> Result<Vec<Network>, EngineError> {
        let act = "list networks";
        let body = self.get(act, format!("/networks?{}", label_filter(label))).await?;
        let networks: Vec<NetworkAnswer> = read(act, &body)?;
        Ok(networks.into_iter().map(Network::from).collect())
    }

    async fn connect(
        &self,
        network: &NetworkId,
        container: &ContainerId,
        endpoint: &Endpoint,
    ) -> Result<(), EngineError> {
        let priorities = self.priorities(endpoint).await?;
        let request = NetworkConnectRequest {
            container: container.0.clone(),
            endpoint_config: Some(creation::endpoint_settings(endpoint, priorities)),
        };
        self.within("connect the container", self.client.connect_network(&network.0, request)).await
    }

    async fn remove_network(&self, id: &NetworkId) -> Result<(), EngineError> {
        let act = format!("remove network {}", id.0);
        let target = format!("/networks/{}", escaped(&id.0));
        unless_missing(self.ask(&act, Method::DELETE, target, Payload::Nothing).await).map(drop)
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, EngineError> {
        let priorities = match &spec.network {
            NetworkMode::Network(_, endpoint) => self.priorities(endpoint).await?,
            NetworkMode::Container(_) | NetworkMode::None => Priorities::Unknown,
        };
        let act = format!("create container {}", spec.name);
        let body = serde_json::to_value(creation::container(spec, priorities))
            .map_err(|source| EngineError::Broken { act: act.clone(), source: Box::new(source) })?;
        let target = format!("/containers/create?name={}", escaped(&spec.name));
        let answer = self.ask(&act, Method::POST, target, Payload::Json(body)).await;
        let body = answer.map_err(|error| match error {
            EngineError::Refused { status: 409, message, .. } if message.contains("already in use") => {
                EngineError::NameTaken { kind: ObjectKind::Container, name: spec.name.clone() }
            }
            other => other,
        })?;
        Ok(ContainerId(read::<Created>(&act, &body)?.id))
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        let target = format!("/containers/{}/start", escaped(&id.0));
        self.ask(&format!("start container {}", id.0), Method::POST, target, Payload::Nothing).await.map(drop)
    }

    async fn attach(&self, id: &ContainerId) -> Result<Streams, EngineError> {
        let options = AttachContainerOptionsBuilder::default()
            .stream(true)
            .stdin(true)
            .stdout(true)
            .stderr(true)
            .build();
        let act = "attach to the container";
        let attached = self.within(act, self.client.attach_container(&id.0, Some(options))).await?;
        Ok(Streams { output: output::pieces(&self.address, act, attached.output), input: attached.input })
    }

    async fn wait(&self, id: &ContainerId, deadline: Duration) -> Result<i64, EngineError> {
        let act = format!("wait for container {}", id.0);
        let target = format!("/containers/{}/wait", escaped(&id.0));
        let body = self.ask_within(Some(deadline), &act, Method::POST, target, Payload::Nothing).await?;
        Ok(read::<Waited>(&act, &body)?.status_code)
    }

    async fn container(&self, reference: &str) -> Result<Option<Container>, EngineError> {
        let act = format!("inspect container {reference}");
        let answer = self.get(&act, format!("/containers/{}/json", escaped(reference))).await;
        let Some(body) = unless_missing(answer)? else { return Ok(None) };
        Ok(Some(read::<ContainerAnswer>(&act, &body)?.into()))
    }

    async fn containers(&self, label: Option<&str>) -> Result<Vec<Container>, EngineError> {
        let act = "list containers";
        let body = self.get(act, format!("/containers/json?all=1&{}", label_filter(label))).await?;
        let rows: Vec<ContainerRow> = read(act, &body)?;
        Ok(rows.into_iter().map(Container::from).collect())
    }

    async fn logs(&self, id: &ContainerId, tail: usize) -> Result<String, EngineError> {
        self.within("read the container's logs", output::tail(&self.client, id, tail)).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        let act = format!("remove container {}", id.0);
        let target = format!("/containers/{}?force=1&v=1", escaped(&id.0));
        match unless_missing(self.ask(&act, Method::DELETE, target, Payload::Nothing).await) {
            // Somebody else is removing it: it is gone once they are done.
            Err(EngineError::Refused { status: 409, message, .. })
                if message.contains("already in progress") =>
            {
                let gone = async {
                    while self.container(&id.0).await?.is_some() {
                        tokio::time::sleep(POLL).await;
                    }
                    Ok(())
                };
                let late = |_| EngineError::Timeout { act: act.clone(), seconds: DEADLINE.as_secs() };
                tokio::time::timeout(DEADLINE, gone).await.map_err(late)?
            }
            other => other.map(drop),
        }
    }

    async fn put(&self, id: &ContainerId, archive: Bytes) -> Result<(), EngineError> {
        let act = "put files into the container";
        let target = format!("/containers/{}/archive?path=/&noOverwriteDirNonDir=1", escaped(&id.0));
        self.ask_within(Some(LOAD_DEADLINE), act, Method::PUT, target, Payload::Tar(archive)).await.map(drop)
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Bytes>, EngineError> {
        let act = format!("read {path} out of the container");
        let download = self.within(&act, files::download(&self.client, id, path)).await;
        match download {
            Ok(archive) => files::only_file(&archive)
                .map(Some)
                .map_err(|source| EngineError::Broken { act, source: Box::new(source) }),
            // The engine says 404 for a missing file and for a missing container alike.
            Err(EngineError::NotFound { message, .. }) if !message.contains("No such container") => Ok(None),
            Err(other) => Err(other),
        }
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Exec, EngineError> {
        let act = "run a command in the container";
        let options = CreateExecOptions {
            attach_stdin: Some(spec.stdin),
            attach_stdout: Some(spec.output),
            attach_stderr: Some(spec.output),
            tty: Some(false),
            env: Some(creation::variables(&spec.env)),
            cmd: Some(spec.command.clone()),
            user: spec.user.clone(),
            working_dir: spec.working_dir.clone(),
            ..CreateExecOptions::default()
        };
        let created = self.within(act, self.client.create_exec(&id.0, options)).await?;
        let start = StartExecOptions { detach: !spec.stdin && !spec.output, ..StartExecOptions::default() };
        let streams = match self.within(act, self.client.start_exec(&created.id, Some(start))).await? {
            StartExecResults::Attached { output, input } => {
                Some(Streams { output: output::pieces(&self.address, act, output), input })
            }
            StartExecResults::Detached => None,
        };
        Ok(Exec { id: ExecId(created.id), streams })
    }

    async fn exec_exit_code(&self, exec: &ExecId) -> Result<i64, EngineError> {
        let act = "tell the command's exit code";
        let asked = async {
            loop {
                let body = self.get(act, format!("/exec/{}/json", escaped(&exec.0))).await?;
                match read::<ExecAnswer>(act, &body)? {
                    ExecAnswer { running: false, exit_code: Some(code) } => return Ok(code),
                    _ => tokio::time::sleep(POLL).await,
                }
            }
        };
        let late = |_| EngineError::Timeout { act: act.to_owned(), seconds: DEADLINE.as_secs() };
        tokio::time::timeout(DEADLINE, asked).await.map_err(late)?
    }
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Docker").field("address", &self.address.to_string()).finish_non_exhaustive()
    }
}

fn unless_missing<T>(answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(EngineError::NotFound { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Docker 20.10 and 28 for overlapping pools and bridges, and podman.
fn subnet_taken(message: &str) -> bool {
    ["overlap", "is already used on the host", "conflicts with existing route"]
        .iter()
        .any(|words| message.contains(words))
}

/// Engines answer within seconds; one that is busy removing many containers has been seen to take ten.
const DEADLINE: Duration = Duration::from_secs(30);
/// Archives of gigabytes are unpacked while we wait.
const LOAD_DEADLINE: Duration = Duration::from_secs(120);
/// How often we look whether something has ended that the engine does not announce.
const POLL: Duration = Duration::from_millis(20);
