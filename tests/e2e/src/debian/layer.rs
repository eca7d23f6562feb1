//! One layer from many packages: a file tree as data, written as the same bytes each time.
//!
//! Paths are sorted, times are zero, owners are the packages' numbers. `/bin`, `/sbin` and `/lib*`
//! are links into `/usr`, as on every Debian since 10; manuals and translations stay out.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use tar::{Archive, Builder, EntryType, Header};

use super::DebianError;

/// The folders that are links into `/usr`.
const MERGED: [&str; 5] = ["bin", "lib", "lib32", "lib64", "sbin"];

/// What no container of ours reads.
const LEFT_OUT: [&str; 6] = [
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/menu",
];

/// Who owns a path: user and group, by number.
pub type Owner = (u64, u64);

/// Root, who owns what packages bring.
pub const ROOT: Owner = (0, 0);

/// A file tree in the making; what is written later replaces what stood there.
#[derive(Debug, Default)]
pub struct Tree {
    entries: BTreeMap<PathBuf, Node>,
}

#[derive(Debug)]
struct Node {
    mode: u32,
    owner: Owner,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder,
    File(Vec<u8>),
    Symlink(PathBuf),
    HardLink(PathBuf),
}

impl Tree {
    /// The files of `debs`, merged; nothing of them is run.
    pub fn unpack(debs: &[PathBuf]) -> Result<Self, DebianError> {
        let mut tree = Self::default();
        for name in MERGED {
            tree.folder(&format!("usr/{name}"), 0o755, ROOT);
            tree.insert(
                PathBuf::from(name),
                0o777,
                ROOT,
                Kind::Symlink(PathBuf::from(format!("usr/{name}"))),
            );
        }
        for deb in debs {
            tree.add_package(deb)?;
        }
        Ok(tree)
    }

    /// A folder; its parents must be there.
    pub fn folder(&mut self, path: &str, mode: u32, owner: Owner) {
        self.insert(PathBuf::from(path), mode, owner, Kind::Folder);
    }

    /// A file with its content.
    pub fn file(&mut self, path: &str, mode: u32, owner: Owner, content: impl Into<Vec<u8>>) {
        self.insert(PathBuf::from(path), mode, owner, Kind::File(content.into()));
    }

    /// A symbolic link.
    pub fn symlink(&mut self, path: &str, to: &str) {
        self.insert(PathBuf::from(path), 0o777, ROOT, Kind::Symlink(PathBuf::from(to)));
    }

    /// The contents of the files under `folder`, one after another, in the order of their paths.
    pub fn joined(&self, folder: &str) -> Vec<u8> {
        let mut all = Vec::new();
        for (path, node) in &self.entries {
            if let Kind::File(content) = &node.kind
                && path.starts_with(folder)
            {
                all.extend_from_slice(content);
            }
        }
        all
    }

    /// The tree as an uncompressed tar, hard links last, since each must follow what it links to.
    pub fn to_layer(&self) -> Result<Vec<u8>, DebianError> {
        let mut layer = Builder::new(Vec::new());
        let (links, others): (Vec<_>, Vec<_>) =
            self.entries.iter().partition(|(_, node)| matches!(node.kind, Kind::HardLink(_)));
        for (path, node) in others.into_iter().chain(links) {
            append(&mut layer, path, node).map_err(DebianError::Write)?;
        }
        layer.into_inner().map_err(DebianError::Write)
    }

    /// Writes the tree into an empty folder, with its modes and, as root, its owners.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn write_to(&self, folder: &Path) -> Result<(), DebianError> {
        let layer = self.to_layer()?;
        let mut archive = Archive::new(layer.as_slice());
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(true);
        archive.unpack(folder).map_err(DebianError::Write)
    }

    fn insert(&mut self, path: PathBuf, mode: u32, owner: Owner, kind: Kind) {
        self.entries.insert(path, Node { mode, owner, kind });
    }

    fn add_package(&mut self, deb: &Path) -> Result<(), DebianError> {
        let unpack = |source| DebianError::Unpack { path: deb.to_path_buf(), source };
        let mut dpkg = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(deb)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|source| DebianError::Run { program: "dpkg-deb", source })?;
        let files = dpkg.stdout.take().expect("its stdout is piped");
        let read = self.add_archive(files);
        // Dropped by now is our end of the pipe: a dpkg-deb that we stopped reading from ends, too.
        let status = dpkg.wait().map_err(unpack)?;
        read.map_err(unpack)?;
        if !status.success() {
            return Err(unpack(io::Error::other(format!("dpkg-deb ended with {status}"))));
        }
        Ok(())
    }

    fn add_archive(&mut self, files: impl Read) -> io::Result<()> {
        let mut archive = Archive::new(files);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let Some(path) = placed(&entry.path()?) else { continue };
            let header = entry.header();
            let (mode, owner) = (header.mode()?, (header.uid()?, header.gid()?));
            let link = entry.link_name()?.map(std::borrow::Cow::into_owned);
            let kind = match (entry.header().entry_type(), link) {
                (EntryType::Directory, _) => Kind::Folder,
                (EntryType::Symlink, Some(to)) => Kind::Symlink(to),
                (EntryType::Link, Some(to)) => Kind::HardLink(placed(&to).unwrap_or(to)),
                (EntryType::Regular, _) => {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content)?;
                    Kind::File(content)
                }
                // Devices and the like: the engine makes those.
                _ => continue,
            };
            // The first package to bring a folder says how it is: they agree.
            if matches!(kind, Kind::Folder) && self.entries.contains_key(&path) {
                continue;
            }
            self.insert(path, mode, owner, kind);
        }
        // To its end, so that dpkg-deb can end, too.
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        Ok(())
    }
}

/// Where a package's path goes in the tree, `None` for the root, the links and what is left out.
fn placed(path: &Path) -> Option<PathBuf> {
    let plain: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let first = plain.components().next()?.as_os_str().to_str()?.to_owned();
    let placed = if !MERGED.contains(&first.as_str()) {
        plain
    } else if plain.components().count() > 1 {
        Path::new("usr").join(plain)
    } else {
        return None;
    };
    let copyright = placed.starts_with("usr/share/doc") && placed.ends_with("copyright");
    let left_out = LEFT_OUT.iter().any(|folder| placed.starts_with(folder));
    (!left_out || copyright).then_some(placed)
}

fn append(layer: &mut Builder<Vec<u8>>, path: &Path, node: &Node) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(node.owner.0);
    header.set_gid(node.owner.1);
    header.set_mtime(0);
    header.set_size(0);
    match &node.kind {
        Kind::Folder => {
            header.set_entry_type(EntryType::Directory);
            layer.append_data(&mut header, path, io::empty())
        }
        Kind::File(content) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(content.len() as u64);
            layer.append_data(&mut header, path, content.as_slice())
        }
        Kind::Symlink(to) => {
            header.set_entry_type(EntryType::Symlink);
            layer.append_link(&mut header, path, to)
        }
        Kind::HardLink(to) => {
            header.set_entry_type(EntryType::Link);
            layer.append_link(&mut header, path, to)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packages_bin_is_placed_under_usr() {
        assert_eq!(placed(Path::new("./bin/dash")), Some(PathBuf::from("usr/bin/dash")));
        assert_eq!(placed(Path::new("./usr/bin/env")), Some(PathBuf::from("usr/bin/env")));
    }

    #[test]
    fn the_root_the_merged_folders_and_the_manuals_are_left_out() {
        for path in ["./", "./lib64/", "./usr/share/man/man1/dash.1.gz", "./usr/share/doc/dash/NEWS.gz"] {
            assert_eq!(placed(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn licences_stay() {
        let copyright = Path::new("./usr/share/doc/dash/copyright");
        assert!(placed(copyright).is_some());
    }

    #[test]
    fn the_same_files_in_another_order_are_the_same_bytes() {
        let tree = |names: [&str; 2]| {
            let mut tree = Tree::default();
            for name in names {
                tree.file(name, 0o644, ROOT, name);
            }
            tree.to_layer().unwrap()
        };
        assert_eq!(tree(["a", "b"]), tree(["b", "a"]));
    }

    #[test]
    fn a_hard_link_follows_what_it_links_to() {
        let mut tree = Tree::default();
        tree.insert(PathBuf::from("a"), 0o644, ROOT, Kind::HardLink(PathBuf::from("b")));
        tree.file("b", 0o644, ROOT, "text");
        let layer = tree.to_layer().unwrap();
        let paths: Vec<_> = Archive::new(layer.as_slice())
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        assert_eq!(paths, [PathBuf::from("b"), PathBuf::from("a")]);
    }
}
