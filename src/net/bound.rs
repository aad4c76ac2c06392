//! The interface that a socket is bound to (SO_BINDTODEVICE), which `/proc/net/udp` does not show (sock_diag(7)).

use std::{collections::HashSet, io, net::UdpSocket};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};

/// The IPv4 UDP sockets on a port that only hear an interface other than this one: their numbers in `/proc/net/udp`. A
/// kernel that does not tell names none.
#[must_use]
pub fn elsewhere(port: u16, interface: u32) -> HashSet<u64> {
    let mut elsewhere = HashSet::new();
    let is_elsewhere = |socket: &Bound| socket.interface != 0 && socket.interface != interface;
    let mut note = |socket: Bound| elsewhere.extend(is_elsewhere(&socket).then_some(socket.inode));
    // What was read before an error is true all the same.
    let _ = ask(port, &mut note);
    elsewhere
}

struct Bound {
    /// 0: it hears all interfaces.
    interface: u32,
    inode: u64,
}

fn ask(port: u16, note: &mut impl FnMut(Bound)) -> io::Result<()> {
    // The kernel has the answer ready when the question is sent. So nothing here waits.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG))?;
    let socket = UdpSocket::from(socket);
    socket.send(&question(port))?;
    let mut buffer = vec![0; 32 << 10];
    loop {
        let length = socket.recv(&mut buffer)?;
        if !read(buffer.get(..length).unwrap_or_default(), note) {
            return Ok(());
        }
    }
}

/// A `nlmsghdr` and an `inet_diag_req_v2`: all UDP sockets with this port of their own.
fn question(port: u16) -> [u8; 72] {
    let mut bytes = [0; 72];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    };
    put(0, &72_u32.to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &REQUEST_AND_DUMP.to_ne_bytes());
    put(16, &[AF_INET, UDP]);
    // In any state.
    put(20, &u32::MAX.to_ne_bytes());
    put(24, &port.to_be_bytes());
    bytes
}

/// Reads the messages of one packet. Returns whether more packets follow.
fn read(mut packet: &[u8], note: &mut impl FnMut(Bound)) -> bool {
    while let Some(length) = word(packet, 0).map(|length| length as usize).filter(|length| *length >= HEADER) {
        let (message, rest) = packet.split_at(length.next_multiple_of(4).min(packet.len()));
        let kind = message.get(4..6).and_then(|kind| kind.try_into().ok()).map(u16::from_ne_bytes);
        if kind != Some(SOCK_DIAG_BY_FAMILY) {
            // The end, or an error.
            return false;
        }
        // Of `inet_diag_msg`: `id.idiag_if` and `idiag_inode`.
        if let (Some(interface), Some(inode)) = (word(message, HEADER + 40), word(message, HEADER + 68)) {
            note(Bound { interface, inode: inode.into() });
        }
        packet = rest;
    }
    true
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// linux/sock_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST | NLM_F_DUMP` of linux/netlink.h
const REQUEST_AND_DUMP: u16 = 0x301;
const AF_INET: u8 = 2;
const UDP: u8 = 17;
/// The size of a `nlmsghdr`.
const HEADER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_elsewhere_if_it_is_bound_to_another_interface() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let port = socket.local_addr().expect("bound").port();
        assert!(elsewhere(port, 1).is_empty(), "it hears all interfaces");
        // Not every user may bind to an interface, and lo is the first one everywhere.
        if socket2::SockRef::from(&socket).bind_device(Some(b"lo")).is_ok() {
            assert!(elsewhere(port, 1).is_empty());
            assert_eq!(elsewhere(port, 2).len(), 1);
        }
    }
}
