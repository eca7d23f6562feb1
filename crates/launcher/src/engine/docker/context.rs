//! The current Docker context: the engine that the docker command uses by itself.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::digest::sha256;
use crate::engine::EngineError;

/// An engine, as a context describes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContextEndpoint {
    /// Its address, not yet parsed.
    pub(super) host: String,
    /// Whether the context has certificates for it, or says not to verify the engine's.
    pub(super) tls: bool,
}

/// The endpoint of the current context; `None` for the context `default`.
pub(super) fn current(env: &impl Fn(&str) -> Option<String>) -> Result<Option<ContextEndpoint>, EngineError> {
    let folder = env("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| env("HOME").map(|home| Path::new(&home).join(".docker")));
    let Some(folder) = folder else { return Ok(None) };
    let current = || {
        let text = std::fs::read(folder.join("config.json")).ok()?;
        serde_json::from_slice::<ClientConfig>(&text).ok()?.current_context
    };
    let Some(name) = env("DOCKER_CONTEXT").or_else(current) else { return Ok(None) };
    if name.is_empty() || name == "default" {
        return Ok(None);
    }
    endpoint(&folder.join("contexts"), &sha256(name.as_bytes()))
        .map_err(|source| EngineError::Context { name, source })
}

fn endpoint(contexts: &Path, digest: &str) -> io::Result<Option<ContextEndpoint>> {
    let text = std::fs::read(contexts.join("meta").join(digest).join("meta.json"))?;
    let Endpoint { host, skip_tls_verify } = serde_json::from_slice::<Meta>(&text)?.endpoints.docker;
    if host.is_empty() {
        return Ok(None);
    }
    let certificates = contexts.join("tls").join(digest).join("docker");
    let has_certificates = match std::fs::read_dir(certificates) {
        Ok(mut files) => files.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    Ok(Some(ContextEndpoint { host, tls: has_certificates || skip_tls_verify }))
}

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(rename = "currentContext")]
    current_context: Option<String>,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Endpoints")]
    endpoints: Endpoints,
}

#[derive(Deserialize)]
struct Endpoints {
    docker: Endpoint,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    skip_tls_verify: bool,
}

#[cfg(test)]
mod tests {
    use super::super::address::Address;
    use super::*;
    use crate::engine::Protocol;

    struct Config(tempfile::TempDir);

    impl Config {
        /// A configuration whose current context is `faraway`.
        fn new() -> Config {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("config.json"), r#"{"currentContext":"faraway"}"#).unwrap();
            Config(folder)
        }

        fn context(&self, name: &str, docker: &str) -> &Config {
            let meta = self.0.path().join("contexts/meta").join(sha256(name.as_bytes()));
            std::fs::create_dir_all(&meta).unwrap();
            let text = format!(r#"{{"Name":"{name}","Endpoints":{{"docker":{docker}}}}}"#);
            std::fs::write(meta.join("meta.json"), text).unwrap();
            self
        }

        fn certificate(&self, name: &str) -> &Config {
            let folder = self.0.path().join("contexts/tls").join(sha256(name.as_bytes())).join("docker");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("ca.pem"), "-").unwrap();
            self
        }

        fn find(&self, variables: &[(&str, &str)]) -> Result<String, EngineError> {
            let env = |name: &str| match variables.iter().find(|(key, _)| *key == name) {
                Some((_, value)) => Some((*value).to_owned()),
                None => (name == "DOCKER_CONFIG").then(|| self.0.path().to_str().unwrap().to_owned()),
            };
            Address::find(None, env).map(|address| address.to_string())
        }
    }

    #[test]
    fn the_current_context_names_the_engine() {
        let config = Config::new();
        config.context("faraway", r#"{"Host":"unix:///tmp/f.sock"}"#);
        config.context("other", r#"{"Host":"tcp://127.0.0.1:2375"}"#);
        assert_eq!(config.find(&[]).unwrap(), "unix:///tmp/f.sock");
        assert_eq!(config.find(&[("DOCKER_HOST", "")]).unwrap(), "unix:///tmp/f.sock");
        assert_eq!(config.find(&[("DOCKER_CONTEXT", "other")]).unwrap(), "tcp://127.0.0.1:2375");
        let error = config.find(&[("DOCKER_CONTEXT", "nowhere")]).unwrap_err();
        assert_eq!(error.to_string(), r#"could not read the Docker context "nowhere""#);
        config.context("broken", "7");
        let error = config.find(&[("DOCKER_CONTEXT", "broken")]).unwrap_err();
        assert!(matches!(error, EngineError::Context { .. }), "{error:?}");
    }

    #[test]
    fn a_context_over_ssh_or_tls_is_not_supported() {
        let config = Config::new();
        config.context("faraway", r#"{"Host":"ssh://build"}"#);
        config.context("certified", r#"{"Host":"tcp://127.0.0.1:2376"}"#).certificate("certified");
        config.context("skipping", r#"{"Host":"tcp://127.0.0.1:2376","SkipTLSVerify":true}"#);
        config.context("socket", r#"{"Host":"unix:///tmp/s.sock"}"#).certificate("socket");
        for (name, expected) in
            [("faraway", Protocol::Ssh), ("certified", Protocol::Tls), ("skipping", Protocol::Tls)]
        {
            let error = config.find(&[("DOCKER_CONTEXT", name)]).unwrap_err();
            assert!(
                matches!(error, EngineError::Unsupported { protocol, .. } if protocol == expected),
                "{name}: {error:?}"
            );
        }
        assert_eq!(config.find(&[("DOCKER_CONTEXT", "socket")]).unwrap(), "unix:///tmp/s.sock");
    }
}
