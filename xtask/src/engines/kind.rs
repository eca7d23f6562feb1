//! The engines that can be started beside the machine's own: one descriptor each.

use clap::ValueEnum;

/// An engine, by its program and version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Docker 20.10
    Docker20,
    /// Docker 26.1
    Docker26,
    /// Docker 26.1, containerd image store
    Docker26c,
    /// Docker 28, of a release that moves
    Docker28,
    /// Docker 28, containerd image store, minimum API 1.44
    Docker28c,
    /// podman 5.4
    Podman54,
    /// podman 5, of a release that moves
    Podman5,
}

/// What an engine is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Its name on the command line and of its folder.
    pub name: &'static str,
    /// The release of Debian whose packages it is.
    pub release: &'static str,
    /// Which program it is, and how that is configured.
    pub family: Family,
}

/// The programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// dockerd with its containerd.
    Docker {
        /// Where images are kept.
        store: Store,
        /// The oldest API it serves; `None` for its own default.
        minimum_api: Option<&'static str>,
    },
    /// podman's service of Docker's API.
    Podman,
}

/// Where dockerd keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// dockerd's own graph drivers, the default until Docker 28.
    GraphDriver,
    /// containerd's snapshotters, the default of new installations from Docker 29 on.
    Containerd,
}

impl Kind {
    /// All that this kind is.
    pub const fn descriptor(self) -> Descriptor {
        const fn docker(store: Store) -> Family {
            Family::Docker { store, minimum_api: None }
        }
        let (name, release, family) = match self {
            Self::Docker20 => ("docker20", "bookworm", docker(Store::GraphDriver)),
            Self::Docker26 => ("docker26", "trixie", docker(Store::GraphDriver)),
            Self::Docker26c => ("docker26c", "trixie", docker(Store::Containerd)),
            Self::Docker28 => ("docker28", "sid", docker(Store::GraphDriver)),
            // The minimum of Docker 29, which is not packaged.
            Self::Docker28c => {
                ("docker28c", "sid", Family::Docker { store: Store::Containerd, minimum_api: Some("1.44") })
            }
            Self::Podman54 => ("podman54", "trixie", Family::Podman),
            Self::Podman5 => ("podman5", "sid", Family::Podman),
        };
        Descriptor { name, release, family }
    }
}

impl Family {
    /// The name of its unpacked files' folder, which all kinds of one release and family share.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker { .. } => "docker",
            Self::Podman => "podman",
        }
    }

    /// Its packages, and those of the tools that starting it takes.
    pub fn packages(self) -> Vec<&'static str> {
        let own: &[&str] = match self {
            Self::Docker { .. } => &["docker.io", "tini"],
            // runc: crun refuses cgroup v1.
            Self::Podman => &["podman", "netavark", "aardvark-dns", "conmon", "runc", "catatonit"],
        };
        [own, TOOLS].concat()
    }
}

const TOOLS: &[&str] = &["coreutils", "dash", "iptables", "mount", "nftables", "procps"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_called_as_on_the_command_line() {
        for kind in Kind::value_variants() {
            assert_eq!(kind.to_possible_value().unwrap().get_name(), kind.descriptor().name);
        }
    }
}
