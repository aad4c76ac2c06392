//! A UDP port on one of our addresses, for code that uses many ports at once. Receiving and sending a datagram needs
//! only one system call each.

use std::{
    io::{self, IoSlice},
    net::{SocketAddrV4, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, ipproto, recvfrom, sendto, socket_with,
        sockopt,
    },
};

/// See the module. Packets leave from its address, because firmware requires that (EDK2: PXE-E18).
#[derive(Debug)]
pub struct Port {
    socket: UdpSocket,
    /// Whether the kernel and the interface can split one call into several datagrams (UDP_SEGMENT, Linux 4.18).
    splits: AtomicBool,
}

impl Port {
    /// Uses a bound socket.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        // If a network path has a smaller MTU than our interface, two fragments are better for a boot client than no
        // datagram.
        sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::DONT)?;
        Ok(Self { socket, splits: AtomicBool::new(true) })
    }

    /// A new port; with port 0 the operating system chooses it. `receive_buffer` is in bytes.
    ///
    /// # Errors
    /// Those of the system calls, e.g. `AddrInUse`.
    pub fn open(address: SocketAddrV4, receive_buffer: usize) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(ipproto::UDP))?;
        sockopt::set_socket_recv_buffer_size(&socket, receive_buffer)?;
        bind(&socket, &address)?;
        Self::new(socket.into())
    }

    /// Our address and port.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn address(&self) -> io::Result<SocketAddrV4> {
        match self.socket.local_addr()? {
            std::net::SocketAddr::V4(address) => Ok(address),
            std::net::SocketAddr::V6(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The next datagram, if there is one: its length, as far as it fits into the buffer, and its sender.
    ///
    /// # Errors
    /// Those of the system call; the port can still be used.
    pub fn try_receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<(&'a [u8], SocketAddrV4)>> {
        self.receive_with(buffer, RecvFlags::DONTWAIT)
    }

    /// Waits for a datagram for the time of [`Self::set_patience`].
    ///
    /// # Errors
    /// As [`Self::try_receive`].
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<(&'a [u8], SocketAddrV4)>> {
        self.receive_with(buffer, RecvFlags::empty())
    }

    fn receive_with<'a>(&self, buffer: &'a mut [u8], flags: RecvFlags) -> io::Result<Option<(&'a [u8], SocketAddrV4)>> {
        let (length, from) = match recvfrom(&self.socket, &mut *buffer, flags) {
            Ok((length, _, from)) => (length, from),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let from = from.and_then(|from| SocketAddrV4::try_from(from).ok()).ok_or(io::ErrorKind::Unsupported)?;
        Ok(Some((buffer.get(..length).unwrap_or_default(), from)))
    }

    /// How long [`Self::receive`] waits.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn set_patience(&self, time: Duration) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(time))?)
    }

    /// Sends datagrams of `segment` bytes that are stored one after the other (the last one can be shorter), with as
    /// few system calls as possible. Does not wait.
    ///
    /// # Errors
    /// Those of the system call; `WouldBlock` if the send buffer is full.
    pub fn send(&self, to: SocketAddrV4, bytes: &[u8], segment: usize) -> io::Result<()> {
        let segment = segment.max(1);
        if bytes.len() <= segment {
            return self.send_one(to, bytes);
        }
        let most = (MAX_DATAGRAM / segment).clamp(1, MAX_SEGMENTS) * segment;
        bytes.chunks(most).try_for_each(|chunk| self.send_some(to, chunk, segment))
    }

    fn send_some(&self, to: SocketAddrV4, bytes: &[u8], segment: usize) -> io::Result<()> {
        if bytes.len() > segment && self.splits.load(Ordering::Relaxed) {
            let size = u16::try_from(segment).unwrap_or(u16::MAX);
            let (name, data) = (SockaddrIn::from(to), [IoSlice::new(bytes)]);
            let split = [ControlMessage::UdpGsoSegments(&size)];
            match sendmsg(self.socket.as_raw_fd(), &data, &split, MsgFlags::MSG_DONTWAIT, Some(&name)) {
                Ok(_) => return Ok(()),
                // An interface without checksums, a segment larger than its MTU, an old kernel: from now on, send one
                // datagram per call.
                Err(nix::Error::EIO | nix::Error::EINVAL | nix::Error::EMSGSIZE | nix::Error::ENOPROTOOPT) => {
                    self.splits.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error.into()),
            }
        }
        bytes.chunks(segment).try_for_each(|datagram| self.send_one(to, datagram))
    }

    fn send_one(&self, to: SocketAddrV4, datagram: &[u8]) -> io::Result<()> {
        Ok(sendto(&self.socket, datagram, SendFlags::DONTWAIT, &to).map(drop)?)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An IPv4 packet of 65,535 bytes without its headers.
const MAX_DATAGRAM: usize = 65_507;
/// UDP_MAX_SEGMENTS before Linux 6.9.
const MAX_SEGMENTS: usize = 64;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn many_datagrams_leave_in_order_from_the_ports_own_address() {
        let ours = Port::open(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 9), 0), 64 << 10).expect("a port");
        let client = Port::open(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), 1 << 20).expect("a port");
        let (ours_at, client_at) = (ours.address().expect("bound"), client.address().expect("bound"));
        client.set_patience(Duration::from_secs(5)).expect("set");
        // More than one call can send, and a datagram that is not split; with the kernel's splitting and without it.
        for splits in [true, false] {
            ours.splits.store(splits, Ordering::Relaxed);
            for (bytes, segment) in [(vec![7; 100_001], 1472), (vec![8; 1472], 1472), (vec![9; 10], 4)] {
                ours.send(client_at, &bytes, segment).expect("sent");
                for expected in bytes.chunks(segment) {
                    let mut buffer = [0; 2048];
                    let got = client.receive(&mut buffer).expect("received").expect("in time");
                    assert_eq!(got, (expected, ours_at));
                }
            }
        }
        assert_eq!(ours.try_receive(&mut [0; 8]).expect("no error"), None);
    }

    #[test]
    fn a_wait_ends() {
        let port = Port::open(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0), 64 << 10).expect("a port");
        port.set_patience(Duration::from_millis(1)).expect("set");
        assert_eq!(port.receive(&mut [0; 8]).expect("no error"), None);
    }
}
