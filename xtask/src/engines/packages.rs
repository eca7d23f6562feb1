//! An engine's files: Debian packages, unpacked into a folder that becomes its root.
//!
//! No script of a package is run; the few files that scripts would write are written here. apt's
//! state lies in the same cache and apart from the machine's.

use std::fs;
use std::io;
use std::path::PathBuf;

use e2e::debian::layer::{ROOT, Tree};
use e2e::debian::{Apt, DebianError};

use super::Place;

/// Why an engine has no files.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// Its packages could not be fetched or unpacked.
    #[error("could not unpack the Debian packages of {engine}")]
    Debian {
        /// The engine.
        engine: &'static str,
        /// What apt or dpkg printed.
        source: DebianError,
    },
    /// A folder of the cache could not be changed.
    #[error("could not use `{}`", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

/// Fetches and unpacks an engine's packages, unless they are unpacked already.
///
/// # Errors
///
/// There is no mirror, a package cannot be fetched, or the cache cannot be written.
pub(super) fn unpack(place: &Place) -> Result<(), PackagesError> {
    if place.root.is_dir() {
        return Ok(());
    }
    let (descriptor, cache) = (place.kind.descriptor(), &place.cache);
    let debian = |source| PackagesError::Debian { engine: descriptor.name, source };
    let folder = |path: &PathBuf| {
        let path = path.clone();
        move |source| PackagesError::Folder { path, source }
    };
    let apt = Apt::of_release(&cache.join("apt").join(descriptor.release), descriptor.release);
    let debs = apt.and_then(|apt| apt.fetch(&descriptor.family.packages())).map_err(debian)?;
    let mut files = Tree::unpack(&debs).map_err(debian)?;
    add_what_scripts_write(&mut files);
    // Renamed when complete: what is interrupted is unpacked again.
    let begun = place.root.with_extension("new");
    match fs::remove_dir_all(&begun) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(folder(&begun)(error)),
        _ => {}
    }
    fs::create_dir_all(&begun).map_err(folder(&begun))?;
    files.write_to(&begun).map_err(debian)?;
    fs::rename(&begun, &place.root).map_err(folder(&place.root))
}

fn add_what_scripts_write(files: &mut Tree) {
    for (path, mode) in [
        ("dev", 0o755),
        ("etc", 0o755),
        ("proc", 0o755),
        ("root", 0o700),
        ("run", 0o755),
        ("sys", 0o755),
        ("tmp", 0o1777),
        ("var", 0o755),
        ("var/tmp", 0o1777),
    ] {
        files.folder(path, mode, ROOT);
    }
    files.symlink("usr/bin/sh", "dash");
    for family in ["iptables", "ip6tables"] {
        for act in ["", "-save", "-restore"] {
            files.symlink(&format!("usr/sbin/{family}{act}"), &format!("{family}-nft{act}"));
        }
    }
    for (path, content) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        // A resolver on loopback, as systemd's: with it, engines before Docker 26 forward names from
        // an internal network (CVE-2024-29018).
        ("etc/resolv.conf", "nameserver 127.0.0.53\n"),
    ] {
        files.file(path, 0o644, ROOT, content);
    }
}
