//! An archive as `docker load` reads it, read here by the format's own rules.

use std::collections::BTreeMap;
use std::io::Read;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The files of an archive.
pub(crate) struct Archive(BTreeMap<String, Vec<u8>>);

/// One image of it.
pub(crate) struct Image {
    /// The digest of its configuration.
    pub(crate) id: String,
    pub(crate) config: Value,
    /// Paths, modes and contents of all its layers.
    pub(crate) files: Vec<(String, u32, Vec<u8>)>,
}

impl Archive {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Self(entries(bytes).into_iter().map(|(path, _, content)| (path, content)).collect())
    }

    pub(crate) fn images(&self) -> Vec<Image> {
        let manifest: Value = serde_json::from_slice(&self.0["manifest.json"]).unwrap();
        let image = |entry: &Value| {
            let config = &self.0[entry["Config"].as_str().unwrap()];
            let digest: String = Sha256::digest(config).iter().map(|byte| format!("{byte:02x}")).collect();
            let layers = entry["Layers"].as_array().unwrap().iter();
            Image {
                id: format!("sha256:{digest}"),
                config: serde_json::from_slice(config).unwrap(),
                files: layers.flat_map(|layer| entries(&self.0[layer.as_str().unwrap()])).collect(),
            }
        };
        manifest.as_array().unwrap().iter().map(image).collect()
    }

    pub(crate) fn only_image(&self) -> Image {
        let mut images = self.images();
        assert_eq!(images.len(), 1);
        images.remove(0)
    }
}

fn entries(tar: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let (path, mode) = (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        (path, mode, content)
    });
    entries.collect()
}
