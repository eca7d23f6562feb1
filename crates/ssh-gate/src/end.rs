//! How connections end: the numbers that are enforced on them, and the words of their closing line.

use std::time::Duration;

use sidecar::exit::chain;

use crate::connect::ConnectError;
use crate::identification::NotSsh;

/// The numbers that are enforced on connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most at once.
    pub(crate) connections: usize,
    /// From the accept to a connected upstream.
    pub(crate) connect: Duration,
    /// Silence after one side has ended.
    pub(crate) half_close: Duration,
    /// Silence while both are open; `None` is for ever.
    pub(crate) idle: Option<Duration>,
}

/// How a connection ended, in the words of its closing line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Reset,
    Idle,
    HalfClose,
    Drain,
    ConnectFailed,
    NotSsh,
    Limit,
    Error,
}

/// The side that caused the end; for [`End::Eof`], the side that finished first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Downstream,
    Upstream,
    Gate,
}

/// An end, and what it was made of.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) end: End,
    pub(crate) side: Side,
    pub(crate) error: Option<String>,
}

impl End {
    /// Every one, each at the place of its number.
    pub(crate) const ALL: [Self; 9] = [
        Self::Eof,
        Self::Reset,
        Self::Idle,
        Self::HalfClose,
        Self::Drain,
        Self::ConnectFailed,
        Self::NotSsh,
        Self::Limit,
        Self::Error,
    ];

    /// As the closing line says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Eof => "eof",
            Self::Reset => "reset",
            Self::Idle => "idle",
            Self::HalfClose => "half_close",
            Self::Drain => "drain",
            Self::ConnectFailed => "connect_failed",
            Self::NotSsh => "not_ssh",
            Self::Limit => "limit",
            Self::Error => "error",
        }
    }
}

impl Side {
    /// As the closing line says it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Gate => "gate",
        }
    }
}

impl Ended {
    /// An end that a peer made as it should.
    pub(crate) fn eof(side: Side) -> Self {
        Self { end: End::Eof, side, error: None }
    }

    /// An end that the gate made.
    pub(crate) fn by_gate(end: End) -> Self {
        Self { end, side: Side::Gate, error: None }
    }

    /// An end that a socket's error made, or a side that is not SSH but should be.
    pub(crate) fn fault(side: Side, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset};
        match error.kind() {
            _ if matches!(error.get_ref(), Some(inner) if inner.is::<NotSsh>()) => {
                Self { end: End::NotSsh, side, error: Some(error.to_string()) }
            }
            // The kernel calls a RST that follows a FIN a broken pipe.
            BrokenPipe | ConnectionReset => Self { end: End::Reset, side, error: None },
            _ => Self { end: End::Error, side, error: Some(error.to_string()) },
        }
    }

    /// An upstream that could not be connected.
    pub(crate) fn unconnected(error: &ConnectError) -> Self {
        if error.is_reset() {
            return Self { end: End::Reset, side: Side::Upstream, error: None };
        }
        let side = if error.is_own() { Side::Gate } else { Side::Upstream };
        Self { end: End::ConnectFailed, side, error: Some(chain(error)) }
    }
}
