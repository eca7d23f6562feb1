//! A private key for ssh, and its public half.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::SecretError;

/// A private key without a passphrase.
pub(crate) struct PrivateKey {
    /// The file as `ssh-add -` takes it: its last line ends.
    pub bytes: Zeroizing<Vec<u8>>,
    /// `ssh-ed25519 AAAA...`
    pub public: String,
}

/// Takes a key file's content.
///
/// # Errors
/// [`SecretError`] when it is not a private key, or has a passphrase.
pub(super) fn parse(
    mut bytes: Zeroizing<Vec<u8>>,
    path: &Path,
    user: &str,
) -> Result<PrivateKey, SecretError> {
    let (file, user) = (path.to_owned(), user.to_owned());
    let public = match Form::of(&bytes) {
        Form::OpenSsh(public) => public,
        Form::OtherPem => derive(&bytes, path, &user)?,
        Form::Encrypted => return Err(SecretError::Passphrase { path: file, user }),
        Form::Unknown => return Err(SecretError::NotAKey { path: file, user }),
    };
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    Ok(PrivateKey { bytes, public })
}

enum Form {
    /// With its public half, which is not encrypted.
    OpenSsh(String),
    /// PKCS #1, PKCS #8, SEC 1: readable by OpenSSH.
    OtherPem,
    Encrypted,
    Unknown,
}

impl Form {
    fn of(key: &[u8]) -> Self {
        let Ok(text) = std::str::from_utf8(key) else { return Self::Unknown };
        let Some(header) = text.lines().find(|line| line.starts_with("-----BEGIN ")) else {
            return Self::Unknown;
        };
        if !header.contains("PRIVATE KEY") {
            return Self::Unknown;
        }
        if !header.contains("OPENSSH") {
            let encrypted = header.contains("ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED");
            return if encrypted { Self::Encrypted } else { Self::OtherPem };
        }
        let mut body = Zeroizing::new(String::with_capacity(text.len()));
        text.lines().filter(|line| !line.starts_with("-----")).for_each(|line| body.push_str(line.trim()));
        let Ok(blob) = STANDARD.decode(body.as_bytes()).map(Zeroizing::new) else { return Self::Unknown };
        match open_ssh(&blob) {
            Some((b"none", public)) => {
                let kind = string(public).map(|(kind, _)| String::from_utf8_lossy(kind).into_owned());
                kind.map_or(Self::Unknown, |kind| {
                    Self::OpenSsh(format!("{kind} {}", STANDARD.encode(public)))
                })
            }
            Some(_) => Self::Encrypted,
            None => Self::Unknown,
        }
    }
}

/// The cipher and the public key of OpenSSH's PROTOCOL.key: magic, cipher, KDF, its options, the
/// number of keys (1), the public key.
fn open_ssh(blob: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = blob.strip_prefix(b"openssh-key-v1\0")?;
    let (cipher, rest) = string(rest)?;
    let (_kdf, rest) = string(rest)?;
    let (_options, rest) = string(rest)?;
    let rest = rest.strip_prefix(&[0, 0, 0, 1])?;
    let (public, _) = string(rest)?;
    Some((cipher, public))
}

/// RFC 4251, section 5: a string is its length and its bytes.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Asks ssh-keygen, since only the private half is in the file. It gets the bytes that were read, so
/// that both halves are of one key.
fn derive(bytes: &[u8], path: &Path, user: &str) -> Result<String, SecretError> {
    let failed = |said: String| SecretError::PublicKey { path: path.to_owned(), user: user.to_owned(), said };
    let run = || {
        let mut child = Command::new("ssh-keygen")
            .args(["-y", "-P", "", "-f", "/dev/stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that ends without reading says why on its stderr.
            let _ = stdin.write_all(bytes);
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error| failed(format!("could not run ssh-keygen: {error}")))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let line = String::from_utf8_lossy(&output.stdout);
    let words: Vec<_> = line.split_whitespace().take(2).collect();
    Ok(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(passphrase: &str, format: &[&str]) -> (Result<PrivateKey, SecretError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let status = Command::new("ssh-keygen")
            .args(["-q", "-C", "me", "-N", passphrase, "-f"])
            .arg(&path)
            .args(format)
            .status()
            .expect("ssh-keygen is needed: install openssh-client");
        assert!(status.success());
        let bytes = Zeroizing::new(std::fs::read(&path).unwrap());
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        (parse(bytes, &path, "ssh host \"a\""), public.trim_end_matches(" me\n").to_owned())
    }

    #[test]
    fn the_public_half_is_the_one_that_ssh_keygen_wrote() {
        for format in
            [&["-t", "ed25519"][..], &["-t", "ecdsa"], &["-t", "ecdsa", "-m", "PEM"], &["-t", "rsa"]]
        {
            let (parsed, public) = key("", format);
            let parsed = parsed.unwrap();
            assert_eq!(parsed.public, public, "{format:?}");
            assert!(parsed.bytes.ends_with(b"\n"));
        }
    }

    #[test]
    fn a_key_with_a_passphrase_is_recognized() {
        for format in [&["-t", "ed25519"][..], &["-t", "ecdsa", "-m", "PEM"]] {
            assert!(matches!(key("secret", format).0, Err(SecretError::Passphrase { .. })), "{format:?}");
        }
        for bytes in
            [&b"ssh-ed25519 AAAA me@host"[..], b"", b"\xff", b"-----BEGIN OPENSSH PRIVATE KEY-----\n!"]
        {
            let parsed = parse(Zeroizing::new(bytes.to_vec()), Path::new("k"), "ssh host \"a\"");
            assert!(matches!(parsed, Err(SecretError::NotAKey { .. })), "{bytes:?}");
        }
    }
}
