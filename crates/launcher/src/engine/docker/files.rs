//! Archives that come out of the engine.

use std::io::{self, Read};

use bollard::errors::Error;
use bollard::query_parameters::DownloadFromContainerOptionsBuilder;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::Deserialize;

use crate::engine::ContainerId;

/// The tar archive of one path, refused when it is far larger than a file of [`FILE_LIMIT`].
pub(super) async fn download(client: &bollard::Docker, id: &ContainerId, path: &str) -> Result<Bytes, Error> {
    let options = DownloadFromContainerOptionsBuilder::default().path(path).build();
    let mut pieces = client.download_from_container(&id.0, Some(options));
    let mut archive = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        archive.extend_from_slice(&piece?);
        if archive.len() as u64 > FILE_LIMIT + ENVELOPE {
            return Err(too_large().into());
        }
    }
    Ok(archive.freeze())
}

/// The one regular file of an archive.
pub(super) fn only_file(archive: &[u8]) -> io::Result<Bytes> {
    let mut archive = tar::Archive::new(archive);
    let mut entry = archive.entries()?.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    if !entry.header().entry_type().is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not a regular file"));
    }
    if entry.size() > FILE_LIMIT {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

/// What the engine says against an image, in the progress it reports with status 200.
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

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB")
}

/// What [`crate::engine::Engine::read_file`] promises.
const FILE_LIMIT: u64 = 1 << 20;
/// Room for tar's headers and padding.
const ENVELOPE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_among_the_progress() {
        let progress = b"{\"stream\":\"Loading\"}\r\n{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n";
        assert_eq!(load_refusal(progress).as_deref(), Some("no space"));
        assert_eq!(load_refusal(b"{\"stream\":\"Loaded image\"}\n"), None);
    }
}
