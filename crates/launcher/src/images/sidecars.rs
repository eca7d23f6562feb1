//! The launcher's own images: which binaries go into them, and where those lie.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use serde::{Serialize, Serializer};

use super::elf::is_static;
use super::{Healthcheck, ImageSpec, ImagesError, Layer};

/// A binary that the launcher carries and puts into images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binary {
    /// `ssh-gate`.
    SshGate,
    /// `cred-proxy`.
    CredProxy,
    /// `bottle-guest`, which the agent's container gets too.
    Guest,
}

impl Binary {
    /// Every binary.
    pub const ALL: [Binary; 3] = [Binary::SshGate, Binary::CredProxy, Binary::Guest];

    /// Its name, and its image's.
    pub fn name(self) -> &'static str {
        match self {
            Binary::SshGate => "ssh-gate",
            Binary::CredProxy => "cred-proxy",
            Binary::Guest => "bottle-guest",
        }
    }

    /// The settings with which its image serves alone, and the ports that it exposes.
    fn standalone(self) -> (&'static [(&'static str, &'static str)], &'static [&'static str]) {
        match self {
            Binary::SshGate => {
                (&[("SSH_GATE_BIND", "0.0.0.0"), ("SSH_GATE_PORTS", "/run/ssh-gate/ports.json")], &[])
            }
            Binary::CredProxy => (
                &[
                    ("CRED_PROXY_LISTEN", "0.0.0.0:9099"),
                    ("CRED_PROXY_ROUTES", "/run/cred-proxy/routes.json"),
                ],
                &["9099/tcp"],
            ),
            Binary::Guest => (&[], &[]),
        }
    }

    /// Whether it serves, as user 65532, and can be asked for its health. The guest's seal needs root.
    fn serves(self) -> bool {
        self != Binary::Guest
    }
}

impl FromStr for Binary {
    type Err = ImagesError;

    fn from_str(name: &str) -> Result<Binary, ImagesError> {
        let known = Binary::ALL.into_iter().find(|binary| binary.name() == name);
        known.ok_or_else(|| ImagesError::Unknown { name: name.to_owned() })
    }
}

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A static binary for an image.
#[derive(Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// Which.
    pub binary: Binary,
    /// Its architecture in Rust's words: `x86_64`, `aarch64`.
    pub arch: String,
    /// Its bytes.
    pub bytes: Cow<'static, [u8]>,
    /// Where it came from.
    pub source: Source,
}

/// Where a sidecar's binary came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The launcher carries it.
    Embedded,
    /// It lay in this file.
    File(PathBuf),
}

impl Sidecar {
    /// Finds a sidecar's binary for the engine's architecture: in the launcher itself, beside it,
    /// or under `../libexec/claude-bottle/<arch>/`.
    ///
    /// # Security
    ///
    /// `$PATH` is never searched. A file counts only as a static executable for that architecture.
    ///
    /// # Errors
    ///
    /// [`ImagesError::Unknown`] for another name, [`ImagesError::Missing`] with the places tried.
    pub fn find(binary: Binary, arch: &str) -> Result<Sidecar, ImagesError> {
        let executable = std::env::current_exe().and_then(std::fs::canonicalize).ok();
        Sidecar::find_near(binary, arch, EMBEDDED, executable.as_deref().and_then(Path::parent))
    }

    fn find_near(
        binary: Binary,
        arch: &str,
        embedded: &[(&str, &str, &'static [u8])],
        folder: Option<&Path>,
    ) -> Result<Sidecar, ImagesError> {
        let found = |bytes, source| Sidecar { binary, arch: arch.to_owned(), bytes, source };
        let name = binary.name();
        if let Some((_, _, bytes)) = embedded.iter().find(|(a, n, _)| (*a, *n) == (arch, name)) {
            return Ok(found(Cow::Borrowed(*bytes), Source::Embedded));
        }
        let mut tried = Vec::new();
        for path in folder.into_iter().flat_map(|folder| {
            [folder.join(name), folder.join("../libexec/claude-bottle").join(arch).join(name)]
        }) {
            match std::fs::read(&path) {
                Ok(bytes) if is_static(&bytes, arch) => {
                    return Ok(found(Cow::Owned(bytes), Source::File(path)));
                }
                _ => tried.push(path),
            }
        }
        Err(ImagesError::Missing { name, arch: arch.to_owned(), tried })
    }

    /// The bytes alone.
    pub fn into_bytes(self) -> Bytes {
        match self.bytes {
            Cow::Borrowed(bytes) => Bytes::from_static(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        }
    }

    /// Describes the sidecar's image: scratch, the binary at `/<name>`.
    pub fn image(&self) -> ImageSpec {
        let (name, daemon) = (self.binary.name(), self.binary.serves());
        let program = format!("/{name}");
        let (env, exposed_ports) = self.binary.standalone();
        let mut labels = vec![
            ("org.opencontainers.image.title", name),
            ("org.opencontainers.image.version", env!("CARGO_PKG_VERSION")),
            ("org.opencontainers.image.licenses", env!("CARGO_PKG_LICENSE")),
        ];
        labels.extend(
            // Set by `cargo xtask build`.
            option_env!("CLAUDE_BOTTLE_REVISION")
                .filter(|at| !at.is_empty())
                .map(|at| ("org.opencontainers.image.revision", at)),
        );
        ImageSpec {
            name: format!("localhost/claude-bottle/{name}"),
            arch: self.arch.clone(),
            healthcheck: daemon.then(|| Healthcheck {
                command: vec![program.clone(), "healthcheck".to_owned()],
                interval: 10,
                timeout: 3,
                start_period: 2,
            }),
            entrypoint: vec![program],
            env: owned(env),
            // The guest's seal needs root's capabilities, so its image names no other user.
            user: daemon.then(|| "65532:65532".to_owned()),
            exposed_ports: exposed_ports.iter().map(|port| (*port).to_owned()).collect(),
            labels: owned(&labels),
            layers: vec![Layer::executable(name, &self.bytes)],
            ..ImageSpec::default()
        }
    }
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sidecar { binary, arch, bytes, source } = self;
        let size = bytes.len();
        f.debug_struct("Sidecar")
            .field("binary", binary)
            .field("arch", arch)
            .field("size", &size)
            .field("source", source)
            .finish()
    }
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

// `EMBEDDED: &[(architecture, name, binary)]`, written by build.rs.
include!(concat!(env!("OUT_DIR"), "/sidecars.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedded_binary_wins_over_a_file() {
        let embedded: &[(&str, &str, &'static [u8])] = &[("x86_64", "ssh-gate", b"inside")];
        let found = Sidecar::find_near(Binary::SshGate, "x86_64", embedded, None).unwrap();
        assert_eq!((found.bytes.as_ref(), found.source), (b"inside".as_slice(), Source::Embedded));
        let other = Sidecar::find_near(Binary::SshGate, "aarch64", embedded, None);
        assert!(matches!(other, Err(ImagesError::Missing { name: "ssh-gate", .. })));
    }

    #[test]
    fn a_file_counts_only_as_a_static_binary_of_the_architecture() {
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        let libexec = root.path().join("libexec/claude-bottle/aarch64");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&libexec).unwrap();
        std::fs::write(bin.join("cred-proxy"), "#!/bin/sh\n").unwrap();
        // An ELF header for aarch64, without program headers.
        let mut elf = vec![0; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 183;
        std::fs::write(libexec.join("cred-proxy"), &elf).unwrap();

        let found = Sidecar::find_near(Binary::CredProxy, "aarch64", &[], Some(&bin)).unwrap();
        assert_eq!(found.bytes.as_ref(), elf);
        let missing =
            Sidecar::find_near(Binary::CredProxy, "x86_64", &[], Some(&bin)).unwrap_err().to_string();
        assert!(missing.contains("bin/cred-proxy or ") && missing.contains("libexec"), "{missing}");
    }

    #[test]
    fn a_daemon_is_confined_by_its_image_and_the_guest_is_not_a_daemon() {
        let image = |binary| {
            let bytes = Cow::Borrowed(b"x".as_slice());
            Sidecar { binary, arch: "x86_64".into(), bytes, source: Source::Embedded }.image()
        };
        let proxy = image(Binary::CredProxy);
        assert_eq!(proxy.entrypoint, ["/cred-proxy"]);
        assert_eq!(proxy.user.as_deref(), Some("65532:65532"));
        assert_eq!(proxy.exposed_ports, ["9099/tcp"]);
        assert_eq!(proxy.healthcheck.unwrap().command, ["/cred-proxy", "healthcheck"]);
        assert_eq!(image(Binary::SshGate).env["SSH_GATE_BIND"], "0.0.0.0");
        assert_eq!(image(Binary::Guest).healthcheck, None);
    }
}
