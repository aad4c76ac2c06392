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

    /// Waits for a change, and until none has come for a moment: an interface that comes up is several changes.
    pub async fn next(&self) {
        self.one().await;
        // A network that never comes to rest must not put it off for ever.
        let calm = async { while tokio::time::timeout(CALM, self.one()).await.is_ok() {} };
        let _ = tokio::time::timeout(PATIENCE, calm).await;
    }

    async fn one(&self) {
        // ENOBUFS says that there were too many to be told, which is as good.
        if self.io.recv(&mut [0; 8192]).await.is_err() {
            tokio::time::sleep(CALM / 2).await;
        }
    }
}

const CALM: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(2);
