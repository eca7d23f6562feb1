//! All interfaces of the machine that the engine runs on, listened on from a container beside it.

use std::time::Duration;

use e2e::Stage;
use e2e::raw::told;
use e2e::scene::LABEL;
use serde_json::{Value, json};
use testbed::eventually;

/// What the machine's interfaces carry.
pub(crate) struct Wires<'a> {
    stage: &'a Stage,
    listener: String,
}

impl<'a> Wires<'a> {
    /// Listens for packets that contain one of these names. What listens goes with the scene.
    pub(crate) async fn listen(stage: &'a Stage, names: &[&str]) -> Self {
        // The engine's API itself, since the launcher's has no host network: no bottle has one.
        let spec = json!({
            "Image": stage.environment.images.host, "User": "0:0", "Entrypoint": ["sleep", "infinity"],
            "Labels": { LABEL: stage.scene.run },
            "HostConfig": { "NetworkMode": "host", "CapDrop": ["ALL"], "CapAdd": ["NET_RAW"] },
        });
        let listener = format!("scene-{}-wires", stage.scene.run);
        asked(&format!("/containers/create?name={listener}"), &spec).await;
        asked(&format!("/containers/{listener}/start"), &Value::Null).await;
        let names: String = names.iter().map(|name| format!("{name}\n")).collect();
        let begun = stage.exec(&listener, "0:0", include_str!("wires.sh"), names.as_bytes()).await;
        assert_eq!(begun.said, "listening\n");
        Self { stage, listener }
    }

    /// Waits for a packet with that name.
    pub(crate) async fn carry(&self, name: &str) {
        eventually(Duration::from_secs(20), || async { self.carried(name).await }).await;
    }

    /// Whether there was a packet with that name.
    pub(crate) async fn carried(&self, name: &str) -> bool {
        let notes = self.stage.exec(&self.listener, "0:0", "cat /tmp/wires", b"").await;
        notes.said.lines().any(|line| line == name)
    }
}

async fn asked(path: &str, body: &Value) {
    let (status, said) = told("POST", path, "application/json", body.to_string().as_bytes()).await;
    assert!(status < 300, "{path}: {status} {}", String::from_utf8_lossy(&said));
}
