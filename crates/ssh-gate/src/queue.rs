//! How much of what was sent a peer has not acknowledged: sock_diag(7), for one socket.
//!
//! It is asked only before a reset, which throws away what is still queued. The ioctl that answers
//! the same (SIOCOUTQ) cannot be called without unsafe code.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use tokio::net::TcpStream;

/// `SOCK_DIAG_BY_FAMILY`, linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`, linux/netlink.h.
const REQUEST: u16 = 1;
/// struct nlmsghdr.
const HEADER: usize = 16;
/// struct inet_diag_req_v2, linux/inet_diag.h.
const ASKED: usize = 56;
/// Where idiag_wqueue stands: after the header, four bytes, the socket's id, two numbers.
const WQUEUE: usize = HEADER + 4 + 48 + 8;

/// The bytes (a FIN counts as one) that are sent or queued and not acknowledged; `None` when the
/// kernel does not say, as under gVisor.
pub(crate) fn unacknowledged(stream: &TcpStream) -> Option<u32> {
    ask(stream.local_addr().ok()?, stream.peer_addr().ok()?).ok().flatten()
}

fn ask(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    send(&socket, &request(local, peer), SendFlags::empty())?;
    // The kernel answers within the call that asks.
    let mut answer = [0; 512];
    let (read, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    Ok(wqueue(&answer[..read]))
}

fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let (family, tcp) = (if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }, 6);
    let mut message = Vec::with_capacity(HEADER + ASKED);
    message.extend(((HEADER + ASKED) as u32).to_ne_bytes());
    message.extend(BY_FAMILY.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([family.as_raw() as u8, tcp, 0, 0]);
    message.extend(u32::MAX.to_ne_bytes()); // in every state
    message.extend(local.port().to_be_bytes());
    message.extend(peer.port().to_be_bytes());
    message.extend(padded(local.ip()));
    message.extend(padded(peer.ip()));
    message.extend([0; 4]); // on any interface
    message.extend([0xff; 8]); // whatever its cookie
    message
}

fn padded(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let mut padded = [0; 16];
            padded[..4].copy_from_slice(&address.octets());
            padded
        }
    }
}

fn wqueue(answer: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = answer.get(WQUEUE..WQUEUE + 4)?.try_into().ok()?;
    (kind == BY_FAMILY).then(|| u32::from_ne_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn what_nobody_reads_is_counted() {
        for loopback in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(loopback).await.unwrap();
            let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            assert_eq!(unacknowledged(&stream), Some(0));
            let _unread = listener.accept().await.unwrap();
            while stream.try_write(&[0; 65536]).is_ok() {}
            assert!(unacknowledged(&stream).unwrap() > 0);
        }
    }
}
