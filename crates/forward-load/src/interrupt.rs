//! Whether we were asked to end: by SIGINT, SIGTERM or SIGHUP.
//!
//! The first one ends the measurement at hand and keeps what was measured; a second one ends the
//! process at once, and the forwarders that it started.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Whether we were asked to end. Clones share the answer.
#[derive(Debug, Clone)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    changed: watch::Receiver<bool>,
    ask: Arc<watch::Sender<bool>>,
}

impl Interrupt {
    /// One that no signal reaches, for tests.
    pub fn deaf() -> Self {
        let (ask, changed) = watch::channel(false);
        Self { asked: Arc::default(), changed, ask: Arc::new(ask) }
    }

    /// Takes SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// # Errors
    ///
    /// The system lets us take no signals.
    pub fn listen() -> io::Result<Self> {
        let interrupt = Self::deaf();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let entered = runtime.enter();
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut hup = signal(SignalKind::hangup())?;
        drop(entered);
        let told = interrupt.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                for first in [true, false] {
                    let code = tokio::select! {
                        _ = int.recv() => 130,
                        _ = term.recv() => 143,
                        _ = hup.recv() => 129,
                    };
                    if first {
                        told.ask();
                    } else {
                        crate::compare::groups::kill_all();
                        #[allow(clippy::disallowed_methods, reason = "a second signal ends at once")]
                        std::process::exit(code);
                    }
                }
            });
        })?;
        Ok(interrupt)
    }

    /// Asks to end.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.ask.send_replace(true);
    }

    /// Whether we were asked to end.
    pub fn came(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// Waits until we are asked to end.
    pub async fn asked(&self) {
        let mut changed = self.changed.clone();
        // The sender lives as long as we do.
        let _ = changed.wait_for(|asked| *asked).await;
    }

    /// Sleeps, but no longer than until we are asked to end. Whether it was the whole time.
    pub fn sleep(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        while !self.came() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
        false
    }
}
