//! The HTTPS API of a scene: it knows one token, and answers `/whoami` to whoever presents it.

use std::net::Ipv4Addr;

use claude_bottle::engine::{ContainerId, Engine};
use testbed::pki::Ca;

use super::SceneError;
use super::container::{self, Part};

/// What the API says once it accepts connections.
const READY: &str = "\"ready\"";

/// A running API.
#[derive(Clone)]
pub struct Api {
    /// The container.
    pub container: ContainerId,
    /// Its name on the scene's network, which its certificate is for.
    pub name: String,
    /// Its address there.
    pub address: Ipv4Addr,
    /// The certificate of the authority that it chains to, and nobody else does.
    pub ca_pem: String,
    /// The token that it accepts: a secret of the scene's.
    pub token: String,
}

/// Starts the API with a certificate of its own and `token`, both over stdin.
pub(super) async fn start<E: Engine>(engine: &E, part: Part<'_>, token: String) -> Result<Api, SceneError> {
    let (name, address) = (part.name.to_owned(), part.address);
    let ca = Ca::new();
    let cert = ca.server(&[&name]);
    let told = serde_json::json!({
        "listen": "0.0.0.0:443", "cert_pem": cert.cert_pem, "key_pem": cert.key_pem, "token": token,
    });
    let mut spec = container::spec(&part);
    spec.stdin = true;
    spec.read_only = true;
    spec.cap_add = vec!["NET_BIND_SERVICE".to_owned()];
    let container = container::create(engine, &name, &spec).await?;
    container::start(engine, &name, &container, Some(format!("{told}\n")), READY).await?;
    Ok(Api { container, name, address, ca_pem: ca.pem(), token })
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api")
            .field("container", &self.container)
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
