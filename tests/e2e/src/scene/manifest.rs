//! The manifest of a bottle `dev` that may use the scene, and of its agent `demo`.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Scene, SceneError, TOKEN_ENV};

impl Scene {
    /// A bottle that may reach every git host of the scene, each pinned, and the API under `/api/`,
    /// and nothing else. A test changes in it what it is about.
    ///
    /// The rows' aliases are the first labels of the hosts' names: `git` for `git.demo.internal`.
    pub fn manifest(&self) -> Value {
        let rows = self.git_hosts.iter().map(|host| {
            let alias = host.name.split('.').next().unwrap_or(&host.name);
            json!({
                "Host": alias, "Hostname": host.name, "User": "git", "Port": 22,
                "IdentityFile": host.identity, "KnownHostKey": host.host_key,
            })
        });
        json!({
            "bottles": { "dev": {
                "image": self.images.agent,
                "user": "node",
                "ssh": rows.collect::<Vec<_>>(),
                "cred_proxy": { "routes": [ {
                    "path": "/api/",
                    "upstream": format!("https://{}", self.api.name),
                    "auth": { "scheme": "bearer" },
                    "token": { "env": TOKEN_ENV },
                    "ca_file": self.folder().join("ca.pem"),
                    "allow_private_upstream": true,
                } ] },
                "egress_network": self.network.name,
                "limits": { "memory": "1GiB", "cpus": 2, "pids": 256 },
            } },
            "agents": { "demo": { "bottle": "dev", "command": ["bash"] } },
        })
    }

    /// Writes a manifest, and the API's authority that it names, and returns the manifest's path.
    ///
    /// # Errors
    ///
    /// A file could not be written.
    pub fn write_manifest(&self, manifest: &Value) -> Result<PathBuf, SceneError> {
        let path = self.folder().join("claude-bottle.json");
        for (path, content) in [
            (self.folder().join("ca.pem"), self.api.ca_pem.clone()),
            (path.clone(), format!("{manifest:#}\n")),
        ] {
            fs::write(&path, content).map_err(|source| SceneError::File { path, source })?;
        }
        Ok(path)
    }
}
