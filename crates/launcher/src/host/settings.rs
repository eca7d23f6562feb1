//! The launcher's environment variables, `CLAUDE_BOTTLE_*`.

use ipnet::Ipv4Net;

use super::ground::PREFIX;

/// Their values; an empty variable counts as unset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `CLAUDE_BOTTLE_IMAGE`: the agent's image, before the manifest's.
    pub image: Option<String>,
    /// `CLAUDE_BOTTLE_CONTAINER`: the agent container's name, as it is.
    pub container: Option<String>,
    /// `CLAUDE_BOTTLE_CONTAINER_HOME`: the agent's home in the container; else the user's own.
    pub container_home: Option<String>,
    /// `CLAUDE_BOTTLE_CRED_PROXY_PORT`.
    pub cred_proxy_port: u16,
    /// `CLAUDE_BOTTLE_RUNTIME`.
    pub runtime: Runtime,
    /// `CLAUDE_BOTTLE_SUBNETS`: where networks may lie, in place of the usual ranges.
    pub subnets: Option<Vec<Ipv4Net>>,
}

/// A variable with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    /// Another value is needed.
    #[error("CLAUDE_BOTTLE_{name}: expected {expected}, found {found:?}")]
    Value {
        /// The variable without its prefix.
        name: &'static str,
        /// What would be right.
        expected: &'static str,
        /// Its value.
        found: String,
    },
    /// The variable is for a later version.
    #[error("CLAUDE_BOTTLE_{0} is not implemented yet")]
    NotYet(&'static str),
}

impl SettingsError {
    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::Value { .. } => None,
            Self::NotYet(name) => Some(format!("unset CLAUDE_BOTTLE_{name}")),
        }
    }
}

/// Which runtime starts the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// runc, until the isolation is proved under runsc (gVisor) too.
    #[default]
    Auto,
    /// runc.
    Runc,
    /// runsc; an error where the engine does not have it.
    Runsc,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// [`SettingsError`] naming the variable.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let get = |name: &str| variable(&format!("CLAUDE_BOTTLE_{name}")).filter(|value| !value.is_empty());
        let wrong =
            |name, expected, found: &str| SettingsError::Value { name, expected, found: found.to_owned() };
        if let Some(other) = get("BACKEND").filter(|backend| backend != "docker") {
            return Err(wrong("BACKEND", "docker", &other));
        }
        // An image of ours where the user expects another would be worse than an error.
        for name in
            ["SSH_GATE_IMAGE", "CRED_PROXY_IMAGE", "PIPELOCK_IMAGE", "DERIVED_IMAGE", "CONTAINER_SKILLS_DIR"]
        {
            if get(name).is_some() {
                return Err(SettingsError::NotYet(name));
            }
        }
        let cred_proxy_port = match get("CRED_PROXY_PORT") {
            None => 9099,
            Some(text) => sidecar::upstream::parse_port(&text)
                // 9902 is its admin endpoint's.
                .filter(|port| *port != 0 && *port != 9902)
                .ok_or_else(|| wrong("CRED_PROXY_PORT", "a port between 1 and 65535, not 9902", &text))?,
        };
        let runtime = match get("RUNTIME").as_deref() {
            None | Some("auto") => Runtime::Auto,
            Some("runc") => Runtime::Runc,
            Some("runsc") => Runtime::Runsc,
            Some(other) => return Err(wrong("RUNTIME", "runc, runsc or auto", other)),
        };
        let subnets = get("SUBNETS").map(|text| {
            let subnet = |part: &str| part.trim().parse().ok().map(|net: Ipv4Net| net.trunc());
            let subnets: Option<Vec<_>> = text.split(',').map(subnet).collect();
            subnets.filter(|subnets| subnets.iter().all(|subnet| subnet.prefix_len() <= PREFIX)).ok_or_else(
                || wrong("SUBNETS", "IPv4 subnets of at least 16 addresses, such as 10.9.0.0/20", &text),
            )
        });
        let container_home = get("CONTAINER_HOME");
        if let Some(home) = container_home
            .as_deref()
            .filter(|home| !home.starts_with('/') || home.trim_end_matches('/').is_empty())
        {
            return Err(wrong("CONTAINER_HOME", "an absolute path other than /", home));
        }
        Ok(Self {
            image: get("IMAGE"),
            container: get("CONTAINER"),
            container_home,
            cred_proxy_port,
            runtime,
            subnets: subnets.transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Settings, SettingsError> {
        Settings::read(|asked| (asked == name).then(|| value.to_owned()))
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let settings = read("CLAUDE_BOTTLE_IMAGE", "").unwrap();
        assert_eq!((settings.image, settings.cred_proxy_port, settings.runtime), (None, 9099, Runtime::Auto));
    }

    #[test]
    fn a_variable_that_makes_no_sense_is_named() {
        for (name, value) in [
            ("CLAUDE_BOTTLE_BACKEND", "podman"),
            ("CLAUDE_BOTTLE_CRED_PROXY_PORT", "0"),
            ("CLAUDE_BOTTLE_RUNTIME", "kata"),
            ("CLAUDE_BOTTLE_CONTAINER_HOME", "home"),
            ("CLAUDE_BOTTLE_CONTAINER_HOME", "//"),
            ("CLAUDE_BOTTLE_SSH_GATE_IMAGE", "mine:latest"),
            ("CLAUDE_BOTTLE_SUBNETS", "10.0.0.0/29"),
            ("CLAUDE_BOTTLE_SUBNETS", "10.9.0.0/20,"),
        ] {
            let failure = read(name, value).unwrap_err();
            assert!(failure.to_string().contains(name), "{failure}");
        }
    }
}
