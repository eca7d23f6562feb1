//! What the recording reads out of archives.

use std::collections::HashMap;
use std::io::{self, Read};

use bytes::Bytes;
use serde::Deserialize;

use crate::engine::Image;

/// A file, folder or link that was put into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutFile {
    /// Its absolute path, a folder's without a slash at its end.
    pub path: String,
    /// Its owner.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// Its mode, e.g. 0o600.
    pub mode: u32,
    /// Its contents; empty for a folder, the target for a link.
    pub contents: Bytes,
    /// Whether it is a folder.
    pub folder: bool,
}

/// The entries of a tar.
pub(super) fn files(archive: &[u8]) -> io::Result<Vec<PutFile>> {
    let entry = |entry: io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry?;
        let path = format!("/{}", entry.path()?.to_string_lossy().trim_matches('/').trim_start_matches("./"));
        let mut contents = Vec::new();
        match entry.link_name()? {
            Some(target) => contents.extend_from_slice(target.to_string_lossy().as_bytes()),
            None => drop(entry.read_to_end(&mut contents)?),
        }
        let header = entry.header();
        Ok(PutFile {
            path,
            uid: header.uid()?,
            gid: header.gid()?,
            mode: header.mode()?,
            contents: contents.into(),
            folder: header.entry_type().is_dir(),
        })
    };
    tar::Archive::new(archive).entries()?.map(entry).collect()
}

/// The images of a docker-archive, with their tags.
pub(super) fn images(archive: &[u8]) -> io::Result<Vec<(Image, Vec<String>)>> {
    let files: HashMap<String, Bytes> =
        files(archive)?.into_iter().map(|file| (file.path, file.contents)).collect();
    let read = |path: &str| {
        let missing =
            || io::Error::new(io::ErrorKind::InvalidData, format!("{path}: no such file in the archive"));
        files.get(&format!("/{path}")).ok_or_else(missing)
    };
    let manifest: Vec<Manifest> = serde_json::from_slice(read("manifest.json")?)?;
    let image = |manifest: Manifest| {
        for layer in &manifest.layers {
            read(layer)?;
        }
        let config = read(&manifest.config)?;
        let settings = serde_json::from_slice::<Configuration>(config)?.config;
        let id = format!("sha256:{}", crate::digest::sha256(config));
        Ok((
            Image { id, user: settings.user, working_dir: settings.working_dir },
            manifest.repo_tags.unwrap_or_default(),
        ))
    };
    manifest.into_iter().map(image).collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Configuration {
    config: Settings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    user: Option<String>,
    working_dir: Option<String>,
}
