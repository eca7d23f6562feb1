//! Connections to one route's upstream that wait for their next request.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use sidecar::workers::{MAX_WORKERS, here};
use tokio::time::Instant;

use crate::link::Link;

/// Idle connections of each thread, the one used last on top. Nobody takes from another thread's:
/// a connection is woken where it was opened.
#[derive(Debug, Default)]
pub struct Pool {
    idle: [Mutex<Vec<Idle>>; MAX_WORKERS],
}

#[derive(Debug)]
struct Idle {
    link: Link,
    since: Instant,
}

impl Pool {
    /// Takes a connection that is still good, if there is one.
    pub async fn take(&self) -> Option<Link> {
        std::future::poll_fn(|cx| {
            loop {
                let Some(Idle { mut link, since }) = self.here().pop() else { return Poll::Ready(None) };
                if since.elapsed() < IDLE && link.is_idle(cx) {
                    return Poll::Ready(Some(link));
                }
            }
        })
        .await
    }

    /// Puts a connection back whose answer was read to its end.
    pub fn put(&self, link: Link) {
        let mut idle = self.here();
        if idle.len() < MAX_IDLE {
            idle.push(Idle { link, since: Instant::now() });
        }
    }

    /// Closes the connections that waited too long or were closed by the upstream.
    pub fn sweep(&self) {
        let mut cx = Context::from_waker(Waker::noop());
        for idle in &self.idle {
            let mut idle = lock(idle);
            // The one used last is on top: those below were not needed since.
            let kept = idle.len().saturating_sub(KEPT);
            let mut at = 0;
            idle.retain_mut(|idle| {
                at += 1;
                let most = if at > kept { IDLE } else { SURPLUS };
                idle.since.elapsed() < most && idle.link.is_idle(&mut cx)
            });
            if idle.capacity() > 4 * idle.len().max(KEPT) {
                idle.shrink_to(KEPT);
            }
        }
    }

    fn here(&self) -> MutexGuard<'_, Vec<Idle>> {
        lock(&self.idle[here()])
    }
}

fn lock(idle: &Mutex<Vec<Idle>>) -> MutexGuard<'_, Vec<Idle>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Below the 60 s after which common servers close, so that it is rarely they who do.
const IDLE: Duration = Duration::from_secs(50);

/// How many may wait that long on a thread.
const KEPT: usize = 8;

/// How long more of them may: what a burst opened is not kept for long. The memory is then free for
/// what comes next; the allocator gives little of it back to the kernel.
const SURPLUS: Duration = Duration::from_secs(10);

/// More than this many at once were a burst.
const MAX_IDLE: usize = 256;
