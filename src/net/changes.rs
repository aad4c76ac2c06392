//! When the host's interfaces or addresses change.

use std::{io, net::UdpSocket, time::Duration};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, socket_with};

/// Wakes whoever waits for a change. What the kernel says of it is not read: messages are lost where many come at once,
/// so the interfaces are looked at anew in any case.
#[derive(Debug)]
pub struct Changes {
    /// To the runtime, a socket of datagrams is one like another.
    io: tokio::net::UdpSocket,
}

impl Changes {
    /// Begins to listen: no change after this is missed.
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

    /// Waits for a change. Whoever drops this has missed nothing.
    pub async fn next(&self) {
        // An error says that there were too many to be told (ENOBUFS), which is as good.
        let _ = self.io.recv(&mut [0; 8192]).await;
    }

    /// Behind a change, waits until none has come for a moment: an interface that comes up is several changes.
    pub async fn settle(&self) {
        let calm = async {
            while tokio::time::timeout(CALM, self.next()).await.is_ok() {
                tokio::time::sleep(CALM / 20).await;
            }
        };
        // A network that never comes to rest must not put it off for ever.
        let _ = tokio::time::timeout(PATIENCE, calm).await;
    }
}

const CALM: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);
