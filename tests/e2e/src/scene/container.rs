//! A container of a scene: created with the scene's label, started, and awaited until it says that it is ready.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use claude_bottle::engine::{
    ContainerId, ContainerSpec, Endpoint, Engine, NetworkId, NetworkMode, Output, OutputStream,
};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::{LABEL, SceneError};

/// How long a host may take until it is ready: it makes keys and a repository first.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// The most of a host's output that an error repeats.
const SAID: usize = 2000;

/// What one host of a scene is.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) run: &'a str,
    pub(super) image: &'a str,
    pub(super) name: &'a str,
    pub(super) network: &'a NetworkId,
    pub(super) address: Ipv4Addr,
}

/// A container with nothing but a network.
pub(super) fn spec(part: &Part<'_>) -> ContainerSpec {
    let endpoint =
        Endpoint { address: Some(part.address), aliases: vec![part.name.to_owned()], default_route: true };
    ContainerSpec {
        labels: BTreeMap::from([(LABEL.to_owned(), part.run.to_owned())]),
        network: NetworkMode::Network(part.network.clone(), endpoint),
        sysctls: BTreeMap::from([("net.ipv4.ip_forward".to_owned(), "0".to_owned())]),
        pids: Some(256),
        memory: Some(256 << 20),
        ..ContainerSpec::new(&format!("scene-{}-{}", part.run, part.name), part.image)
    }
}

pub(super) async fn create<E: Engine>(
    engine: &E,
    name: &str,
    spec: &ContainerSpec,
) -> Result<ContainerId, SceneError> {
    engine
        .create_container(spec)
        .await
        .map_err(|source| SceneError::Engine { act: format!("create {name}"), source })
}

/// Starts a container, tells it `told` over stdin, and waits until a line of its output holds `ready`.
pub(super) async fn start<E: Engine>(
    engine: &E,
    name: &str,
    id: &ContainerId,
    told: Option<String>,
    ready: &str,
) -> Result<(), SceneError> {
    let failed = |act: &str| {
        let act = format!("{act} {name}");
        move |source| SceneError::Engine { act, source }
    };
    let mut streams = engine.attach(id).await.map_err(failed("attach to"))?;
    engine.start(id).await.map_err(failed("start"))?;
    if let Some(told) = told {
        let sent = async {
            streams.input.write_all(told.as_bytes()).await?;
            streams.input.shutdown().await
        };
        sent.await.map_err(|source| SceneError::Tell { name: name.to_owned(), source })?;
    }
    let mut said = String::new();
    let is_ready = tokio::time::timeout(READY_WITHIN, says(&mut streams.output, ready, &mut said)).await;
    if is_ready == Ok(true) {
        return Ok(());
    }
    let start = said.len().saturating_sub(SAID);
    let said = said.get(start..).unwrap_or_default().trim().to_owned();
    Err(SceneError::NotReady { name: name.to_owned(), said })
}

async fn says(output: &mut OutputStream, awaited: &str, said: &mut String) -> bool {
    while let Some(Ok(Output::Stdout(piece) | Output::Stderr(piece))) = output.next().await {
        said.push_str(&String::from_utf8_lossy(&piece));
        if said.contains(awaited) {
            return true;
        }
    }
    false
}
