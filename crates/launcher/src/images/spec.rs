//! From a description of an image to the bytes of its archive.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::archive::{Blob, MANIFEST, Pieces, archive};
use super::{BuiltImage, Layer};

/// An image, described.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageSpec {
    /// Its name without a tag, e.g. `localhost/claude-bottle/ssh-gate`; the tag follows from its contents.
    pub name: String,
    /// Its architecture in Rust's words: `x86_64`, `aarch64`.
    pub arch: String,
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the command where there is no entrypoint.
    pub command: Vec<String>,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// The user, e.g. `65532:65532`; root when absent.
    pub user: Option<String>,
    /// The working directory.
    pub working_dir: Option<String>,
    /// Ports, e.g. `9099/tcp`.
    pub exposed_ports: Vec<String>,
    /// How the engine asks whether it is well.
    pub healthcheck: Option<Healthcheck>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
}

/// How the engine asks whether a container is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthcheck {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Seconds between two questions.
    pub interval: u64,
    /// Seconds an answer may take.
    pub timeout: u64,
    /// Seconds in which a failure does not count.
    pub start_period: u64,
}

impl ImageSpec {
    /// Builds the image. Equal descriptions give equal bytes and ids.
    pub fn build(&self) -> BuiltImage {
        let pieces = self.pieces();
        BuiltImage {
            config_digest: pieces.config.reference(),
            manifest_digest: pieces.manifest.reference(),
            tag: pieces.tag.clone(),
            pieces: Arc::new(pieces),
        }
    }

    /// Builds one archive of several images. Each has in it the digests that it has alone.
    pub fn build_together(images: &[ImageSpec]) -> Bytes {
        archive(&images.iter().map(ImageSpec::pieces).collect::<Vec<_>>())
    }

    fn pieces(&self) -> Pieces {
        let layers: Vec<Blob> = self.layers.iter().map(|Layer(tar)| Blob::new(tar.clone())).collect();
        let config = Blob::json(&self.configuration(&layers));
        let manifest = Blob::json(&manifest(&config, &layers));
        let version = config.digest[..12].to_owned();
        Pieces {
            tag: format!("{}:{version}", self.name),
            version,
            platform: self.platform().to_owned(),
            config,
            manifest,
            layers,
        }
    }

    fn configuration(&self, layers: &[Blob]) -> Value {
        let mut config = serde_json::Map::new();
        let mut set = |key: &str, value: Value| drop(config.insert(key.to_owned(), value));
        let env: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        for (key, list) in [("Entrypoint", &self.entrypoint), ("Cmd", &self.command), ("Env", &env)] {
            if !list.is_empty() {
                set(key, json!(list));
            }
        }
        for (key, text) in [("User", &self.user), ("WorkingDir", &self.working_dir)] {
            if let Some(text) = text {
                set(key, json!(text));
            }
        }
        if !self.exposed_ports.is_empty() {
            let ports: BTreeMap<&str, Value> =
                self.exposed_ports.iter().map(|port| (port.as_str(), json!({}))).collect();
            set("ExposedPorts", json!(ports));
        }
        if let Some(check) = &self.healthcheck {
            let test: Vec<&str> =
                ["CMD"].into_iter().chain(check.command.iter().map(String::as_str)).collect();
            let nanos = |seconds: u64| seconds.saturating_mul(1_000_000_000);
            set(
                "Healthcheck",
                json!({ "Test": test, "Interval": nanos(check.interval), "Timeout": nanos(check.timeout),
                        "StartPeriod": nanos(check.start_period) }),
            );
        }
        if !self.labels.is_empty() {
            set("Labels", json!(self.labels));
        }
        let diff_ids: Vec<String> = layers.iter().map(Blob::reference).collect();
        json!({
            "architecture": self.platform(), "os": "linux", "created": EPOCH, "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": vec![json!({ "created": EPOCH, "created_by": "claude-bottle" }); layers.len()],
        })
    }

    /// The architecture in Go's words.
    fn platform(&self) -> &str {
        match self.arch.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        }
    }
}

/// The OCI manifest.
fn manifest(config: &Blob, layers: &[Blob]) -> Value {
    let descriptor = |kind: &str, blob: &Blob| json!({ "mediaType": kind, "digest": blob.reference(), "size": blob.bytes.len() });
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config),
        "layers": layers.iter().map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer)).collect::<Vec<_>>(),
    })
}

/// A fixed time, since the time of building must not change the id.
const EPOCH: &str = "1970-01-01T00:00:00Z";

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::digest::sha256;

    fn small(contents: &[u8]) -> ImageSpec {
        ImageSpec {
            name: "localhost/claude-bottle/small".into(),
            arch: "x86_64".into(),
            entrypoint: vec!["/small".into()],
            env: BTreeMap::from([("B".into(), "2".into()), ("A".into(), "1".into())]),
            layers: vec![Layer::executable("small", contents)],
            ..ImageSpec::default()
        }
    }

    #[test]
    fn the_same_description_gives_the_same_bytes_and_another_gives_another_id() {
        let (first, again, other) = (small(b"x").build(), small(b"x").build(), small(b"y").build());
        assert_eq!(first, again);
        assert_ne!(first.config_digest, other.config_digest);
        assert_ne!(first.manifest_digest, other.manifest_digest);
        assert_ne!(first.tag, other.tag);
    }

    #[test]
    fn the_id_of_a_fixed_image_never_changes() {
        // A change here means that every user loads every image anew: make it on purpose.
        let built = small(b"x").build();
        assert_eq!(
            built.config_digest,
            "sha256:78b3093ff556708fd642727ee66474d68d167855710aaad463909a7997c81732"
        );
    }

    #[test]
    fn the_archive_is_a_docker_archive_and_an_oci_layout_whose_digests_agree() {
        let built = small(b"x").build();
        let files = files(&built.archive());
        let json = |path: &str| serde_json::from_slice::<Value>(&files[path]).unwrap();
        for (path, bytes) in &files {
            if let Some(digest) = path.strip_prefix("blobs/sha256/").filter(|digest| !digest.is_empty()) {
                assert_eq!(digest, sha256(bytes));
            }
        }

        let docker = &json("manifest.json")[0];
        let config = docker["Config"].as_str().unwrap();
        assert_eq!(config, built.config_digest.replace("sha256:", "blobs/sha256/"));
        assert_eq!(docker["RepoTags"][0], built.tag);
        assert!(built.tag.ends_with(&built.config_digest[7..19]), "{}", built.tag);
        assert_eq!(json(config)["config"]["Env"], json!(["A=1", "B=2"]));
        assert_eq!(json(config)["config"].get("Cmd"), None);

        let index = &json("index.json")["manifests"][0];
        assert_eq!(index["digest"], built.manifest_digest);
        let manifest = json(&built.manifest_digest.replace("sha256:", "blobs/sha256/"));
        assert_eq!(manifest["config"]["digest"], built.config_digest);
        assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
    }

    #[test]
    fn an_archive_of_several_images_holds_each_under_the_digests_that_it_has_alone() {
        let other = ImageSpec { name: "localhost/claude-bottle/other".into(), ..small(b"x") };
        let specs = [small(b"x"), small(b"y"), other];
        let files = files(&ImageSpec::build_together(&specs));
        let json = |path: &str| serde_json::from_slice::<Value>(&files[path]).unwrap();
        let (docker, index) = (json("manifest.json"), json("index.json"));
        assert_eq!(docker.as_array().unwrap().len(), 3);
        for (n, spec) in specs.iter().enumerate() {
            let alone = spec.build();
            assert_eq!(docker[n]["RepoTags"], json!([alone.tag]));
            assert_eq!(docker[n]["Config"], alone.config_digest.replace("sha256:", "blobs/sha256/"));
            let entry = &index["manifests"][n];
            assert_eq!(entry["digest"], alone.manifest_digest);
            assert_eq!(entry["annotations"]["io.containerd.image.name"], alone.tag);
        }
        // Names apart, the third is the first: what they have in common stands there once.
        assert_eq!(files.keys().filter(|path| path.starts_with("blobs/sha256/")).count(), 1 + 2 * 3);
    }

    /// The paths and contents of an archive, in which nothing but these may differ.
    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap(), header.gid().unwrap()), (0, 0, 0));
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(files.insert(path, bytes).is_none(), "a path appears twice");
        }
        files
    }
}
