//! A host's public key: `TYPE BASE64`, or a line of ssh-keyscan or known_hosts about that host.

use std::net::IpAddr;

use base64::Engine as _;
use sidecar::upstream::Host;

use super::at::At;
use super::fault::Fault;
use super::guard;

/// A host's public key: `ssh-ed25519 AAAA...`, without host names and comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey(pub String);

const WHAT: &str = "a public host key, `TYPE BASE64`";

/// Parses the key of a host. Nothing of the text is printed.
pub(super) fn host_key(at: &At<'_>, host: &Host, port: u16) -> Result<HostKey, Fault> {
    let text = at.text()?;
    let at = &at.clone().secret();
    if guard::is_key(text) {
        return Err(at
            .fault(format!("expected {WHAT}, found a private key"))
            .hint("use the host's line of `ssh-keyscan HOST`"));
    }
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(at.fault(format!("expected {WHAT}, on one line without control characters")));
    }
    let words: Vec<&str> = text.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    let name = row_name(host, port);
    match words.as_slice() {
        [kind, key, ..] if is_key_of(kind, key) => Ok(HostKey(format!("{kind} {key}"))),
        [marker @ ("@cert-authority" | "@revoked"), ..] => {
            Err(at.fault(format!("expected {WHAT}, found a line marked {marker}")))
        }
        [hosts, kind, key, ..] if is_key_of(kind, key) => {
            if hosts.starts_with("|1|") {
                let fault = at.fault("the host name of this known_hosts line is hashed");
                return Err(fault.hint("keep the key's type and its base64, and drop the word before them"));
            }
            if hosts.split(',').any(|word| is_row(word, host, port)) {
                return Ok(HostKey(format!("{kind} {key}")));
            }
            let fault = at.fault(format!("the line is about another host than {name}"));
            // The word itself is not printed: whatever was pasted here may be a secret.
            Err(fault.hint(format!("if it is the key of {name}, drop the first word")))
        }
        [first, ..] if first.starts_with("SHA256:") || first.starts_with("MD5:") => Err(at
            .fault(format!("expected {WHAT}, found a fingerprint"))
            .hint("use the host's line of `ssh-keyscan HOST`, and compare its fingerprint")),
        [] => Err(at.expected(WHAT).hint("use the host's line of `ssh-keyscan HOST`")),
        _ => Err(at.fault(format!("expected {WHAT}")).hint("use the host's line of `ssh-keyscan HOST`")),
    }
}

/// The name that a host's key goes by: `HOST`, or `[HOST]:PORT`.
pub(super) fn row_name(host: &Host, port: u16) -> String {
    let host = match host {
        // OpenSSH writes a bare literal, and brackets only for a port.
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    };
    if port == 22 { host } else { format!("[{host}]:{port}") }
}

/// Host and port of a word of known_hosts.
fn split(word: &str) -> Option<(Host, u16)> {
    let (host, port) = match word.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { 22 } else { sidecar::upstream::parse_port(port.strip_prefix(':')?)? })
        }
        None => (word, 22),
    };
    let literal = host.parse::<IpAddr>().ok().map(Host::Address);
    Some((literal.or_else(|| host.parse().ok())?, port))
}

fn is_row(word: &str, host: &Host, port: u16) -> bool {
    split(word).is_some_and(|found| found == (host.clone(), port))
}

/// Whether a blob is a public key of that type: RFC 4253 section 6.6, a list of strings of which the
/// first is the type.
fn is_key_of(kind: &str, key: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-@.".contains(&b);
    if !kind.bytes().all(plain) || kind.starts_with('-') || kind.contains("-cert-v") {
        return false;
    }
    let Ok(blob) = base64::engine::general_purpose::STANDARD.decode(key) else { return false };
    let (mut rest, mut fields) = (blob.as_slice(), Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let Some((field, after)) = after.split_at_checked(u32::from_be_bytes(*length) as usize) else {
            return false;
        };
        fields.push(field);
        rest = after;
    }
    let ed25519 = kind != "ssh-ed25519" || fields.get(1).is_some_and(|key| key.len() == 32);
    rest.is_empty() && fields.len() > 1 && fields[0] == kind.as_bytes() && ed25519
}
