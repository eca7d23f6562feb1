//! Waiting for a fact, with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Waits until `holds` answers true, asking again every few milliseconds.
///
/// # Panics
///
/// When `within` has passed and it still answers false.
#[track_caller]
pub fn eventually<F, Fut>(within: Duration, mut holds: F) -> impl Future<Output = ()>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    eventually_some(within, move || {
        let answer = holds();
        async move { answer.await.then_some(()) }
    })
}

/// Waits until `look` finds a value, and returns it.
///
/// # Panics
///
/// When `within` has passed and it has found none.
#[track_caller]
pub fn eventually_some<F, Fut, T>(within: Duration, mut look: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "{caller}: not true within {within:?}");
            sleep(STEP).await;
        }
    }
}

/// Short enough not to be felt, long enough not to spin.
const STEP: Duration = Duration::from_millis(5);
