//! ICMP echo requests, which find out whether an address behind a router is in use (RFC 792).

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use socket2::{Domain, Protocol, Socket, Type};

/// A socket for echo requests, on the runtime.
#[derive(Debug)]
pub struct Echo {
    /// The runtime has no type for raw sockets, but treats any datagram socket the same.
    io: tokio::net::UdpSocket,
}

impl Echo {
    /// Opens it. Needs CAP_NET_RAW and a runtime.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_nonblocking(true)?;
        Ok(Self { io: tokio::net::UdpSocket::from_std(UdpSocket::from(socket))? })
    }

    /// Asks a host for an answer.
    ///
    /// # Errors
    /// Those of the system call; the socket can still be used.
    pub async fn ask(&self, address: Ipv4Addr) -> io::Result<()> {
        self.io.send_to(&REQUEST, (address, 0)).await.map(drop)
    }

    /// Waits for the next answer: who sent it.
    ///
    /// # Errors
    /// Those of the system call; the socket can still be used.
    pub async fn answer(&self) -> io::Result<Option<Ipv4Addr>> {
        let mut buffer = [0; 256];
        let (length, from) = self.io.recv_from(&mut buffer).await?;
        let is_answer = buffer.get(..length).is_some_and(is_echo_reply);
        Ok(match from {
            SocketAddr::V4(from) if is_answer => Some(*from.ip()),
            _ => None,
        })
    }
}

/// A raw socket receives the IP header too (raw(7)).
fn is_echo_reply(packet: &[u8]) -> bool {
    let header = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    packet.get(header..header + 2) == Some(&[0, 0])
}

/// Type 8, no code, checksum, no identifier, number 1.
const REQUEST: [u8; 8] = [8, 0, 0xf7, 0xfe, 0, 0, 0, 1];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_its_checksum_and_only_replies_count() {
        let words = REQUEST.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        assert_eq!(words.sum::<u32>(), 0xffff, "RFC 1071");
        let header = [&[0x45][..], &[0; 19]].concat();
        assert!(is_echo_reply(&[&header[..], &[0, 0, 1, 2]].concat()));
        assert!(!is_echo_reply(&[&header[..], &REQUEST].concat()));
        assert!(!is_echo_reply(&header) && !is_echo_reply(&[]));
    }
}
