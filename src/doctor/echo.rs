//! Finds the largest packet that passes a path, by ICMP echoes that no router may split (RFC 1191, RFC 4821).

use std::{
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};

/// The MTU of the path to a host that answers echoes, in bytes; none if it answers none.
///
/// # Errors
/// Without CAP_NET_RAW.
pub fn path_mtu(device: &str, to: Ipv4Addr, link_mtu: usize) -> io::Result<Option<usize>> {
    let mut echo = Echo::open(device, to)?;
    if !echo.passes(SMALLEST)? {
        return Ok(None);
    }
    let most = link_mtu.clamp(SMALLEST, LARGEST);
    if echo.passes(most)? {
        return Ok(Some(most));
    }
    let (mut passes, mut is_lost) = (SMALLEST, most);
    while is_lost - passes > 1 {
        let half = passes.midpoint(is_lost);
        if echo.passes(half)? {
            passes = half;
        } else {
            is_lost = half;
        }
    }
    Ok(Some(passes))
}

struct Echo {
    socket: Socket,
    to: Ipv4Addr,
    sequence: u16,
}

impl Echo {
    fn open(device: &str, to: Ipv4Addr) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.bind_device(Some(device.as_bytes()))?;
        // Not to be split, and whatever the kernel believes of the path.
        sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::PROBE)?;
        socket.set_read_timeout(Some(WAIT))?;
        Ok(Self { socket, to, sequence: 0 })
    }

    /// Whether an echo in a packet of this size comes back. One may be lost by chance.
    fn passes(&mut self, size: usize) -> io::Result<bool> {
        for _ in 0..2 {
            self.sequence += 1;
            let message = request(self.sequence, size);
            match self.socket.send_to(&message, &SocketAddr::from((self.to, 0)).into()) {
                Ok(_) => {}
                // Larger than the interface's own MTU.
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return Ok(false),
                Err(error) => return Err(error),
            }
            if self.is_answered()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_answered(&mut self) -> io::Result<bool> {
        let until = Instant::now() + WAIT;
        let mut buffer = vec![0; 65_536];
        while Instant::now() < until {
            let length = match (&self.socket).read(&mut buffer) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                // A wait with a limit is not taken up again by itself after a stop and a continue (signal(7)).
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let packet = buffer.get(..length).unwrap_or_default();
            let header = packet.first().map_or(20, |byte| usize::from(byte & 15) * 4);
            let wanted = [&MARK.to_be_bytes(), self.sequence.to_be_bytes().as_slice()].concat();
            let is_ours =
                packet.get(header..header + 2) == Some(&[0, 0]) && packet.get(header + 4..header + 8) == Some(&wanted);
            if is_ours && packet.get(12..16) == Some(&self.to.octets()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// An echo request (RFC 792) that fills an IPv4 packet of this size.
fn request(sequence: u16, size: usize) -> Vec<u8> {
    let mut message = vec![0; size.saturating_sub(20).max(8)];
    let head = [&[8, 0, 0, 0], MARK.to_be_bytes().as_slice(), &sequence.to_be_bytes()].concat();
    message.iter_mut().zip(head).for_each(|(byte, value)| *byte = value);
    let sum = checksum(&message).to_be_bytes();
    message.iter_mut().skip(2).zip(sum).for_each(|(byte, value)| *byte = value);
    message
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u32::from(*byte) << 8);
    let mut sum = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>() + last;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// Every host can receive a packet of this size (RFC 791).
const SMALLEST: usize = 576;
/// Of an Ethernet with large frames.
const LARGEST: usize = 9000;
/// The identifier of our echoes.
const MARK: u16 = 0x6e62;
/// On a local network an echo takes less than a millisecond.
const WAIT: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_fills_its_packet_and_its_checksum_is_right() {
        let message = request(7, 1400);
        assert_eq!((message.len(), checksum(&message)), (1380, 0));
        assert_eq!(message.get(4..8), Some([0x6e, 0x62, 0, 7].as_slice()));
    }
}
