//! The few requests that are sent to an engine here, by HTTP/1.0 on its socket: to check whether it
//! responds, and to remove its containers.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The version that the engine reports; `None` while it does not answer.
pub(super) async fn version(socket: &Path) -> Option<String> {
    let answer = ask(socket, "GET", "/version").await.ok()?;
    Some(answer["Version"].as_str()?.to_owned())
}

/// Removes all containers, as far as the engine answers and obeys.
pub(super) async fn remove_containers(socket: &Path) {
    let Ok(Value::Array(containers)) = ask(socket, "GET", "/containers/json?all=1").await else { return };
    for container in containers {
        if let Some(id) = container["Id"].as_str() {
            // What it does not remove is killed with it.
            let _ = ask(socket, "DELETE", &format!("/containers/{id}?force=1")).await;
        }
    }
}

async fn ask(socket: &Path, method: &str, path: &str) -> io::Result<Value> {
    let whole = async {
        let mut engine = UnixStream::connect(socket).await?;
        // Such an answer ends with the connection, and comes without chunks.
        let request = format!("{method} {path} HTTP/1.0\r\nHost: engine\r\n\r\n");
        engine.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        engine.read_to_string(&mut answer).await?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok(if body.is_empty() { Value::Null } else { serde_json::from_str(body)? })
    };
    timeout(DEADLINE, whole).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Removing a container that ignores SIGTERM takes longest.
const DEADLINE: Duration = Duration::from_secs(15);
