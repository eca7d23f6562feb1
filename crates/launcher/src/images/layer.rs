//! One layer of an image: an uncompressed tar.

use std::io;

use bytes::Bytes;

/// An uncompressed tar of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer(pub Bytes);

impl Layer {
    /// A layer of one executable file at `/name`, root's, with mode 0555.
    pub fn executable(name: &str, binary: &[u8]) -> Layer {
        // A header, padding, and two empty blocks at the end.
        let mut archive = Archive::with_capacity(binary.len() + 4 * 512);
        archive.file(name, 0o555, binary);
        Layer(archive.finish())
    }
}

/// A tar that holds nothing but names, modes and contents: the same bytes every time.
pub(super) struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    pub(super) fn with_capacity(bytes: usize) -> Archive {
        Archive(tar::Builder::new(Vec::with_capacity(bytes)))
    }

    pub(super) fn folder(&mut self, path: &str) {
        self.append(path, tar::EntryType::Directory, 0o755, &[]);
    }

    pub(super) fn file(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.append(path, tar::EntryType::Regular, mode, contents);
    }

    fn append(&mut self, path: &str, kind: tar::EntryType, mode: u32, contents: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(contents.len() as u64);
        in_memory(self.0.append_data(&mut header, path, contents));
    }

    pub(super) fn finish(self) -> Bytes {
        in_memory(self.0.into_inner()).into()
    }
}

fn in_memory<T>(written: io::Result<T>) -> T {
    written.expect("writing to memory cannot fail, and the paths are short and relative")
}
