//! How the recording refuses.

use crate::engine::{EngineError, ObjectKind};

pub(super) fn refused(act: &str, status: u16, message: &str) -> EngineError {
    EngineError::Refused { act: act.to_owned(), status, message: message.to_owned() }
}

pub(super) fn missing(kind: ObjectKind, act: &str, message: &str) -> EngineError {
    EngineError::NotFound { kind, act: act.to_owned(), message: message.to_owned() }
}
