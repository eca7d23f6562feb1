//! Redaction: a token that an upstream echoes does not reach the caller.
//!
//! Found are the token itself, the base64 of `user:token` in full, and of the token wherever it
//! stands in an encoded text the characters that it alone decides; each in either base64 alphabet,
//! and each byte of them raw or escaped as in URLs and JSON, in any mixture. Every byte found is
//! replaced by `*`, so that lengths stay true.
//!
//! | file | |
//! |---|---|
//! | `redact/needle.rs` | one text to be found, and the walk that recognises it |
//! | `redact/escape.rs` | the escapes |
//! | `redact/finder.rs` | all of them at once, fast, and what must wait at the end of a piece |
//! | `redact/stream.rs` | pieces in, pieces out |
//!
//! Not found: other encodings (hex, HTML entities, compression, base64 in lines or of base64), and
//! a token that was changed or cut.

mod escape;
mod finder;
mod needle;
mod secret;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

pub use finder::Finder;
pub use secret::Secret;
pub use stream::Redactor;

/// The tokens of one route that are redacted: its own, and for a while those before it.
pub struct Redaction {
    state: Mutex<State>,
    version: AtomicU64,
}

struct State {
    current: Secret,
    replaced: Vec<(Secret, Instant)>,
    finder: Arc<Finder>,
}

impl Redaction {
    /// Redacts this.
    pub fn new(current: Secret) -> Self {
        let finder = Arc::new(Finder::new([&current]));
        Self {
            state: Mutex::new(State { current, replaced: Vec::new(), finder }),
            version: AtomicU64::new(0),
        }
    }

    /// Redacts another, and the one before for [`KEPT`] more.
    pub fn replace(&self, secret: Secret) {
        let mut state = self.state();
        if state.current == secret {
            return;
        }
        let now = Instant::now();
        let before = std::mem::replace(&mut state.current, secret);
        state.replaced.push((before, now + KEPT));
        state.forget(now);
        if state.replaced.len() > MOST_KEPT {
            state.replaced.remove(0);
            tracing::warn!(
                event = "redaction_limit",
                kept = MOST_KEPT,
                "a replaced token is not redacted any more"
            );
        }
        state.renew();
        self.version.fetch_add(1, Relaxed);
    }

    /// What finds them now, and the number of this set of tokens.
    pub fn finder(&self) -> (Arc<Finder>, u64) {
        let mut state = self.state();
        if !state.replaced.is_empty() && state.forget(Instant::now()) {
            state.renew();
        }
        (state.finder.clone(), self.version())
    }

    /// Changes when a token comes. Not when one goes: an answer that began with it may yet echo it.
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, now: Instant) -> bool {
        let before = self.replaced.len();
        self.replaced.retain(|(_, until)| *until > now);
        self.replaced.len() < before
    }

    fn renew(&mut self) {
        let replaced = self.replaced.iter().map(|(secret, _)| secret);
        self.finder = Arc::new(Finder::new(replaced.chain([&self.current])));
    }
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redaction").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// How long a replaced token stays redacted: answers that began with it are still on their way.
pub const KEPT: Duration = Duration::from_secs(600);

/// One a minute for [`KEPT`], and some to spare. Each makes the search a little slower.
const MOST_KEPT: usize = 12;
