//! The identification line of SSH, with which each side of a row of protocol `ssh` must begin.
//!
//! RFC 4253 section 4.2, without what it lets a server send before that line. The line is inspected
//! in the kernel's queue, and read from there by the task that moves the bytes. So nothing is held,
//! and no byte of a side that is not SSH is forwarded. What is in the line
//! behind its version is the two sides' own affair; its end is CR LF or, as older implementations
//! send it (section 5.1) and OpenSSH takes it, LF alone.

use std::io;
use std::time::Duration;

use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::failed::taken;

/// The versions that speak the protocol: 2.0, and 1.99 for "2.0 and older" (section 5.1).
const VERSIONS: [&[u8]; 2] = [b"SSH-2.0-", b"SSH-1.99-"];
/// The longest line, its end included.
const MAX_LINE: usize = 255;
/// How long both lines may take, from the accept.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Why a side is not SSH.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSsh {
    /// It begins with something else.
    #[error("its first line does not begin with SSH-2.0- or SSH-1.99-")]
    Version,
    /// Its line has no end where it must have one.
    #[error("its first line is longer than {MAX_LINE} bytes")]
    TooLong,
    /// It ended before its line did.
    #[error("it ended before its first line did")]
    Short,
    /// It has not said who it is in time.
    #[error("its first line did not arrive within {} s", DEADLINE.as_secs())]
    Late,
}

/// Judges the first bytes of a side, however few there are: `Ok(true)` when its line is there,
/// `Ok(false)` when it may still become one.
///
/// # Errors
/// [`NotSsh`] as soon as nothing that follows can make it right.
pub fn judge(bytes: &[u8]) -> Result<bool, NotSsh> {
    let may_begin = |version: &&[u8]| {
        let both = version.len().min(bytes.len());
        version[..both] == bytes[..both]
    };
    if !VERSIONS.iter().any(may_begin) {
        return Err(NotSsh::Version);
    }
    match bytes.iter().take(MAX_LINE).position(|byte| *byte == b'\n') {
        Some(_) => Ok(true),
        None if bytes.len() < MAX_LINE => Ok(false),
        None => Err(NotSsh::TooLong),
    }
}

/// Waits until a side's line is there, and leaves it there.
///
/// # Errors
/// The socket's own, and [`NotSsh`] inside an [`io::Error`].
pub(crate) async fn first_line(side: &TcpStream, deadline: Instant) -> io::Result<()> {
    let late = |_| Err(io::Error::other(NotSsh::Late));
    timeout_at(deadline, shown(side)).await.unwrap_or_else(late)
}

async fn shown(side: &TcpStream) -> io::Result<()> {
    loop {
        // Asked before the queue is: what has ended or failed now has all of its bytes in there.
        let ready = side.ready(Interest::READABLE | Interest::ERROR).await?;
        let mut judged = Ok(false);
        let peeked = side.try_io(Interest::READABLE, || {
            let mut line = [0; MAX_LINE];
            let (read, _) = recv(side, &mut line, RecvFlags::PEEK)?;
            judged = judge(&line[..read]);
            match judged {
                // What is there has been seen: the next wake-up is for something more.
                Ok(false) if 0 < read => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        });
        match (judged, peeked) {
            (Ok(true), _) => return Ok(()),
            (Err(not_ssh), _) => return Err(io::Error::other(not_ssh)),
            (_, Ok(())) => return Err(io::Error::other(NotSsh::Short)),
            (_, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ if ready.is_error() => return Err(taken(side)),
            _ if ready.is_read_closed() => return Err(io::Error::other(NotSsh::Short)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_is_judged_by_its_beginning_its_end_and_its_length() {
        let long = |length: usize| format!("SSH-2.0-{}\r\n", "x".repeat(length - 10));
        for (text, expected) in [
            ("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", Ok(true)),
            ("SSH-1.99-old\n", Ok(true)),
            ("SSH-2.0-\n", Ok(true)),
            ("SSH-2.0-x\r\nand all that follows", Ok(true)),
            (&long(255), Ok(true)),
            (&long(256), Err(NotSsh::TooLong)),
            (&long(255)[..254], Ok(false)),
            ("", Ok(false)),
            ("S", Ok(false)),
            ("SSH-", Ok(false)),
            ("SSH-1.99", Ok(false)),
            ("SSH-2.0-no end yet\r", Ok(false)),
            ("s", Err(NotSsh::Version)),
            ("SSH-2.1", Err(NotSsh::Version)),
            ("SSH-1.5-", Err(NotSsh::Version)),
            ("SSH-2.0\n", Err(NotSsh::Version)),
            ("ssh-2.0-x\r\n", Err(NotSsh::Version)),
            ("\r\nSSH-2.0-x\r\n", Err(NotSsh::Version)),
            (" SSH-2.0-x\r\n", Err(NotSsh::Version)),
            ("Welcome\r\nSSH-2.0-x\r\n", Err(NotSsh::Version)),
            ("GET / HTTP/1.1\r\n", Err(NotSsh::Version)),
        ] {
            assert_eq!(judge(text.as_bytes()), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_in_pieces_is_judged_as_what_comes_at_once(bytes in begun()) {
            let whole = judge(&bytes);
            let mut pieces = (0..=bytes.len()).map(|n| judge(&bytes[..n]));
            prop_assert_eq!(pieces.find(|judged| *judged != Ok(false)).unwrap_or(Ok(false)), whole);
        }

        #[test]
        fn a_line_is_one_of_two_versions_with_an_end_within_255_bytes(bytes in begun()) {
            let begins = bytes.starts_with(b"SSH-2.0-") || bytes.starts_with(b"SSH-1.99-");
            let ends = bytes.iter().take(255).any(|byte| *byte == b'\n');
            prop_assert_eq!(judge(&bytes) == Ok(true), begins && ends);
        }
    }

    /// What a side may begin with: often nearly right.
    fn begun() -> impl Strategy<Value = Vec<u8>> {
        let version = prop_oneof!["SSH-2\\.0-", "SSH-1\\.99-", "SSH-[0-9.-]{0,6}", "[A-Z]{0,5}"];
        let rest = proptest::collection::vec(prop_oneof![9 => any::<u8>(), 1 => Just(b'\n')], 0..300);
        (version, rest).prop_map(|(version, rest)| [version.into_bytes(), rest].concat())
    }
}
