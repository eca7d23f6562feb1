//! The kernel's routes over rtnetlink(7): list the default ones, delete one.
//!
//! Only what a seal needs, and no external program: the guest runs in images that have none.

use std::{io, net::IpAddr, os::fd::OwnedFd, time::Duration};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, netdevice::index_to_name,
    netlink::SocketAddrNetlink, recv, send, socket_with, sockopt,
};

use crate::route_table::{DefaultRoute, Family};

/// A socket to the kernel's routing tables, those of our network namespace.
#[derive(Debug)]
pub struct Routes {
    socket: OwnedFd,
    sequence: u32,
}

/// A default route that leads somewhere, as the kernel described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The index of its network interface; a route of several hops has none of its own.
    interface: Option<u32>,
    gateway: Option<IpAddr>,
    /// struct rtmsg, made fit for a deletion.
    head: [u8; RTMSG],
    /// The attributes that tell it from others.
    attributes: Vec<u8>,
}

impl Routes {
    /// Opens the socket.
    ///
    /// # Errors
    ///
    /// As socket(2).
    pub fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None, // NETLINK_ROUTE is number 0, the default
        )?;
        bind(&socket, &SocketAddrNetlink::new(0, 0))?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(DEADLINE))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Lists the default routes of one family, in all tables, that lead somewhere: a default
    /// route of type `unreachable` or the like is no way out.
    ///
    /// # Errors
    ///
    /// The kernel refuses or does not answer.
    pub fn defaults(&mut self, family: Family) -> io::Result<Vec<Listed>> {
        let mut head = [0; RTMSG];
        head[0] = family.number();
        self.ask(RTM_GETROUTE, NLM_F_DUMP, &head)?;
        let mut found = Vec::new();
        self.answers(|kind, payload| {
            if kind == RTM_NEWROUTE && payload.first() == Some(&family.number()) {
                found.extend(default_route(payload));
            }
        })?;
        Ok(found)
    }

    /// Describes a listed route to a person.
    #[must_use]
    pub fn describe(&self, family: Family, route: &Listed) -> DefaultRoute {
        let name = |index| index_to_name(&self.socket, index).unwrap_or_else(|_| format!("number {index}"));
        let interface = route.interface.map_or_else(|| "unknown".to_owned(), name);
        DefaultRoute { family, interface, gateway: route.gateway }
    }

    /// Deletes a route; false if it is no longer there.
    ///
    /// # Errors
    ///
    /// The kernel refuses: without NET_ADMIN it always does.
    pub fn delete(&mut self, route: &Listed) -> io::Result<bool> {
        self.ask(RTM_DELROUTE, NLM_F_ACK, &[&route.head[..], &route.attributes].concat())?;
        match self.answers(|_, _| ()) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ask(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(NLMSGHDR + payload.len()).map_err(|_| broken())?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(payload);
        send(&self.socket, &message, SendFlags::empty())?;
        Ok(())
    }

    /// Takes the answers to our last question, to their end.
    fn answers(&self, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let (_, length) = recv(&self.socket, &mut buffer[..], RecvFlags::TRUNC)?;
            let mut rest = buffer.get(..length).ok_or_else(broken)?;
            while !rest.is_empty() {
                let message = Message::split_off(&mut rest).ok_or_else(broken)?;
                if message.sequence != self.sequence {
                    continue;
                }
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return match i32::from_ne_bytes(array(message.payload, 0).ok_or_else(broken)?) {
                            0 => Ok(()),
                            error => Err(io::Error::from_raw_os_error(error.saturating_neg())),
                        };
                    }
                    kind => each(kind, message.payload),
                }
            }
        }
    }
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::V4 => AF_INET,
            Self::V6 => AF_INET6,
        }
    }
}

/// One netlink message.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl<'a> Message<'a> {
    fn split_off(rest: &mut &'a [u8]) -> Option<Self> {
        let length = usize::try_from(u32::from_ne_bytes(array(rest, 0)?)).ok()?;
        let payload = rest.get(NLMSGHDR..length)?;
        let message = Self {
            kind: u16::from_ne_bytes(array(rest, 4)?),
            sequence: u32::from_ne_bytes(array(rest, 8)?),
            payload,
        };
        *rest = rest.get(aligned(length)..).unwrap_or_default();
        Some(message)
    }
}

/// Makes an order to delete of a route's description, if it is a default route that leads
/// somewhere.
fn default_route(payload: &[u8]) -> Option<Listed> {
    let mut head: [u8; RTMSG] = array(payload, 0)?;
    if head[RTM_DST_LEN] != 0 || head[RTM_TYPE] != RTN_UNICAST {
        return None;
    }
    // The flags describe a state, such as a link without carrier; they select nothing.
    head[RTM_FLAGS..].fill(0);
    let mut found = Vec::new();
    let mut rest = payload.get(RTMSG..)?;
    while let Some(length) = array(rest, 0).map(u16::from_ne_bytes) {
        let whole = rest.get(..usize::from(length)).filter(|whole| whole.len() >= ATTRIBUTE)?;
        let kind = u16::from_ne_bytes(array(rest, 2)?);
        found.push((kind, whole));
        rest = rest.get(aligned(whole.len())..).unwrap_or_default();
    }
    // A route by a nexthop object is described twice, and may be named only once.
    let by_object = found.iter().any(|&(kind, _)| kind == RTA_NH_ID);
    let named = |kind| match kind {
        RTA_SRC | RTA_PRIORITY | RTA_TABLE | RTA_NH_ID => true,
        RTA_OIF | RTA_GATEWAY | RTA_VIA => !by_object,
        _ => false,
    };
    let mut attributes = Vec::new();
    for (_, whole) in found.iter().filter(|&&(kind, _)| named(kind)) {
        attributes.extend(*whole);
        attributes.resize(aligned(attributes.len()), 0);
    }
    let value = |kind| found.iter().find(|&&(found, _)| found == kind).map(|(_, whole)| &whole[ATTRIBUTE..]);
    let interface = value(RTA_OIF).and_then(|value| array(value, 0)).map(u32::from_ne_bytes);
    // An IPv4 route by way of an IPv6 gateway has RTA_VIA, which begins with the family.
    let gateway = value(RTA_GATEWAY).or_else(|| value(RTA_VIA)?.get(2..)).and_then(address);
    Some(Listed { interface, gateway, head, attributes })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Both messages and attributes stand at multiples of four bytes.
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is not understood")
}

// linux/socket.h, linux/netlink.h and linux/rtnetlink.h.
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const NLMSGHDR: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTMSG: usize = 12;
const RTM_DST_LEN: usize = 1;
const RTM_TYPE: usize = 7;
const RTM_FLAGS: usize = 8;
const RTN_UNICAST: u8 = 1;
const ATTRIBUTE: usize = 4;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTA_NH_ID: u16 = 30;

/// No such route; rustix has the number as an `Errno`, errors of the kernel come as an integer.
const ESRCH: i32 = rustix::io::Errno::SRCH.raw_os_error();

/// The kernel writes at most 32 KiB of a listing at once.
const DATAGRAM: usize = 64 * 1024;

/// The kernel answers at once, or never.
const DEADLINE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_description_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = default_route(&bytes);
            let mut rest = &bytes[..];
            while Message::split_off(&mut rest).is_some() {}
        }
    }

    #[test]
    fn a_route_to_a_subnet_or_to_nowhere_is_no_default_route() {
        let described = |dst_len, kind| [2, dst_len, 0, 0, 254, 3, 0, kind, 1, 0, 0, 0];
        assert_eq!(default_route(&described(24, RTN_UNICAST)), None);
        assert_eq!(default_route(&described(0, 7)), None);
        let found = default_route(&described(0, RTN_UNICAST)).unwrap();
        assert_eq!(found.head, [2, 0, 0, 0, 254, 3, 0, RTN_UNICAST, 0, 0, 0, 0]);
    }

    #[test]
    fn a_default_route_has_its_interface_and_its_gateway() {
        let attribute = |kind: u16, value: &[u8]| {
            let length = u16::try_from(ATTRIBUTE + value.len()).unwrap();
            let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
            bytes.extend(value);
            bytes.resize(aligned(bytes.len()), 0);
            bytes
        };
        let v6: [u8; 16] = "fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let via = [&[AF_INET6, 0], &v6[..]].concat();
        for (kind, value, expected) in [
            (RTA_GATEWAY, &[192, 0, 2, 1][..], Some("192.0.2.1")),
            (RTA_GATEWAY, &v6, Some("fd00::1")),
            (RTA_VIA, &via, Some("fd00::1")),
            (RTA_VIA, &[0], None),
            (RTA_GATEWAY, &[1, 2, 3], None),
        ] {
            let mut payload = vec![2, 0, 0, 0, 254, 3, 0, RTN_UNICAST, 0, 0, 0, 0];
            payload.extend(attribute(RTA_OIF, &7u32.to_ne_bytes()));
            payload.extend(attribute(kind, value));
            let found = default_route(&payload).unwrap();
            assert_eq!(found.interface, Some(7));
            assert_eq!(found.gateway, expected.map(|text| text.parse().unwrap()), "{kind} {value:?}");
        }
    }
}
