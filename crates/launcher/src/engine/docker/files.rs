//! Archives that come out of the engine: they are the image's, so hostile input.

use std::io::{self, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::Incoming;
use serde::Deserialize;

use super::transport::Fault;
use crate::engine::{EngineError, FileFault};

/// What is at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A regular file.
    File(Bytes),
    /// A symbolic link to this absolute path.
    Link(String),
    /// Something that is not read.
    Unreadable(FileFault),
}

/// Reads the response of `GET archive` for `path`, and no more of it than a file of
/// [`FILE_LIMIT`] takes.
///
/// Docker returns a link at the end of a path itself, and follows those before it within the
/// container's root (20.10 and 26.1, read from them). It also reports where the link ends, so one
/// more request suffices. podman 5.4 follows all links.
pub(super) async fn found(path: &str, headers: &HeaderMap, body: Incoming) -> Result<Found, Fault> {
    let stat = headers.get("x-docker-container-path-stat").and_then(|value| Stat::read(value.as_bytes()));
    // What need not be transferred to be known. podman reports the link, and sends its target.
    match &stat {
        Some(stat) if stat.mode & DIRECTORY != 0 => return Ok(Found::Unreadable(FileFault::Directory)),
        Some(stat) if stat.mode & (LINK | SPECIAL) == 0 && stat.size > FILE_LIMIT => {
            return Ok(Found::Unreadable(FileFault::TooLarge));
        }
        _ => {}
    }
    let (archive, end) = beginning(body).await?;
    match entry(&archive) {
        Ok(Entry::File(bytes)) => Ok(Found::File(bytes)),
        Ok(Entry::Link(target)) => {
            let reported = stat.map(|stat| stat.link_target).filter(|target| target.starts_with('/'));
            Ok(Found::Link(reported.unwrap_or_else(|| resolved(path, &target))))
        }
        Ok(Entry::Unreadable(fault)) => Ok(Found::Unreadable(fault)),
        Err(_) if end == End::Cut => Ok(Found::Unreadable(FileFault::TooLarge)),
        Err(source) => Err(Fault::Unreadable(Box::new(source))),
    }
}

/// What an engine's error says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Nothing is there.
    File,
    /// It is behind too many links.
    Links,
}

/// Whether an error means that nothing is at the path, or that its links have no end. Every
/// engine reports it as a missing object or an error of its own.
pub(super) fn missing(error: &EngineError) -> Option<Missing> {
    let (EngineError::NotFound { message, .. } | EngineError::Refused { message, .. }) = error else {
        return None;
    };
    let ends = |words: &[&str]| words.iter().any(|word| message.ends_with(word));
    // Docker names the path, which may contain any of the words; podman does not.
    if message.starts_with("Could not find the file ")
        || ends(&[": not a directory", "no such file or directory"])
    {
        Some(Missing::File)
    } else if message.contains("too many links") || ends(&["too many levels of symbolic links"]) {
        Some(Missing::Links)
    } else {
        None
    }
}

/// The message of the engine against an image, in the progress it reports with status 200.
pub(super) fn load_refusal(progress: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        error: Option<String>,
    }
    serde_json::Deserializer::from_slice(progress)
        .into_iter::<Line>()
        .map_while(Result::ok)
        .find_map(|line| line.error)
}

/// What Docker reports of a path, in base64 and JSON. The mode has Go's bits.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stat {
    #[serde(default)]
    size: u64,
    #[serde(default)]
    mode: u32,
    #[serde(default)]
    link_target: String,
}

impl Stat {
    fn read(header: &[u8]) -> Option<Stat> {
        serde_json::from_slice(&STANDARD.decode(header).ok()?).ok()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole,
    Cut,
}

/// The body, or as much of it as a small file takes.
async fn beginning(mut body: Incoming) -> Result<(Bytes, End), Fault> {
    let mut archive = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        archive.extend_from_slice(&piece);
        if archive.len() as u64 > FILE_LIMIT + ENVELOPE {
            return Ok((archive.freeze(), End::Cut));
        }
    }
    Ok((archive.freeze(), End::Whole))
}

#[derive(Debug, PartialEq, Eq)]
enum Entry {
    File(Bytes),
    Link(String),
    Unreadable(FileFault),
}

/// The first entry of an archive.
fn entry(archive: &[u8]) -> io::Result<Entry> {
    let mut archive = tar::Archive::new(archive);
    // Docker leaves sockets out, and nothing remains.
    let Some(entry) = archive.entries()?.next() else { return Ok(Entry::Unreadable(FileFault::Special)) };
    let mut entry = entry?;
    match entry.header().entry_type() {
        kind if kind.is_file() && entry.size() > FILE_LIMIT => Ok(Entry::Unreadable(FileFault::TooLarge)),
        kind if kind.is_file() => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            if (bytes.len() as u64) < entry.size() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(Entry::File(bytes.into()))
        }
        kind if kind.is_symlink() => {
            let target = entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?;
            Ok(Entry::Link(target.to_string_lossy().into_owned()))
        }
        kind if kind.is_dir() => Ok(Entry::Unreadable(FileFault::Directory)),
        _ => Ok(Entry::Unreadable(FileFault::Special)),
    }
}

/// The absolute path that a link at `path` leads to. As in a root directory, `..` stops at `/`.
fn resolved(path: &str, target: &str) -> String {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let whole = if target.starts_with('/') { target.to_owned() } else { format!("{folder}/{target}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// What [`crate::engine::Engine::read_file`] promises.
const FILE_LIMIT: u64 = 1 << 20;
/// Room for tar's headers and padding.
const ENVELOPE: u64 = 64 << 10;
/// Of Go's `fs.FileMode`.
const DIRECTORY: u32 = 1 << 31;
/// Of Go's `fs.FileMode`.
const LINK: u32 = 1 << 27;
/// Of Go's `fs.FileMode`: devices, named pipes, sockets, and what it does not know.
const SPECIAL: u32 = 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_among_the_progress() {
        let progress = b"{\"stream\":\"Loading\"}\r\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n";
        assert_eq!(load_refusal(progress).as_deref(), Some("no space"));
        assert_eq!(load_refusal(b"{\"stream\":\"Loaded image\"}\n"), None);
    }

    #[test]
    fn a_link_leads_to_a_path_within_the_root() {
        for (path, target, expected) in [
            ("/etc/passwd", "/usr/lib/passwd", "/usr/lib/passwd"),
            ("/etc/passwd", "../usr/lib/passwd", "/usr/lib/passwd"),
            ("/etc/passwd", "passwd.real", "/etc/passwd.real"),
            ("/etc/passwd", "./a//b/../c", "/etc/a/c"),
            ("/etc/passwd", "../../../../../etc/shadow", "/etc/shadow"),
            ("/passwd", "..", "/"),
        ] {
            assert_eq!(resolved(path, target), expected, "{path} -> {target}");
        }
    }

    #[test]
    fn the_first_entry_decides() {
        let of = |kind, size: u64, contents: &[u8]| {
            let mut header = tar::Header::new_ustar();
            header.set_path("x").unwrap();
            header.set_entry_type(kind);
            header.set_size(size);
            header.set_cksum();
            let padding = vec![0; contents.len().next_multiple_of(512) - contents.len()];
            entry(&[header.as_bytes().as_slice(), contents, &padding, &[0; 1024]].concat()).unwrap()
        };
        use tar::EntryType;
        assert_eq!(of(EntryType::Regular, 4, b"four"), Entry::File("four".into()));
        assert_eq!(of(EntryType::Regular, 2 << 20, b""), Entry::Unreadable(FileFault::TooLarge));
        assert_eq!(of(EntryType::Directory, 0, b""), Entry::Unreadable(FileFault::Directory));
        for kind in [EntryType::Char, EntryType::Block, EntryType::Fifo, EntryType::Link] {
            assert_eq!(of(kind, 0, b""), Entry::Unreadable(FileFault::Special), "{kind:?}");
        }
        assert_eq!(entry(&[0; 1024]).unwrap(), Entry::Unreadable(FileFault::Special), "a socket");
        entry(b"not a tar").unwrap_err();
    }
}
