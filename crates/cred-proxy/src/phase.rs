//! Where a connection from downstream is: waiting for a request, reading one, answering it.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::time::Instant;

/// Where a connection is. Shared between its stream and the requests that it carries.
#[derive(Clone, Debug)]
pub struct Phase(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    at: Mutex<At>,
    /// A head was cut.
    cut: AtomicBool,
}

/// A request is being answered; when dropped, the connection waits for the next one.
#[derive(Debug)]
pub struct Busy(Phase);

/// The places.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// Waiting for a request since then.
    Idle(Instant),
    /// Likewise, long enough to rest.
    Resting(Instant),
    /// The first byte of a head came then.
    Head(Instant),
    /// Answering. Content is watched where it is read.
    Busy,
    /// Another protocol is spoken.
    Tunnel,
}

impl Phase {
    /// Of a connection that was accepted now.
    pub fn begin() -> Self {
        Self(Arc::new(Shared { at: Mutex::new(At::Idle(Instant::now())), cut: AtomicBool::new(false) }))
    }

    /// A request's head is whole: it is being answered until the outcome is dropped.
    pub fn busy(&self) -> Busy {
        self.set(At::Busy);
        Busy(self.clone())
    }

    /// Whether a head of it was too large, and cut. See [`crate::watch::is_cut`].
    pub fn has_cut(&self) -> bool {
        self.0.cut.load(Relaxed)
    }

    /// A head was too large, and cut.
    pub fn cut(&self) {
        self.0.cut.store(true, Relaxed);
    }

    /// Another protocol is spoken from now on, in which each side ends on its own.
    pub fn tunnel(&self) {
        self.set(At::Tunnel);
    }

    /// Whether it has been silent for a moment, with all read and all written.
    pub fn rests(&self) -> bool {
        matches!(self.now(), At::Resting(_))
    }

    /// Where it is.
    pub fn now(&self) -> At {
        *self.0.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is from now on.
    pub fn set(&self, at: At) {
        *self.0.at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// A byte came from downstream: if it is the first of a head, the head's time begins.
    pub fn first_byte(&self) {
        let mut at = self.0.at.lock().unwrap_or_else(PoisonError::into_inner);
        if let At::Idle(_) | At::Resting(_) = *at {
            *at = At::Head(Instant::now());
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(At::Idle(Instant::now()));
    }
}
