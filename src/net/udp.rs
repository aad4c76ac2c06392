//! UDP sockets that know to which of our addresses a datagram was sent, and can reply from it.
//!
//! A boot client drops a reply from another address than the one it asked (EDK2: PXE-E18). So a plain `recv_from` is
//! not enough on a host with several addresses.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsFd,
};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::Interest;

use super::inherited;

/// How to open a socket.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// The address to listen on.
    pub address: SocketAddrV4,
    /// Use only this interface. A broadcast can then be sent without a default route.
    pub device: Option<&'a str>,
    /// Other sockets with the same setting may listen on the same port: a DHCP server on this host.
    pub shared: bool,
    /// Receive buffer in bytes. A rack that is switched on asks at the same time: with the default of 208 KiB, seven of
    /// ten DISCOVERs of a thousand machines were lost.
    pub receive_buffer: usize,
}

/// Opens a socket. Needs no runtime, so that privileges can be dropped before there is one.
///
/// # Errors
/// Those of the system calls; `PermissionDenied` and `AddrInUse` are the common ones.
pub fn open(open: Open<'_>) -> io::Result<UdpSocket> {
    if let Some(socket) = inherited::udp(open.address, open.device)? {
        prepare(&socket, &open)?;
        return Ok(socket);
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(open.shared)?;
    socket.bind_device(open.device.map(str::as_bytes))?;
    prepare(&socket, &open)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::V4(open.address).into())?;
    Ok(socket.into())
}

fn prepare(socket: &impl AsFd, open: &Open<'_>) -> io::Result<()> {
    let descriptor = socket.as_fd();
    let socket = SockRef::from(&descriptor);
    socket.set_broadcast(true)?;
    // The socket may already have this size, set by a process with more rights.
    if socket.recv_buffer_size()? >= open.receive_buffer {
        return Ok(());
    }
    // The forced size ignores net.core.rmem_max, but needs CAP_NET_ADMIN. Without it, use the largest size that is
    // possible.
    if sockopt::set_socket_recv_buffer_size_force(descriptor, open.receive_buffer).is_err() {
        socket.set_recv_buffer_size(open.receive_buffer)?;
    }
    Ok(())
}

/// A socket on the runtime.
#[derive(Debug)]
pub struct Endpoint {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its payload.
    pub bytes: &'a [u8],
    /// The sender.
    pub from: SocketAddrV4,
    /// The address that it was sent to, possibly a broadcast.
    pub to: Option<Ipv4Addr>,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Receiver.
    pub to: SocketAddrV4,
    /// The address to send from, if the socket listens on all.
    pub from: Option<Ipv4Addr>,
    /// Its payload.
    pub bytes: &'a [u8],
}

impl Endpoint {
    /// Adds an open socket to the current runtime.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // quinn-udp forbids fragments, as QUIC needs. But if a network path has a smaller MTU than our interface, two
        // fragments are better for a boot client than no datagram.
        sockopt::set_ip_mtu_discover(&socket, sockopt::Ipv4PathMtuDiscovery::DONT)?;
        socket.set_nonblocking(true)?;
        Ok(Self { io: tokio::net::UdpSocket::from_std(socket)?, state })
    }

    /// Our address and port.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    /// Waits for datagrams and passes on those that are there, at most [`BATCH`] reads.
    ///
    /// # Errors
    /// Those of the system call, e.g. `NetworkDown`; the socket can still be used.
    pub async fn receive(&self, mut each: impl FnMut(Datagram<'_>)) -> io::Result<()> {
        loop {
            self.io.readable().await?;
            match SCRATCH.with_borrow_mut(|scratch| self.receive_into(scratch, &mut each)) {
                Ok(0) => {}
                other => return other.map(drop),
            }
        }
    }

    /// One read. Returns how many buffers it filled.
    fn receive_into(&self, scratch: &mut [Vec<u8>; BATCH], each: impl FnMut(Datagram<'_>)) -> io::Result<usize> {
        let mut buffers = scratch.each_mut().map(|buffer| IoSliceMut::new(buffer));
        let mut metas = [RecvMeta::default(); BATCH];
        let mut count = 0;
        let tried = self.io.try_io(Interest::READABLE, || {
            count = self.state.recv((&self.io).into(), &mut buffers, &mut metas)?;
            // A read that did not fill all buffers emptied the queue. Clearing the readiness now saves a system call
            // that would find nothing. The next datagram makes the socket readable again.
            if count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if let Err(error) = tried
            && error.kind() != io::ErrorKind::WouldBlock
        {
            return Err(error);
        }
        buffers.iter().zip(&metas).take(count).flat_map(|(buffer, meta)| datagrams(buffer, meta)).for_each(each);
        Ok(count)
    }

    /// Sends. Waits only for space in the socket's own buffer.
    ///
    /// # Errors
    /// Those of the system call, e.g. `NetworkUnreachable`; the socket can still be used.
    pub async fn send(&self, out: Outgoing<'_>) -> io::Result<()> {
        let transmit = Transmit {
            destination: SocketAddr::V4(out.to),
            ecn: None,
            contents: out.bytes,
            segment_size: None,
            src_ip: out.from.map(IpAddr::V4),
        };
        self.io.async_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit)).await
    }
}

/// Splits one read: the kernel may have joined datagrams of the same sender (UDP_GRO).
fn datagrams<'a>(buffer: &'a [u8], meta: &RecvMeta) -> impl Iterator<Item = Datagram<'a>> {
    let to = match meta.dst_ip {
        Some(IpAddr::V4(to)) => Some(to),
        _ => None,
    };
    let from = match meta.addr {
        SocketAddr::V4(from) => Some(from),
        SocketAddr::V6(_) => None,
    };
    let bytes = buffer.get(..meta.len).unwrap_or_default();
    bytes.chunks(meta.stride.max(1)).filter_map(move |bytes| Some(Datagram { bytes, from: from?, to }))
}

/// Buffers that one system call can fill.
pub const BATCH: usize = 8;

thread_local! {
    /// One set of receive buffers for all sockets of a thread.
    static SCRATCH: RefCell<[Vec<u8>; BATCH]> = RefCell::new(std::array::from_fn(|_| vec![0; 65_536]));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let socket = open(Open { address, device: None, shared: false, receive_buffer: 1 << 20 }).expect("a socket");
        Endpoint::new(socket).expect("a runtime")
    }

    #[tokio::test]
    async fn an_answer_leaves_from_the_address_that_was_asked() {
        let server = endpoint();
        let port = server.local_addr().expect("bound").port();
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        client.send_to(b"ask", ("127.0.0.9", port)).await.expect("sent");
        let mut asked = None;
        server
            .receive(|datagram| asked = Some((datagram.bytes.to_vec(), datagram.from, datagram.to)))
            .await
            .expect("ok");
        let (bytes, from, to) = asked.expect("a datagram");
        assert_eq!((bytes.as_slice(), to), (b"ask".as_slice(), Some(Ipv4Addr::new(127, 0, 0, 9))));

        server.send(Outgoing { to: from, from: to, bytes: b"answer" }).await.expect("sent");
        let mut buffer = [0; 16];
        let (length, answerer) = client.recv_from(&mut buffer).await.expect("an answer");
        assert_eq!((&buffer[..length], answerer.ip().to_string()), (b"answer".as_slice(), "127.0.0.9".into()));
    }
}
