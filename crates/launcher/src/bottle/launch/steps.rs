//! The steps of a launch, for people who watch it.

use std::time::{Duration, Instant};

/// Sees the steps of a launch. They run beside each other.
pub(crate) trait Watch: Sync + std::fmt::Debug {
    /// A step begins.
    fn begins(&self, step: &str);
    /// A step has ended, well or not.
    fn ended(&self, step: &str, took: Duration);
}

/// Carries out a step, and reports its begin and end to the watch.
pub(super) async fn step<T>(watch: &dyn Watch, name: &str, work: impl Future<Output = T>) -> T {
    watch.begins(name);
    let began = Instant::now();
    let done = work.await;
    watch.ended(name, began.elapsed());
    done
}
