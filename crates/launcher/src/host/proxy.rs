//! The CONNECT proxy by which this machine reaches the world: the manifest's, else that of its environment.

use sidecar::upstream_proxy::{NoProxy, ProxyUrl, ProxyUrlError, UpstreamProxy, VariableError};

/// A proxy, and where it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    /// Where it is.
    pub proxy: UpstreamProxy,
    /// `manifest` or `environment`.
    pub source: &'static str,
}

/// A proxy's URL is invalid. Never quotes it, since it may contain a password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// That of the manifest.
    #[error("upstream_proxy: invalid URL")]
    Manifest(#[from] ProxyUrlError),
    /// That of the environment.
    #[error(transparent)]
    Environment(#[from] VariableError),
}

impl ProxyError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Manifest(_) => None,
            Self::Environment(_) => Some(
                "unset the variable, or set \"upstream_proxy\" in the manifest: a URL, or false for none"
                    .to_owned(),
            ),
        }
    }
}

/// The proxy of the manifest, whose exceptions are the environment's `NO_PROXY`, or that of the environment.
///
/// # Errors
/// [`ProxyError`].
pub(crate) fn proxy(
    manifest: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Proxy>, ProxyError> {
    if let Some(url) = manifest {
        let url: ProxyUrl = url.parse()?;
        let proxy = UpstreamProxy { url, no_proxy: NoProxy::from_variables(variable) };
        return Ok(Some(Proxy { proxy, source: "manifest" }));
    }
    Ok(UpstreamProxy::from_variables(variable)?.map(|proxy| Proxy { proxy, source: "environment" }))
}
