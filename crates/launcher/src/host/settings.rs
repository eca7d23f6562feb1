//! The environment variables kept from the predecessor.

use crate::cli::failure::{Failure, Kind};

/// What the environment says; an empty variable counts as unset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `CLAUDE_BOTTLE_IMAGE`: the agent's image, before the manifest's.
    pub image: Option<String>,
    /// `CLAUDE_BOTTLE_CONTAINER`: the agent container's name, as it is.
    pub container: Option<String>,
    /// `CLAUDE_BOTTLE_CONTAINER_HOME`: the agent's home in there; else the user's own.
    pub container_home: Option<String>,
    /// `CLAUDE_BOTTLE_CRED_PROXY_PORT`.
    pub cred_proxy_port: u16,
    /// `CLAUDE_BOTTLE_RUNTIME`.
    pub runtime: Runtime,
}

/// Which runtime starts the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Runtime {
    /// runsc (gVisor) where the engine has it, else runc.
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
    /// [`Kind::Manifest`] naming the variable that does not say what it should.
    pub(crate) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let get = |name: &str| variable(&format!("CLAUDE_BOTTLE_{name}")).filter(|value| !value.is_empty());
        let wrong = |name: &str, expected: &str, found: &str| {
            Failure::new(
                Kind::Manifest,
                format!("expected CLAUDE_BOTTLE_{name} to be {expected}, found {found:?}"),
            )
        };
        if let Some(other) = get("BACKEND").filter(|backend| backend != "docker") {
            return Err(wrong("BACKEND", "docker", &other));
        }
        // Better an error than an image of ours where the user expects his own.
        for name in
            ["SSH_GATE_IMAGE", "CRED_PROXY_IMAGE", "PIPELOCK_IMAGE", "DERIVED_IMAGE", "CONTAINER_SKILLS_DIR"]
        {
            if get(name).is_some() {
                let text = format!("not yet: CLAUDE_BOTTLE_{name} comes with a later version");
                return Err(Failure::new(Kind::Manifest, text).hint(format!("unset CLAUDE_BOTTLE_{name}")));
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
        let container_home = get("CONTAINER_HOME");
        if let Some(home) = container_home.as_deref().filter(|home| !home.starts_with('/')) {
            return Err(wrong("CONTAINER_HOME", "an absolute path", home));
        }
        Ok(Self {
            image: get("IMAGE"),
            container: get("CONTAINER"),
            container_home,
            cred_proxy_port,
            runtime,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<Settings, Failure> {
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
            ("CLAUDE_BOTTLE_SSH_GATE_IMAGE", "mine:latest"),
        ] {
            let failure = read(name, value).unwrap_err();
            assert_eq!(failure.kind, Kind::Manifest);
            assert!(failure.to_string().contains(name), "{failure}");
        }
    }
}
