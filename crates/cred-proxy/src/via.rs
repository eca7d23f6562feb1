//! The way through a CONNECT proxy, which learns the name and port of an upstream and nothing else.
//!
//! TLS with the upstream passes through the tunnel, so the proxy sees neither requests nor tokens. Its
//! own credentials are sent to it alone.

use std::io;

use sidecar::{upstream::Upstream, upstream_proxy::ProxyUrl};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use zeroize::Zeroizing;

/// Requests a tunnel to `upstream` on a connection to the proxy.
///
/// # Errors
///
/// I/O, or the proxy's refusal, of which only the status is kept.
pub async fn tunnel(stream: &mut TcpStream, proxy: &ProxyUrl, upstream: &Upstream) -> io::Result<()> {
    let mut request = Zeroizing::new(format!("CONNECT {upstream} HTTP/1.1\r\nHost: {upstream}\r\n"));
    if let Some(authorization) = proxy.authorization() {
        // Sized beforehand: a string that grows would leave a copy behind.
        request.reserve_exact(authorization.len() + 32);
        request.push_str("Proxy-Authorization: ");
        request.push_str(&authorization);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(io::Error::other("the proxy's answer is too long"));
        }
        // Byte by byte, so that nothing of the tunnel is taken: once for each connection.
        head.push(stream.read_u8().await?);
    }
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).unwrap_or_default();
    match std::str::from_utf8(status).unwrap_or_default().parse::<u16>() {
        Ok(200..=299) => Ok(()),
        Ok(status) => Err(io::Error::other(format!("the proxy answered {status}"))),
        Err(_) => Err(io::Error::other("the proxy does not speak HTTP")),
    }
}

/// A proxy that sends more has not understood.
const MAX_HEAD: usize = 16 * 1024;
