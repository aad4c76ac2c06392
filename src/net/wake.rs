//! Wake-on-LAN: the magic packet that switches a machine on (AMD publication 20213).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
};

use super::{
    frame::LinkAddress,
    udp::{Open, open},
};

/// The port of a magic packet: discard (RFC 863). The card finds the pattern at any position.
const PORT: u16 = 9;
/// In bytes: six times FF, and sixteen times the card's address.
const LENGTH: usize = 6 + 16 * 6;

/// The magic packet for a card.
#[must_use]
pub fn magic_packet(card: LinkAddress) -> [u8; LENGTH] {
    std::array::from_fn(|at| match at.checked_sub(6) {
        None => 0xff,
        Some(at) => card.get(at % 6).copied().unwrap_or_default(),
    })
}

/// Why no packet was sent.
#[derive(Debug, thiserror::Error)]
pub enum NotWoken {
    /// The interface does not exist, or does not exist any more.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// It has no address to send from.
    #[error("{0} has no IPv4 address to send from: add one with ip address add ADDRESS/PREFIX dev {0}")]
    NoAddress(String),
    /// A system call failed.
    #[error("cannot send the magic packet on {0}: {1}")]
    NotSent(String, io::Error),
}

/// Sends the magic packet for each of these cards as a broadcast on one interface. A machine that is off has no IP
/// address.
///
/// # Errors
/// [`NotWoken`].
pub fn wake(interface: &str, cards: &[LinkAddress]) -> Result<(), NotWoken> {
    let all = pnet_datalink::interfaces();
    let found = all.iter().find(|there| there.name == interface);
    let found = found.ok_or_else(|| NotWoken::NoInterface(interface.to_owned()))?;
    let network = found.ips.iter().find(|network| network.is_ipv4());
    let network = network.ok_or_else(|| NotWoken::NoAddress(interface.to_owned()))?;
    let (IpAddr::V4(from), IpAddr::V4(to)) = (network.ip(), network.broadcast()) else {
        return Err(NotWoken::NoAddress(interface.to_owned()));
    };
    // A point-to-point prefix has no broadcast address (RFC 3021).
    let to = if network.prefix() >= 31 { Ipv4Addr::BROADCAST } else { to };
    let send = || -> io::Result<()> {
        // Bound to the interface, because another one may have the same network.
        let address = SocketAddrV4::new(from, 0);
        let socket = open(Open { address, device: Some(interface), shared: false, receive_buffer: 0 })?;
        cards.iter().try_for_each(|card| socket.send_to(&magic_packet(*card), (to, PORT)).map(drop))
    };
    send().map_err(|error| NotWoken::NotSent(interface.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_magic_packet_is_six_ff_and_the_card_sixteen_times() {
        let card = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
        let packet = magic_packet(card);
        assert_eq!(packet.len(), 102);
        assert_eq!(packet[..6], [0xff; 6]);
        assert!(packet[6..].chunks(6).all(|chunk| chunk == card));
    }

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        let error = wake("nowhere0", &[[2; 6]]).expect_err("it is not there");
        assert_eq!(error.to_string(), "there is no interface nowhere0");
    }
}
