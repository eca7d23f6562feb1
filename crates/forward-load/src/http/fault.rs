//! What went wrong with a request.

use std::io;

use super::message::MessageError;
use crate::report::Errors;

/// Why a request did not get its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection.
    #[error("could not connect: {0}")]
    Connect(io::ErrorKind),
    /// No TLS on the connection, or a certificate that does not verify.
    #[error("could not establish TLS, or the certificate is not valid")]
    Tls,
    /// The connection failed while the request was sent.
    #[error("could not send the request: {0}")]
    Send(io::ErrorKind),
    /// The connection failed while the answer was read.
    #[error("could not read the answer: {0}")]
    Receive(io::ErrorKind),
    /// The connection ended in place of an answer.
    #[error("the connection ended without an answer")]
    NoAnswer,
    /// The answer is cut short.
    #[error("the answer is cut short")]
    Truncated,
    /// The answer is not HTTP.
    #[error("the answer is not HTTP: {0}")]
    Malformed(MessageError),
    /// The origin did not get the credential.
    #[error("the origin did not get the credential (status 401)")]
    Credential,
    /// Another status than 2xx.
    #[error("the answer has status {0}")]
    Status(u16),
    /// The content differs from what the origin sent, or received from what was sent to it.
    #[error("the content is not what was sent")]
    Corrupt,
    /// Unrequested bytes after the response.
    #[error("bytes followed the answer")]
    Unasked,
    /// The connection ended where another request was to follow.
    #[error("the connection was not kept open")]
    NotKept,
    /// The answer did not come in time.
    #[error("the answer did not come in time")]
    Timeout,
    /// Not a fault of anyone: the window ended within a long body.
    #[error("cut at the end of the window")]
    Cut,
    /// An event of the stream is missing or came twice.
    #[error("an event of the stream is missing or came twice")]
    EventLost,
    /// The stream of events fell silent.
    #[error("the stream of events fell silent")]
    EventsSilent,
}

impl From<MessageError> for Fault {
    fn from(error: MessageError) -> Self {
        if error == MessageError::Truncated { Self::Truncated } else { Self::Malformed(error) }
    }
}

impl Fault {
    /// The kind under which it is counted.
    pub fn kind(&self) -> &'static str {
        use io::ErrorKind as Kind;
        match self {
            // All local ports in use is this tool's own limit, not the forwarder's.
            Self::Connect(Kind::AddrNotAvailable) => "no local port",
            Self::Connect(_) => "connect",
            Self::Tls => "tls",
            Self::Send(Kind::ConnectionReset | Kind::BrokenPipe)
            | Self::Receive(Kind::ConnectionReset | Kind::BrokenPipe) => "reset",
            Self::Send(_) => "send",
            Self::Receive(_) => "receive",
            Self::NoAnswer => "no answer",
            Self::Truncated => "early end",
            Self::Malformed(_) => "malformed",
            Self::Credential => "credential",
            Self::Status(_) => "status",
            Self::Corrupt => "integrity",
            Self::Unasked => "unasked bytes",
            Self::NotKept => "not kept",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::EventLost => "event lost",
            Self::EventsSilent => "events silent",
        }
    }

    /// Counts it.
    pub fn count_in(&self, errors: &mut Errors) {
        errors.add(self.kind(), self);
    }
}
