//! Which requests may reach the ssh-agent: a pure decision on one message.
//!
//! The format is that of the IETF's SSH agent protocol (draft-ietf-sshm-ssh-agent, sections 3
//! to 5) and, for `session-bind@openssh.com`, of OpenSSH's PROTOCOL.agent. A request that
//! passes is checked to the last byte, so that nothing rides behind it.

/// The answer of the relay itself to a request that it refuses: SSH_AGENT_FAILURE, framed.
pub const FAILURE: [u8; 5] = [0, 0, 0, 1, 5];

/// The longest message, without its length field: OpenSSH's own limit (`AGENT_MAX_LEN`).
pub const MAX_LENGTH: usize = 256 * 1024;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The ssh-agent may see it.
    Forward(Request),
    /// The relay answers [`FAILURE`]; the ssh-agent never hears of it.
    Refuse(Refusal),
}

/// A request that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SSH_AGENTC_REQUEST_IDENTITIES: list the public keys.
    Identities,
    /// SSH_AGENTC_SIGN_REQUEST: sign with a key.
    Sign,
    /// Extension `query`: which extensions are there?
    Query,
    /// Extension `session-bind@openssh.com`: this connection belongs to that SSH session. The
    /// ssh-agent keeps it in mind as long as the connection lives.
    SessionBind,
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A message type that is not on the list.
    Type(u8),
    /// An extension that is not on the list.
    Extension,
}

/// A message that does not hold what its type promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not even a type.
    #[error("empty message")]
    Empty,
    /// The message ends before its last field does.
    #[error("truncated message of type {0}")]
    Truncated(u8),
    /// Bytes stand behind the last field.
    #[error("trailing bytes in message of type {0}")]
    Trailing(u8),
}

/// Decides on one request, given without its length field.
///
/// # Errors
///
/// The message is malformed: a peer that sends such a thing is not worth an answer.
pub fn decide(message: &[u8]) -> Result<Verdict, MessageError> {
    let (&kind, rest) = message.split_first().ok_or(MessageError::Empty)?;
    let fields = Fields { kind, rest };
    match kind {
        REQUEST_IDENTITIES => fields.end().map(|()| Verdict::Forward(Request::Identities)),
        SIGN_REQUEST => sign_request(fields),
        EXTENSION => extension(fields),
        other => Ok(Verdict::Refuse(Refusal::Type(other))),
    }
}

fn sign_request(mut fields: Fields<'_>) -> Result<Verdict, MessageError> {
    let _key = fields.string()?;
    let _data = fields.string()?;
    let _flags = fields.take(4)?;
    fields.end()?;
    Ok(Verdict::Forward(Request::Sign))
}

fn extension(mut fields: Fields<'_>) -> Result<Verdict, MessageError> {
    match fields.string()? {
        b"query" => {
            fields.end()?;
            Ok(Verdict::Forward(Request::Query))
        }
        b"session-bind@openssh.com" => {
            let _host_key = fields.string()?;
            let _session_id = fields.string()?;
            let _signature = fields.string()?;
            let _is_forwarding = fields.take(1)?;
            fields.end()?;
            Ok(Verdict::Forward(Request::SessionBind))
        }
        _ => Ok(Verdict::Refuse(Refusal::Extension)),
    }
}

/// The fields of a message that are not yet read.
struct Fields<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], MessageError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(MessageError::Truncated(self.kind))?;
        self.rest = rest;
        Ok(taken)
    }

    /// RFC 4251 section 5: a length of four bytes, then so many bytes of anything.
    fn string(&mut self) -> Result<&'a [u8], MessageError> {
        let length = self.take(4)?.iter().fold(0u32, |length, &byte| (length << 8) | u32::from(byte));
        self.take(usize::try_from(length).map_err(|_| MessageError::Truncated(self.kind))?)
    }

    fn end(&self) -> Result<(), MessageError> {
        if self.rest.is_empty() { Ok(()) } else { Err(MessageError::Trailing(self.kind)) }
    }
}

// Message numbers, draft-ietf-sshm-ssh-agent section 7.1.
const REQUEST_IDENTITIES: u8 = 11;
const SIGN_REQUEST: u8 = 13;
const EXTENSION: u8 = 27;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of a type and strings, then raw bytes.
    fn message(kind: u8, strings: &[&[u8]], tail: &[u8]) -> Vec<u8> {
        let mut message = vec![kind];
        for string in strings {
            message.extend(u32::try_from(string.len()).unwrap().to_be_bytes());
            message.extend(*string);
        }
        message.extend(tail);
        message
    }

    const BIND: &[u8] = b"session-bind@openssh.com";

    #[test]
    fn the_four_requests_pass() {
        let cases = [
            (message(11, &[], b""), Request::Identities),
            (message(13, &[b"key", b"data"], &[0, 0, 0, 2]), Request::Sign),
            (message(13, &[b"", b""], &[0; 4]), Request::Sign),
            (message(27, &[b"query"], b""), Request::Query),
            (message(27, &[BIND, b"key", b"id", b"signature"], &[0]), Request::SessionBind),
        ];
        for (message, request) in cases {
            assert_eq!(decide(&message), Ok(Verdict::Forward(request)));
        }
    }

    #[test]
    fn every_other_type_is_refused_whatever_it_holds() {
        for kind in (0..=255).filter(|kind| ![11, 13, 27].contains(kind)) {
            for tail in [&b""[..], b"anything", &[255; 9]] {
                let verdict = decide(&message(kind, &[], tail));
                assert_eq!(verdict, Ok(Verdict::Refuse(Refusal::Type(kind))));
            }
        }
    }

    #[test]
    fn every_other_extension_is_refused() {
        let names: [&[u8]; 7] = [
            b"",
            b"Query",
            b"query\0",
            b"restrict-destination-v00@openssh.com",
            b"session-bind@openssh.com ",
            b"session-bind",
            &[255; 300],
        ];
        for name in names {
            let verdict = decide(&message(27, &[name], b"and contents"));
            assert_eq!(verdict, Ok(Verdict::Refuse(Refusal::Extension)));
        }
    }

    #[test]
    fn a_message_cut_or_grown_by_one_byte_is_malformed() {
        let whole = [
            message(13, &[b"key", b"data"], &[0; 4]),
            message(27, &[BIND, b"key", b"id", b"signature"], &[1]),
            message(27, &[b"query"], b""),
        ];
        for message in whole {
            for end in 1..message.len() {
                assert_eq!(decide(&message[..end]), Err(MessageError::Truncated(message[0])), "cut at {end}");
            }
            let grown = [&message[..], &[0]].concat();
            assert_eq!(decide(&grown), Err(MessageError::Trailing(message[0])));
        }
        assert_eq!(decide(&[11, 0]), Err(MessageError::Trailing(11)));
        assert_eq!(decide(&[]), Err(MessageError::Empty));
    }

    #[test]
    fn a_length_that_overflows_is_only_truncated() {
        assert_eq!(decide(&[13, 255, 255, 255, 255, 1]), Err(MessageError::Truncated(13)));
        assert_eq!(decide(&[27, 255, 255, 255, 252]), Err(MessageError::Truncated(27)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_only_listed_types_pass(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Verdict::Forward(_)) = decide(&bytes) {
                prop_assert!([11, 13, 27].contains(&bytes[0]));
            }
        }

        #[test]
        fn what_passes_is_exactly_its_fields(
            kind in prop_oneof![Just(11u8), Just(13), Just(27)],
            strings in proptest::collection::vec(
                prop_oneof![Just(BIND.to_vec()), Just(b"query".to_vec()), any::<Vec<u8>>()], 0..5),
            tail in proptest::collection::vec(any::<u8>(), 0..6),
        ) {
            let strings: Vec<&[u8]> = strings.iter().map(Vec::as_slice).collect();
            let message = message(kind, &strings, &tail);
            // Whatever passes no longer does with one byte more.
            if let Ok(Verdict::Forward(_)) = decide(&message) {
                let grown = [&message[..], &[0]].concat();
                prop_assert_eq!(decide(&grown), Err(MessageError::Trailing(kind)));
            }
        }
    }
}
