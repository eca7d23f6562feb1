//! The launcher's own images: which binaries go into them, and where those lie.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::elf::is_static;
use super::{Healthcheck, ImageSpec, ImagesError, Layer};

/// The names of the binaries that the launcher puts into images.
pub const SIDECARS: [&str; 3] = ["ssh-gate", "cred-proxy", "bottle-guest"];

/// A static binary for an image.
#[derive(Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// One of [`SIDECARS`].
    pub name: &'static str,
    /// Its architecture in Rust's words: `x86_64`, `aarch64`.
    pub arch: String,
    /// The binary.
    pub binary: Cow<'static, [u8]>,
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
    pub fn find(name: &str, arch: &str) -> Result<Sidecar, ImagesError> {
        let executable = std::env::current_exe().and_then(std::fs::canonicalize).ok();
        Sidecar::find_near(name, arch, EMBEDDED, executable.as_deref().and_then(Path::parent))
    }

    fn find_near(
        name: &str,
        arch: &str,
        embedded: &[(&str, &str, &'static [u8])],
        folder: Option<&Path>,
    ) -> Result<Sidecar, ImagesError> {
        let name = SIDECARS
            .into_iter()
            .find(|known| *known == name)
            .ok_or_else(|| ImagesError::Unknown { name: name.to_owned() })?;
        if let Some((_, _, binary)) = embedded.iter().find(|(a, n, _)| (*a, *n) == (arch, name)) {
            let binary = Cow::Borrowed(*binary);
            return Ok(Sidecar { name, arch: arch.to_owned(), binary, source: Source::Embedded });
        }
        let mut tried = Vec::new();
        for path in folder.into_iter().flat_map(|folder| {
            [folder.join(name), folder.join("../libexec/claude-bottle").join(arch).join(name)]
        }) {
            match std::fs::read(&path) {
                Ok(binary) if is_static(&binary, arch) => {
                    let source = Source::File(path);
                    return Ok(Sidecar { name, arch: arch.to_owned(), binary: Cow::Owned(binary), source });
                }
                _ => tried.push(path),
            }
        }
        Err(ImagesError::Missing { name, arch: arch.to_owned(), tried })
    }

    /// The binary alone.
    pub fn into_binary(self) -> Bytes {
        match self.binary {
            Cow::Borrowed(binary) => Bytes::from_static(binary),
            Cow::Owned(binary) => Bytes::from(binary),
        }
    }

    /// Describes the sidecar's image: scratch, the binary at `/<name>`.
    pub fn image(&self) -> ImageSpec {
        let program = format!("/{}", self.name);
        let daemon = self.name != "bottle-guest";
        let (env, exposed_ports): (&[(&str, &str)], &[&str]) = match self.name {
            "ssh-gate" => {
                (&[("SSH_GATE_BIND", "0.0.0.0"), ("SSH_GATE_PORTS", "/run/ssh-gate/ports.json")], &[])
            }
            "cred-proxy" => (
                &[
                    ("CRED_PROXY_LISTEN", "0.0.0.0:9099"),
                    ("CRED_PROXY_ROUTES", "/run/cred-proxy/routes.json"),
                ],
                &["9099/tcp"],
            ),
            _ => (&[], &[]),
        };
        let mut labels = vec![
            ("org.opencontainers.image.title", self.name),
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
            name: format!("localhost/claude-bottle/{}", self.name),
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
            layers: vec![Layer::executable(self.name, &self.binary)],
            ..ImageSpec::default()
        }
    }
}

impl std::fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sidecar { name, arch, binary, source } = self;
        let size = binary.len();
        f.debug_struct("Sidecar")
            .field("name", name)
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
        let found = Sidecar::find_near("ssh-gate", "x86_64", embedded, None).unwrap();
        assert_eq!((found.binary.as_ref(), found.source), (b"inside".as_slice(), Source::Embedded));
        let other = Sidecar::find_near("ssh-gate", "aarch64", embedded, None);
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

        let found = Sidecar::find_near("cred-proxy", "aarch64", &[], Some(&bin)).unwrap();
        assert_eq!(found.binary.as_ref(), elf);
        let missing = Sidecar::find_near("cred-proxy", "x86_64", &[], Some(&bin)).unwrap_err().to_string();
        assert!(missing.contains("bin/cred-proxy or ") && missing.contains("libexec"), "{missing}");
    }

    #[test]
    fn a_daemon_is_confined_by_its_image_and_the_guest_is_not_a_daemon() {
        let image = |name| {
            Sidecar { name, arch: "x86_64".into(), binary: Cow::Borrowed(b"x"), source: Source::Embedded }
                .image()
        };
        let proxy = image("cred-proxy");
        assert_eq!(proxy.entrypoint, ["/cred-proxy"]);
        assert_eq!(proxy.user.as_deref(), Some("65532:65532"));
        assert_eq!(proxy.exposed_ports, ["9099/tcp"]);
        assert_eq!(proxy.healthcheck.unwrap().command, ["/cred-proxy", "healthcheck"]);
        assert_eq!(image("ssh-gate").env["SSH_GATE_BIND"], "0.0.0.0");
        assert_eq!(image("bottle-guest").healthcheck, None);
    }
}
