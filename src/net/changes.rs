//! Notices changes of the host's interfaces and addresses.

use std::{io, net::UdpSocket, time::Duration};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, socket_with};

/// Wakes the caller at a change. The message of the kernel is not read: many changes at once lose messages, so the
/// caller has to list the interfaces again anyway.
#[derive(Debug)]
pub struct Changes {
    /// The runtime has no type for netlink sockets, but treats any datagram socket the same.
    io: tokio::net::UdpSocket,
}

impl Changes {
    /// Starts to listen. No change after this is missed.
    ///
    /// # Errors
    /// Those of the system calls.
    pub fn listen() -> io::Result<Self> {
        // Protocol 0 of this family is NETLINK_ROUTE.
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        let groups = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR).cast_unsigned();
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self { io: tokio::net::UdpSocket::from_std(UdpSocket::from(socket))? })
    }

    /// Waits for a change. It is safe to drop this future.
    pub async fn next(&self) {
        // An error means that there were too many changes (ENOBUFS), which is a change too.
        let _ = self.io.recv(&mut [0; 8192]).await;
    }

    /// After a change, waits until there are no more for a moment: an interface that comes up makes several changes.
    pub async fn settle(&self) {
        let calm = async {
            while tokio::time::timeout(CALM, self.next()).await.is_ok() {
                tokio::time::sleep(CALM / 20).await;
            }
        };
        // A network that changes all the time must not delay it without end.
        let _ = tokio::time::timeout(PATIENCE, calm).await;
    }
}

const CALM: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);
