//! A sidecar with no bottle, as somebody runs it who has its image alone: told by files and variables.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use claude_bottle::engine::{ContainerId, Engine, ExecSpec};
use serde_json::{Value, json};
use testbed::{eventually, eventually_some};

use crate::Stage;
use crate::raw::{shown, told};
use crate::scene::LABEL;

/// How long the engine may take to find a sidecar healthy: it asks for the first time after 10 s.
const HEALTHY: Duration = Duration::from_secs(60);

/// How long an end that was asked for may take: longer than the longest drain.
const ENDED: Duration = Duration::from_secs(30);

/// A sidecar on the scene's network, hardened as its page says. It goes with the scene. Its functions
/// panic when they fail: they are a test's set-up.
#[derive(Debug)]
pub struct LoneSidecar<'a> {
    stage: &'a Stage,
    /// Its name, which is its image's; also its name on the network.
    pub name: &'static str,
    /// Its container.
    pub id: String,
}

impl<'a> LoneSidecar<'a> {
    /// `docker run --detach` of the image of that id, with variables, and files as the sidecar sees them.
    ///
    /// # Panics
    ///
    /// The engine refused.
    pub async fn run(
        stage: &'a Stage,
        name: &'static str,
        image: &str,
        variables: &[(&str, &str)],
        files: &[(&Path, &str)],
    ) -> Self {
        let binds: Vec<String> =
            files.iter().map(|(file, at)| format!("{}:{at}:ro", file.display())).collect();
        let env: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let network = stage.scene.network.name.clone();
        let spec = json!({
            "Image": image, "Env": env, "Labels": { LABEL: stage.scene.run },
            "HostConfig": {
                "Binds": binds, "NetworkMode": network, "ReadonlyRootfs": true,
                "CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"],
            },
            "NetworkingConfig": { "EndpointsConfig": { network: { "Aliases": [name] } } },
        });
        let path = format!("/containers/create?name=scene-{}-{name}", stage.scene.run);
        let created = asked(&path, &spec).await;
        let id = created["Id"].as_str().unwrap_or_else(|| panic!("no id in {created}")).to_owned();
        let sidecar = Self { stage, name, id };
        sidecar.start().await;
        sidecar
    }

    /// Starts it, at first or again.
    ///
    /// # Panics
    ///
    /// The engine refused.
    pub async fn start(&self) {
        asked(&format!("/containers/{}/start", self.id), &Value::Null).await;
    }

    /// What the engine shows of it, as `docker inspect` does.
    ///
    /// # Panics
    ///
    /// The engine does not show it.
    pub async fn inspect(&self) -> Value {
        let shown = shown(&format!("/containers/{}/json", self.id)).await;
        serde_json::from_slice(&shown).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Waits until the engine has found it healthy.
    ///
    /// # Panics
    ///
    /// It did not, or the sidecar ended.
    pub async fn healthy(&self) {
        eventually(HEALTHY, || async {
            let state = &self.inspect().await["State"];
            assert_eq!(state["Status"], "running", "{} ended: {state}", self.name);
            state["Health"]["Status"] == "healthy"
        })
        .await;
    }

    /// The exit code of its health check, run now as the engine runs it.
    ///
    /// # Panics
    ///
    /// The engine refused.
    pub async fn healthcheck(&self) -> i64 {
        let test = &self.inspect().await["Config"]["Healthcheck"]["Test"];
        let test = test.as_array().unwrap_or_else(|| panic!("{} has no health check", self.name));
        let command = test[1..].iter().filter_map(|word| word.as_str().map(str::to_owned)).collect();
        let spec = ExecSpec { command, output: true, ..ExecSpec::default() };
        let engine = &self.stage.engine;
        let exec = engine.exec(&ContainerId(self.id.clone()), &spec).await;
        let exec = exec.unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let code = eventually_some(ENDED, || async { engine.exec_exit_code(&exec.id).await.ok() });
        code.await
    }

    /// Its address on the scene's network.
    ///
    /// # Panics
    ///
    /// It has none.
    pub async fn address(&self) -> Ipv4Addr {
        let shown = self.inspect().await;
        let address = &shown["NetworkSettings"]["Networks"][&self.stage.scene.network.name]["IPAddress"];
        let address = address.as_str().and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("{} has no address: {shown}", self.name))
    }

    /// Sends it SIGTERM, as `docker stop` does first.
    ///
    /// # Panics
    ///
    /// The engine refused.
    pub async fn terminate(&self) {
        asked(&format!("/containers/{}/kill?signal=TERM", self.id), &Value::Null).await;
    }

    /// Waits for its end, and returns its exit code.
    ///
    /// # Panics
    ///
    /// It does not end.
    pub async fn ended(&self) -> i64 {
        eventually_some(ENDED, || async {
            let state = &self.inspect().await["State"];
            (state["Status"] == "exited").then(|| state["ExitCode"].as_i64())?
        })
        .await
    }

    /// `docker stop`: its exit code, and how long that took.
    ///
    /// # Panics
    ///
    /// The engine refused.
    pub async fn stop(&self) -> (i64, Duration) {
        let begin = Instant::now();
        asked(&format!("/containers/{}/stop?t=10", self.id), &Value::Null).await;
        let took = begin.elapsed();
        (self.ended().await, took)
    }
}

async fn asked(path: &str, body: &Value) -> Value {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let (status, answer) = told("POST", path, "application/json", &body).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(matches!(status, 200..=299), "POST {path}: {status} {answer}");
    serde_json::from_str(&answer).unwrap_or_default()
}
