//! What an engine is started with: its command, and the files that the command names.

use std::fs;
use std::io;

use serde_json::json;

use super::Place;
use super::kind::{Family, Store};

/// Writes the configuration into the engine's state, and returns the command that reads it.
///
/// # Errors
///
/// A file cannot be written.
pub(super) fn write(place: &Place) -> io::Result<Vec<String>> {
    let state = place.state.display();
    let file = |name: &str, content: String| fs::write(place.state.join(name), content);
    let socket = format!("unix://{}", place.socket().display());
    match place.kind.descriptor().family {
        Family::Docker { store, minimum_api } => {
            let config = json!({
                "hosts": [socket],
                "data-root": format!("{state}/data"),
                // Of its own /run: paths of sockets are short.
                "exec-root": "/run/docker",
                "pidfile": "/run/docker.pid",
                "cgroup-parent": format!("/{}", place.cgroup()),
                "features": { "containerd-snapshotter": store == Store::Containerd },
            });
            file("daemon.json", config.to_string())?;
            let minimum = minimum_api.map(|version| format!("DOCKER_MIN_API_VERSION={version}"));
            let dockerd = ["dockerd".to_owned(), "--config-file".to_owned(), format!("{state}/daemon.json")];
            Ok(minimum.into_iter().chain(dockerd).collect())
        }
        Family::Podman => {
            file("containers.conf", containers_conf(&state.to_string()))?;
            file("storage.conf", storage_conf(&state.to_string()))?;
            Ok([
                format!("CONTAINERS_CONF={state}/containers.conf"),
                format!("CONTAINERS_STORAGE_CONF={state}/storage.conf"),
                "PODMAN_IGNORE_CGROUPSV1_WARNING=1".to_owned(),
                "podman".to_owned(),
                "system".to_owned(),
                "service".to_owned(),
                "--time=0".to_owned(),
                socket,
            ]
            .into())
        }
    }
}

fn containers_conf(state: &str) -> String {
    // No raised limits, which take CAP_SYS_RESOURCE; no systemd, which would make the cgroups.
    format!(
        r#"[containers]
default_ulimits = []
cgroupns = "host"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
helper_binaries_dir = ["/usr/lib/podman", "/usr/libexec/podman", "/usr/bin"]
tmp_dir = "/run/libpod"
static_dir = "{state}/static"
volume_path = "{state}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{state}/networks"
"#
    )
}

fn storage_conf(state: &str) -> String {
    format!("[storage]\ndriver = \"overlay\"\nrunroot = \"/run/containers\"\ngraphroot = \"{state}/data\"\n")
}
