//! What sockets of both sides have in common: no delay, and an end for a peer that is gone.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// Silence before the first probe, between probes, and how many go unanswered.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// How long sent bytes may go unacknowledged. It also bounds a window that stays shut (tcp(7)), so it
/// is long enough for a living peer that is paused a while, and below the kernel's quarter of an hour.
const USER_TIMEOUT: Duration = Duration::from_secs(600);

/// Sets it. What is set on a listener holds for the connections that it accepts: six calls less for
/// each. A socket that failed meanwhile reports it when it is read.
pub(crate) fn tune(socket: &SockRef<'_>) {
    let (time, interval, retries) = KEEP_ALIVE;
    let keep_alive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&keep_alive);
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}
