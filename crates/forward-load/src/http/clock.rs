//! The clock that the origin and the load side share: the machine's monotonic clock.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine started. Only processes of one machine can compare them.
pub fn now_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
