//! Why an upstream did not answer.

use sidecar::exit::chain;

use crate::{link::LinkError, refusal::Reason};

/// Why no answer came.
#[derive(Debug)]
pub enum Silence {
    /// The connection told why.
    Link(LinkError),
    /// There was none in time.
    Timeout,
}

impl Silence {
    /// The word for downstream.
    pub fn reason(&self) -> Reason {
        let Self::Link(error) = self else { return Reason::UpstreamTimeout };
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            let io = error.downcast_ref::<std::io::Error>();
            if io.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut) {
                return Reason::UpstreamTimeout;
            }
            cause = error.source();
        }
        Reason::UpstreamProtocol
    }

    /// The whole story, for the log.
    pub fn tell(&self) -> String {
        match self {
            Self::Link(error) => chain(error),
            Self::Timeout => "the upstream sent no answer in time".to_owned(),
        }
    }
}
