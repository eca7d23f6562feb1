//! The archive that an engine loads: a docker-archive and an OCI layout at once, of one image or more.

use bytes::Bytes;
use serde_json::{Value, json};

use super::layer::Archive;
use crate::digest::sha256;

/// An image, cut into the pieces that an archive holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pieces {
    /// Its name with its tag.
    pub(super) tag: String,
    /// The tag alone.
    pub(super) version: String,
    /// The architecture in Go's words.
    pub(super) platform: String,
    pub(super) config: Blob,
    pub(super) manifest: Blob,
    pub(super) layers: Vec<Blob>,
}

/// A piece that is named by its digest.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(super) digest: String,
    pub(super) bytes: Bytes,
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({}, {} bytes)", self.digest, self.bytes.len())
    }
}

/// Writes the images into one archive: equal images give equal bytes.
pub(super) fn archive(images: &[Pieces]) -> Bytes {
    let blobs: usize = images.iter().flat_map(|image| &image.layers).map(|layer| layer.bytes.len()).sum();
    let mut archive = Archive::with_capacity(blobs + OVERHEAD);
    archive.folder("blobs/");
    archive.folder("blobs/sha256/");
    let pieces = images.iter().flat_map(|image| image.layers.iter().chain([&image.config, &image.manifest]));
    let mut blobs: Vec<&Blob> = pieces.collect();
    blobs.sort_by(|a, b| a.digest.cmp(&b.digest));
    blobs.dedup_by(|a, b| a.digest == b.digest);
    for blob in blobs {
        archive.file(&blob.path(), 0o444, &blob.bytes);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": images.iter().map(Pieces::index_entry).collect::<Vec<_>>(),
    });
    let docker: Vec<Value> = images.iter().map(Pieces::docker_entry).collect();
    archive.file("index.json", 0o444, &bytes(&index));
    archive.file("manifest.json", 0o444, &bytes(&json!(docker)));
    archive.file("oci-layout", 0o444, &bytes(&json!({ "imageLayoutVersion": "1.0.0" })));
    archive.finish()
}

impl Pieces {
    fn index_entry(&self) -> Value {
        json!({
            "mediaType": MANIFEST, "digest": self.manifest.reference(), "size": self.manifest.bytes.len(),
            "annotations": {
                "io.containerd.image.name": self.tag, "org.opencontainers.image.ref.name": self.version,
            },
            "platform": { "architecture": self.platform, "os": "linux" },
        })
    }

    /// For engines before 25.
    fn docker_entry(&self) -> Value {
        let layers: Vec<String> = self.layers.iter().map(Blob::path).collect();
        json!({ "Config": self.config.path(), "RepoTags": [self.tag], "Layers": layers })
    }
}

impl Blob {
    pub(super) fn new(bytes: Bytes) -> Blob {
        Blob { digest: sha256(&bytes), bytes }
    }

    pub(super) fn json(value: &Value) -> Blob {
        Blob::new(bytes(value).into())
    }

    pub(super) fn reference(&self) -> String {
        format!("sha256:{}", self.digest)
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }
}

/// serde_json keeps the keys of its maps sorted (unless a crate turns on `preserve_order`: the
/// pinned id in `spec` would tell), so equal values are equal bytes.
fn bytes(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

/// Enough for headers, configurations and manifests, so that the archive does not move while it grows.
const OVERHEAD: usize = 64 * 1024;

/// The media type of an OCI manifest.
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
