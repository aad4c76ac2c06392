//! Receives and sends datagrams: through an open port, or as captured frames beside another program.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use crate::net::{
    frame::{BROADCAST, Frame, LinkAddress},
    raw::Tap,
    udp::{self, Datagram, Endpoint},
};

/// Where requests come from.
#[derive(Debug)]
pub enum Transport {
    /// An open port, possibly shared with another server.
    Bound(Endpoint),
    /// A capture on the interface. The program that has the port is not affected.
    Captured(Tap),
}

/// A datagram, and its frame if it was captured.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The datagram.
    pub datagram: Datagram<'a>,
    /// Its frame, if it was captured.
    pub link: Option<Link>,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The MAC address of the sender: the client, or a router.
    pub from: LinkAddress,
    /// Whether it was a broadcast frame.
    pub was_broadcast: bool,
}

/// A reply that is sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Our address.
    pub from: SocketAddrV4,
    /// Receiver.
    pub to: SocketAddrV4,
    /// The MAC address that the request came from. The reply goes back to it, because a capture has no routes, and ARP
    /// cannot find a client without an address.
    pub link: Option<LinkAddress>,
    /// The payload.
    pub bytes: &'a [u8],
}

impl Transport {
    /// Waits for datagrams and passes on all that are there.
    ///
    /// # Errors
    /// Those of the system call, e.g. `NetworkDown`; the transport can still be used.
    pub async fn receive(&self, mut each: impl FnMut(Incoming<'_>)) -> io::Result<()> {
        match self {
            Self::Bound(endpoint) => endpoint.receive(|datagram| each(Incoming { datagram, link: None })).await,
            Self::Captured(tap) => {
                tap.receive(|frame| {
                    let link = Some(Link { from: frame.link_from, was_broadcast: frame.is_broadcast() });
                    let datagram = Datagram { bytes: frame.payload, from: frame.from, to: Some(*frame.to.ip()) };
                    each(Incoming { datagram, link });
                })
                .await
            }
        }
    }

    /// Sends a reply.
    ///
    /// # Errors
    /// Those of the system call; the transport can still be used.
    pub async fn send(&self, out: Outgoing<'_>) -> io::Result<()> {
        let Outgoing { from, to, link, bytes } = out;
        match self {
            Self::Bound(endpoint) => endpoint.send(udp::Outgoing { to, from: Some(*from.ip()), bytes }).await,
            Self::Captured(tap) => {
                let link_to = link.filter(|_| *to.ip() != Ipv4Addr::BROADCAST).unwrap_or(BROADCAST);
                tap.send(&Frame { link_from: tap.link_address, link_to, from, to, payload: bytes }).await
            }
        }
    }
}
