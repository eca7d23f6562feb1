//! The engine behind a Docker socket: Docker Engine from 20.10 on, or podman's service.
//!
//! bollard contributes its models: the types of request bodies. Every request and every stream goes over
//! our own transport, and responses are read with lenient types of our own. No request names an API
//! version, so each engine answers with its newest. Every call has a deadline, which includes
//! connecting and reading the whole response. Of the streams only the upgrade has one: they last
//! as long as what they watch.

mod address;
mod answers;
mod context;
mod creation;
mod files;
mod frames;
mod output;
mod refusal;
mod target;
mod transport;

use std::fmt;
use std::time::Duration;

use bollard_stubs::models::{ExecConfig, ExecStartConfig, NetworkConnectRequest};
use bytes::Bytes;
use hyper::Method;
use tokio::sync::OnceCell;

use self::address::Address;
use self::answers::{
    ContainerAnswer, ContainerRow, Created, ExecAnswer, ImageAnswer, Info, NetworkAnswer, Version, Waited,
    read,
};
use self::creation::Priorities;
use self::files::Found;
use self::target::{escaped, label_filter, named};
use self::transport::{Payload, Request, respond, upgrade, whole, within};
use super::{
    Container, ContainerId, ContainerSpec, CreatedNetwork, Endpoint, Engine, EngineError, EngineInfo, Exec,
    ExecId, ExecSpec, FileFault, Image, Network, NetworkId, NetworkMode, NetworkSpec, ObjectKind, Streams,
};

/// A container engine behind its API.
pub struct Docker {
    address: Address,
    deadline: Duration,
    load_deadline: Duration,
    priorities: OnceCell<Priorities>,
}

impl Docker {
    /// Finds the engine: `host` as typed (`unix://`, `tcp://`, `http://`), else `DOCKER_HOST`, else
    /// the current Docker context, else the usual sockets. Sends it nothing yet.
    ///
    /// # Errors
    ///
    /// - [`EngineError::Address`] and [`EngineError::Context`] when the address is invalid;
    /// - [`EngineError::Unsupported`] when it requires SSH or TLS;
    /// - [`EngineError::Plaintext`] when it is plain TCP to another machine, unless `insecure`;
    /// - [`EngineError::Unreachable`] or [`EngineError::Permission`] when none of the usual sockets
    ///   accepts a connection.
    pub fn connect(host: Option<&str>, insecure: bool) -> Result<Docker, EngineError> {
        let address = Address::find(host, |name| std::env::var(name).ok())?;
        Docker::at(address, insecure)
    }

    fn at(address: Address, insecure: bool) -> Result<Docker, EngineError> {
        if !insecure && !address.is_local() {
            return Err(EngineError::Plaintext { address: address.to_string() });
        }
        Ok(Docker { address, deadline: DEADLINE, load_deadline: LOAD_DEADLINE, priorities: OnceCell::new() })
    }

    /// Its address, e.g. `unix:///var/run/docker.sock`.
    pub fn url(&self) -> String {
        self.address.to_string()
    }

    fn request<'a>(
        &self,
        act: &'a str,
        about: impl Into<Option<ObjectKind>>,
        method: Method,
        target: String,
    ) -> Request<'a> {
        let about = about.into();
        Request { act, about, method, target, payload: Payload::Nothing, deadline: self.deadline }
    }

    async fn send(&self, request: Request<'_>) -> Result<Bytes, EngineError> {
        whole(&self.address, request).await
    }

    async fn get(
        &self,
        act: &str,
        about: impl Into<Option<ObjectKind>>,
        target: String,
    ) -> Result<Bytes, EngineError> {
        self.send(self.request(act, about, Method::GET, target)).await
    }

    /// Requested once, and only when an endpoint wants the default route.
    async fn priorities(&self, act: &str, endpoint: &Endpoint) -> Result<Priorities, EngineError> {
        if !endpoint.default_route {
            return Ok(Priorities::Unknown);
        }
        let asked = self.priorities.get_or_try_init(|| async {
            let version: Version = read(act, &self.get(act, None, "/version".into()).await?)?;
            Ok(Priorities::of(&version.api_version))
        });
        asked.await.copied()
    }

    /// What is at a path, without following a link at its end.
    async fn found(&self, act: &str, id: &ContainerId, path: &str) -> Result<Found, EngineError> {
        let target = format!("/containers/{}/archive?path={}", escaped(&id.0), escaped(path));
        let request = self.request(act, ObjectKind::Container, Method::GET, target);
        respond(&self.address, request, async |answer| {
            let (head, body) = answer.response.into_parts();
            files::found(path, &head.headers, body).await
        })
        .await
    }
}

impl Engine for Docker {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let act = "describe itself";
        let (version, info) =
            tokio::try_join!(self.get(act, None, "/version".into()), self.get(act, None, "/info".into()))?;
        let version: Version = read(act, &version)?;
        let info: Info = read(act, &info)?;
        Ok(EngineInfo {
            product: version.product(),
            version: version.version,
            api: version.api_version,
            arch: answers::arch(&version.arch),
            runtimes: info.runtimes.into_keys().collect(),
            local: matches!(self.address, Address::Unix(_)),
        })
    }

    async fn image(&self, reference: &str) -> Result<Option<Image>, EngineError> {
        let act = format!("inspect image {reference}");
        let target = format!("/images/{}/json", named(&act, reference)?);
        let answer = unless_missing(ObjectKind::Image, self.get(&act, ObjectKind::Image, target).await)?;
        answer.map(|body| Ok(read::<ImageAnswer>(&act, &body)?.into())).transpose()
    }

    async fn load_image(&self, archive: Bytes) -> Result<(), EngineError> {
        let act = "load the image";
        let request = self.request(act, None, Method::POST, "/images/load?quiet=1".into());
        let request = Request { payload: Payload::Tar(archive), deadline: self.load_deadline, ..request };
        let progress = self.send(request).await?;
        files::load_refusal(&progress)
            .map_or(Ok(()), |message| Err(EngineError::Refused { act: act.to_owned(), status: 200, message }))
    }

    async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        let act = format!("remove image {reference}");
        let target = format!("/images/{}", named(&act, reference)?);
        let removed = self.send(self.request(&act, ObjectKind::Image, Method::DELETE, target)).await;
        unless_missing(ObjectKind::Image, removed).map(drop)
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<CreatedNetwork, EngineError> {
        let act = format!("create network {}", spec.name);
        let request = self.request(&act, None, Method::POST, "/networks/create".into());
        let request = Request { payload: Payload::json(&creation::network(spec)), ..request };
        let body = self.send(request).await.map_err(|error| match error {
            EngineError::Refused { status, message, .. } if refusal::network_name_taken(status, &message) => {
                EngineError::NameTaken { kind: ObjectKind::Network, name: spec.name.clone() }
            }
            EngineError::Refused { message, .. } if refusal::subnet_taken(&spec.name, &message) => {
                EngineError::SubnetTaken { subnet: spec.subnet.to_string() }
            }
            other => other,
        })?;
        let created = read::<Created>(&act, &body)?;
        let warning = created.warning.filter(|warning| !warning.is_empty());
        Ok(CreatedNetwork { id: NetworkId(created.id), warning })
    }

    async fn network(&self, reference: &str) -> Result<Option<Network>, EngineError> {
        let act = format!("inspect network {reference}");
        let target = format!("/networks/{}", named(&act, reference)?);
        let answer = unless_missing(ObjectKind::Network, self.get(&act, ObjectKind::Network, target).await)?;
        answer.map(|body| Ok(read::<NetworkAnswer>(&act, &body)?.into())).transpose()
    }

    async fn networks(&self, label: Option<&str>) -> Result<Vec<Network>, EngineError> {
        let act = "list networks";
        let body = self.get(act, None, format!("/networks?{}", label_filter(label))).await?;
        let networks: Vec<NetworkAnswer> = read(act, &body)?;
        Ok(networks.into_iter().map(Into::into).collect())
    }

    async fn connect(
        &self,
        network: &NetworkId,
        container: &ContainerId,
        endpoint: &Endpoint,
    ) -> Result<(), EngineError> {
        let act = format!("connect container {} to network {}", container.0, network.0);
        let connected = async {
            let priorities = self.priorities(&act, endpoint).await?;
            let settings = NetworkConnectRequest {
                container: container.0.clone(),
                endpoint_config: Some(creation::endpoint_settings(endpoint, priorities)),
            };
            let target = format!("/networks/{}/connect", escaped(&network.0));
            let request = self.request(&act, ObjectKind::Network, Method::POST, target);
            self.send(Request { payload: Payload::json(&settings), ..request }).await.map(drop)
        };
        within(&act, self.deadline, connected).await
    }

    async fn remove_network(&self, id: &NetworkId) -> Result<(), EngineError> {
        let act = format!("remove network {}", id.0);
        let target = format!("/networks/{}", escaped(&id.0));
        let removed = self.send(self.request(&act, ObjectKind::Network, Method::DELETE, target)).await;
        unless_missing(ObjectKind::Network, removed).map(drop)
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<ContainerId, EngineError> {
        let act = format!("create container {}", spec.name);
        let created = async {
            let priorities = match &spec.network {
                NetworkMode::Network(_, endpoint) => self.priorities(&act, endpoint).await?,
                NetworkMode::Container(_) | NetworkMode::None => Priorities::Unknown,
            };
            let target = format!("/containers/create?name={}", escaped(&spec.name));
            // What is missing is the image, unless the message names something else.
            let request = self.request(&act, ObjectKind::Image, Method::POST, target);
            let payload = Payload::json(&creation::container(spec, priorities));
            self.send(Request { payload, ..request }).await
        };
        let body = within(&act, self.deadline, created).await.map_err(|error| match error {
            EngineError::Refused { status, message, .. }
                if refusal::container_name_taken(status, &message) =>
            {
                EngineError::NameTaken { kind: ObjectKind::Container, name: spec.name.clone() }
            }
            other => other,
        })?;
        Ok(ContainerId(read::<Created>(&act, &body)?.id))
    }

    async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        let act = format!("start container {}", id.0);
        let target = format!("/containers/{}/start", escaped(&id.0));
        self.send(self.request(&act, ObjectKind::Container, Method::POST, target)).await.map(drop)
    }

    async fn attach(&self, id: &ContainerId) -> Result<Streams, EngineError> {
        let act = "attach to the container";
        let target = format!("/containers/{}/attach?stream=1&stdin=1&stdout=1&stderr=1", escaped(&id.0));
        let request = self.request(act, ObjectKind::Container, Method::POST, target);
        Ok(output::streams(act, upgrade(&self.address, request).await?))
    }

    async fn wait(&self, id: &ContainerId, deadline: Duration) -> Result<i64, EngineError> {
        let act = format!("report the end of container {}", id.0);
        let target = format!("/containers/{}/wait", escaped(&id.0));
        let request = self.request(&act, ObjectKind::Container, Method::POST, target);
        let body = self.send(Request { deadline, ..request }).await?;
        Ok(read::<Waited>(&act, &body)?.status_code)
    }

    async fn container(&self, reference: &str) -> Result<Option<Container>, EngineError> {
        let act = format!("inspect container {reference}");
        let target = format!("/containers/{}/json", named(&act, reference)?);
        let answer =
            unless_missing(ObjectKind::Container, self.get(&act, ObjectKind::Container, target).await)?;
        answer.map(|body| Ok(read::<ContainerAnswer>(&act, &body)?.into())).transpose()
    }

    async fn containers(&self, label: Option<&str>) -> Result<Vec<Container>, EngineError> {
        let act = "list containers";
        let body = self.get(act, None, format!("/containers/json?all=1&{}", label_filter(label))).await?;
        let rows: Vec<ContainerRow> = read(act, &body)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    async fn logs(&self, id: &ContainerId, tail: usize) -> Result<String, EngineError> {
        let act = format!("return the logs of container {}", id.0);
        let target = format!("/containers/{}/logs?stdout=1&stderr=1&tail={tail}", escaped(&id.0));
        let request = self.request(&act, ObjectKind::Container, Method::GET, target);
        respond(&self.address, request, async |answer| output::tail(answer.response.into_body()).await).await
    }

    async fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        let act = format!("remove container {}", id.0);
        let target = format!("/containers/{}?force=1&v=1", escaped(&id.0));
        let removed = async {
            let request = self.request(&act, ObjectKind::Container, Method::DELETE, target);
            match unless_missing(ObjectKind::Container, self.send(request).await) {
                // Another client is removing it: it is gone once that is done.
                Err(EngineError::Refused { status: 409, message, .. })
                    if message.contains("already in progress") =>
                {
                    while self.container(&id.0).await?.is_some() {
                        tokio::time::sleep(POLL).await;
                    }
                    Ok(())
                }
                other => other.map(drop),
            }
        };
        within(&act, self.deadline, removed).await
    }

    async fn put(&self, id: &ContainerId, archive: Bytes) -> Result<(), EngineError> {
        let act = format!("put files into container {}", id.0);
        let target = format!("/containers/{}/archive?path=/&noOverwriteDirNonDir=1", escaped(&id.0));
        let request = self.request(&act, ObjectKind::Container, Method::PUT, target);
        let request = Request { payload: Payload::Tar(archive), deadline: self.load_deadline, ..request };
        self.send(request).await.map(drop)
    }

    async fn read_file(&self, id: &ContainerId, path: &str) -> Result<Option<Bytes>, EngineError> {
        let act = format!("read {path} in container {}", id.0);
        let unreadable = |fault| EngineError::File { path: path.to_owned(), fault };
        let followed = async {
            let mut at = path.to_owned();
            for _ in 0..=LINKS {
                match self.found(&act, id, &at).await {
                    Ok(Found::File(bytes)) => return Ok(Some(bytes)),
                    Ok(Found::Link(target)) => at = target,
                    Ok(Found::Unreadable(fault)) => return Err(unreadable(fault)),
                    Err(error) => {
                        return match files::missing(&error) {
                            Some(files::Missing::File) => Ok(None),
                            Some(files::Missing::Links) => Err(unreadable(FileFault::TooManyLinks)),
                            None => Err(error),
                        };
                    }
                }
            }
            Err(unreadable(FileFault::TooManyLinks))
        };
        within(&act, self.deadline, followed).await
    }

    async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<Exec, EngineError> {
        let act = "run a command in the container";
        let config = ExecConfig {
            attach_stdin: Some(spec.stdin),
            attach_stdout: Some(spec.output),
            attach_stderr: Some(spec.output),
            tty: Some(false),
            env: Some(creation::variables(&spec.env)),
            cmd: Some(spec.command.clone()),
            user: spec.user.clone(),
            working_dir: spec.working_dir.clone(),
            ..ExecConfig::default()
        };
        let joined = spec.stdin || spec.output;
        let start = ExecStartConfig { detach: Some(!joined), tty: Some(false), ..ExecStartConfig::default() };
        let started = async {
            let target = format!("/containers/{}/exec", escaped(&id.0));
            let request = self.request(act, ObjectKind::Container, Method::POST, target);
            let body = self.send(Request { payload: Payload::json(&config), ..request }).await?;
            let exec = read::<Created>(act, &body)?.id;
            let target = format!("/exec/{}/start", escaped(&exec));
            let request = self.request(act, ObjectKind::Container, Method::POST, target);
            let request = Request { payload: Payload::json(&start), ..request };
            let streams = if joined {
                Some(output::streams(act, upgrade(&self.address, request).await?))
            } else {
                self.send(request).await?;
                None
            };
            Ok(Exec { id: ExecId(exec), streams })
        };
        within(act, self.deadline, started).await
    }

    async fn exec_exit_code(&self, exec: &ExecId) -> Result<i64, EngineError> {
        let act = "report the command's exit code";
        let ended = async {
            loop {
                let target = format!("/exec/{}/json", escaped(&exec.0));
                let body = self.get(act, ObjectKind::Container, target).await?;
                match read::<ExecAnswer>(act, &body)? {
                    ExecAnswer { running: false, exit_code: Some(code) } => return Ok(code),
                    _ => tokio::time::sleep(POLL).await,
                }
            }
        };
        within(act, self.deadline, ended).await
    }
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Docker").field("address", &self.address.to_string()).finish_non_exhaustive()
    }
}

/// `None` when the object of that kind itself is missing.
fn unless_missing<T>(kind: ObjectKind, answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(EngineError::NotFound { kind: missing, .. }) if missing == kind => Ok(None),
        Err(other) => Err(other),
    }
}

/// Engines answer within seconds; one that is busy removing many containers took ten.
const DEADLINE: Duration = Duration::from_secs(30);
/// Archives of gigabytes are unpacked meanwhile.
const LOAD_DEADLINE: Duration = Duration::from_secs(120);
/// How often the end of something is looked for that the engine does not announce.
const POLL: Duration = Duration::from_millis(20);
/// How many symbolic links are followed to a file.
const LINKS: usize = 8;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
