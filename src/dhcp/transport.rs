//! How datagrams come and go: by a bound port, or by frames beside the program that has it.

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
    /// A port of our own, or shared with a server that shares it too.
    Bound(Endpoint),
    /// A tap on the interface: whoever has the port notices nothing.
    Captured(Tap),
}

/// A datagram, and the frame that it came in where that is known.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// The datagram.
    pub datagram: Datagram<'a>,
    /// Its frame, which only a tap sees.
    pub link: Option<Link>,
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The card, or the router, that sent it.
    pub from: LinkAddress,
    /// It was for every card.
    pub was_broadcast: bool,
}

/// A reply on its way.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Ourselves.
    pub from: SocketAddrV4,
    /// Receiver.
    pub to: SocketAddrV4,
    /// The card that the request came from. An answer goes back the way that its request came: a tap has no routes, and
    /// nobody could be asked for the card of a client that has no address yet.
    pub link: Option<LinkAddress>,
    /// What it carries.
    pub bytes: &'a [u8],
}

impl Transport {
    /// Waits for datagrams and hands over those that are there.
    ///
    /// # Errors
    /// Those of the system call, e.g. `NetworkDown`; the transport stays usable.
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

    /// Sends.
    ///
    /// # Errors
    /// Those of the system call; the transport stays usable.
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
