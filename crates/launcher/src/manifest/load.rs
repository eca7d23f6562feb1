//! Finding and reading the manifest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::at::At;
use super::fault::{Fault, ManifestError};
use super::{Manifest, TokenRef, document, json};

/// The largest manifest, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;

/// Finds the manifest: the one that was named, else the working directory's, else the user's.
///
/// # Errors
/// [`ManifestError::Absent`] with the places that were looked at.
pub fn find(named: Option<&Path>, config_home: Option<&Path>) -> Result<PathBuf, ManifestError> {
    // An empty variable counts as unset.
    if let Some(named) = named.filter(|named| !named.as_os_str().is_empty()) {
        return Ok(named.to_owned());
    }
    let mut places = vec![PathBuf::from("claude-bottle.json")];
    places.extend(config_home.map(|home| home.join("claude-bottle").join("claude-bottle.json")));
    // One that cannot be read is not passed over: another manifest would run in its place.
    let exists = |place: &&PathBuf| match place.symlink_metadata() {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
    };
    match places.iter().find(exists) {
        Some(place) => Ok(place.clone()),
        None => Err(ManifestError::Absent(places)),
    }
}

/// Reads and parses the manifest. Its paths become absolute: `~/` is `home`, others are relative to
/// the manifest's folder.
///
/// # Errors
/// [`ManifestError`].
pub fn load(path: &Path, home: Option<&Path>) -> Result<Manifest, ManifestError> {
    let file = path.display().to_string();
    let mut manifest = parse_bytes(&file, &read(path)?)?;
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let resolved = manifest.resolve(path.parent().unwrap_or(Path::new("/")), home);
    resolved.map_err(|fault| ManifestError::Fault(Fault { file, ..fault }))?;
    Ok(manifest)
}

/// Parses a manifest; `file` is how its faults name it. Its paths stay as they were written.
///
/// # Errors
/// [`ManifestError::Fault`] with line and column where the fault has one.
pub fn parse(file: &str, text: &str) -> Result<Manifest, ManifestError> {
    // Editors of Windows write one; RFC 8259 lets a reader skip it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let parse = || {
        let node = json::read(text).map_err(|error| Fault {
            file: String::new(),
            place: Some(json::place(text, error.at)),
            path: String::new(),
            message: error.message,
            hint: error.hint.map(str::to_owned),
        })?;
        document::manifest(&At::root(text, &node))
    };
    parse().map_err(|fault| ManifestError::Fault(Fault { file: file.to_owned(), ..fault }))
}

fn parse_bytes(file: &str, bytes: &[u8]) -> Result<Manifest, ManifestError> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return parse(file, text),
        Err(error) => error,
    };
    let utf16 = bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]);
    let message = if utf16 { "the text is UTF-16, not UTF-8" } else { "the text is not UTF-8" };
    let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
    Err(ManifestError::Fault(Fault {
        file: file.to_owned(),
        place: Some(json::place(&valid, valid.len())),
        path: String::new(),
        message: message.to_owned(),
        hint: Some("save the file as UTF-8".to_owned()),
    }))
}

/// Reads a regular file. The type is checked before it is opened, because opening a device may have
/// effects, and again after, because the file may have been replaced; that second opening must not wait.
fn read(path: &Path) -> Result<Vec<u8>, ManifestError> {
    let file = || path.display().to_string();
    let failed = |source| ManifestError::Read { file: file(), source };
    regular(&std::fs::metadata(path).map_err(failed)?)
        .map_err(|found| ManifestError::NotAFile { file: file(), found })?;
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let opened: File = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    regular(&opened.metadata().map_err(failed)?)
        .map_err(|found| ManifestError::NotAFile { file: file(), found })?;
    let mut bytes = Vec::new();
    opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ManifestError::TooLarge { file: file() });
    }
    Ok(bytes)
}

/// What a file is that is not a regular one.
fn regular(metadata: &std::fs::Metadata) -> Result<(), &'static str> {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => Ok(()),
        () if kind.is_dir() => Err("a directory"),
        () if kind.is_fifo() => Err("a FIFO"),
        () if kind.is_socket() => Err("a socket"),
        () => Err("a device"),
    }
}

impl Manifest {
    /// Makes its paths absolute.
    fn resolve(&mut self, folder: &Path, home: Option<&Path>) -> Result<(), Fault> {
        let home = home.filter(|home| home.is_absolute());
        let resolve = |path: &mut PathBuf, at: &dyn Fn() -> String| {
            *path = match (path.strip_prefix("~"), home) {
                (Ok(rest), Some(home)) if rest.as_os_str().is_empty() => home.to_owned(),
                (Ok(rest), Some(home)) => home.join(rest),
                (Ok(_), None) => {
                    let message = "`~` needs HOME, which is not set to an absolute path".to_owned();
                    let path = at();
                    return Err(Fault { file: String::new(), place: None, path, message, hint: None });
                }
                (Err(_), _) => folder.join(&*path),
            };
            Ok(())
        };
        for (name, bottle) in &mut self.bottles {
            for (n, row) in bottle.ssh.iter_mut().enumerate() {
                resolve(&mut row.identity_file, &|| format!("bottles.{name}.ssh[{n}].IdentityFile"))?;
            }
            for (n, route) in bottle.cred_proxy.routes.iter_mut().enumerate() {
                let at = |key: &str| format!("bottles.{name}.cred_proxy.routes[{n}].{key}");
                if let Some(path) = &mut route.ca_file {
                    resolve(path, &|| at("ca_file"))?;
                }
                if let TokenRef::File(path) = &mut route.token {
                    resolve(path, &|| at("token.file"))?;
                }
            }
        }
        Ok(())
    }
}
