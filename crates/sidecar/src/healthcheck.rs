//! The `healthcheck` subcommand: asks the admin endpoint of the daemon beside it, for `HEALTHCHECK` in a scratch image.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long the whole question may take, well below the engine's own timeout.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Asks `/readyz` and says whether the answer was 200.
///
/// # Errors
/// When nobody answers there.
pub fn ready(admin: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&reachable(admin), TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

/// Where a listener on every address is reached from beside it.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:9".parse().unwrap()), "127.0.0.1:9".parse().unwrap());
        assert_eq!(reachable("[::]:9".parse().unwrap()), "[::1]:9".parse().unwrap());
        assert_eq!(reachable("10.0.0.1:9".parse().unwrap()), "10.0.0.1:9".parse().unwrap());
    }
}
