//! Ethernet frames with UDP datagrams: parsed from a capture, and built for a reply. No socket.

use std::net::SocketAddrV4;

use pnet_packet::{
    MutablePacket,
    ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket},
    ip::IpNextHeaderProtocols,
    ipv4::{self, Ipv4Flags, Ipv4Packet, MutableIpv4Packet},
    udp::{self, MutableUdpPacket, UdpPacket},
};

/// An Ethernet address.
pub type LinkAddress = [u8; 6];

/// A UDP datagram with its headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The MAC address of the sender: the client, or a router.
    pub link_from: LinkAddress,
    /// The MAC address of the receiver.
    pub link_to: LinkAddress,
    /// Sender.
    pub from: SocketAddrV4,
    /// Receiver.
    pub to: SocketAddrV4,
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Parses a frame; `None` if it is not a complete UDP datagram in IPv4.
    ///
    /// Checksums are not checked: programs on this host leave them to the network card, which these frames never reach.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (link, packet) = bytes.split_at_checked(ETHERNET_HEADER)?;
        let link = EthernetPacket::new(link)?;
        if link.get_ethertype() != EtherTypes::Ipv4 {
            return None;
        }
        let Datagram { from, to, payload } = datagram(packet)?;
        let (link_from, link_to) = (link.get_source().octets(), link.get_destination().octets());
        Some(Self { link_from, link_to, from, to, payload })
    }

    /// Whether it was sent to every card.
    #[must_use]
    pub fn is_broadcast(&self) -> bool {
        self.link_to == BROADCAST
    }

    /// The bytes to send, with both checksums; `None` if the payload does not fit into a packet of 65,535 bytes.
    #[must_use]
    pub fn build(&self) -> Option<Vec<u8>> {
        let udp_length = u16::try_from(self.payload.len().checked_add(UDP_HEADER)?).ok()?;
        let ip_length = udp_length.checked_add(u16::try_from(IPV4_HEADER).ok()?)?;
        let mut bytes = vec![0; ETHERNET_HEADER + usize::from(ip_length)];
        let mut link = MutableEthernetPacket::new(&mut bytes)?;
        link.set_source(self.link_from.into());
        link.set_destination(self.link_to.into());
        link.set_ethertype(EtherTypes::Ipv4);
        let mut ip = MutableIpv4Packet::new(link.payload_mut())?;
        ip.set_version(4);
        ip.set_header_length(5);
        ip.set_total_length(ip_length);
        ip.set_ttl(TTL);
        ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
        ip.set_source(*self.from.ip());
        ip.set_destination(*self.to.ip());
        ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
        let mut datagram = MutableUdpPacket::new(ip.payload_mut())?;
        datagram.set_source(self.from.port());
        datagram.set_destination(self.to.port());
        datagram.set_length(udp_length);
        datagram.set_payload(self.payload);
        // Zero would mean that there is none (RFC 768).
        match udp::ipv4_checksum(&datagram.to_immutable(), self.from.ip(), self.to.ip()) {
            0 => datagram.set_checksum(u16::MAX),
            sum => datagram.set_checksum(sum),
        }
        Some(bytes)
    }
}

/// A UDP datagram without the header of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Sender.
    pub from: SocketAddrV4,
    /// Receiver.
    pub to: SocketAddrV4,
    /// The payload.
    pub payload: &'a [u8],
}

/// The datagram in an IP packet; `None` if it is not a complete UDP datagram in IPv4.
#[must_use]
pub fn datagram(packet: &[u8]) -> Option<Datagram<'_>> {
    let ip = Ipv4Packet::new(packet)?;
    let is_udp = ip.get_version() == 4 && ip.get_next_level_protocol() == IpNextHeaderProtocols::Udp;
    let is_fragment = ip.get_flags() & Ipv4Flags::MoreFragments != 0 || ip.get_fragment_offset() != 0;
    let header = usize::from(ip.get_header_length()) * 4;
    if !is_udp || is_fragment || header < IPV4_HEADER {
        return None;
    }
    // The bytes after the packet are padding up to the smallest Ethernet frame.
    let datagram = packet.get(header..usize::from(ip.get_total_length()))?;
    let udp = UdpPacket::new(datagram)?;
    Some(Datagram {
        from: SocketAddrV4::new(ip.get_source(), udp.get_source()),
        to: SocketAddrV4::new(ip.get_destination(), udp.get_destination()),
        payload: datagram.get(UDP_HEADER..usize::from(udp.get_length()))?,
    })
}

/// The broadcast address.
pub const BROADCAST: LinkAddress = [0xff; 6];

const ETHERNET_HEADER: usize = 14;
const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
/// The default of Linux for its own packets. A relay may be some routers away.
const TTL: u8 = 64;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &[u8]) -> Frame<'_> {
        Frame {
            link_from: [2, 0, 0, 0, 0, 1],
            link_to: BROADCAST,
            from: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 10), 67),
            to: SocketAddrV4::new(Ipv4Addr::BROADCAST, 68),
            payload,
        }
    }

    #[test]
    fn a_frame_is_these_bytes() {
        let expected = [
            b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\0".as_slice(),
            b"\x45\0\0\x1f\0\0\0\0\x40\x11\xb8\xc4\xc0\0\x02\x0a\xff\xff\xff\xff",
            b"\0\x43\0\x44\0\x0b\x78\xe4\x61\x62\x63",
        ]
        .concat();
        assert_eq!(frame(b"abc").build(), Some(expected));
        assert_eq!(frame(&[0; 65_508]).build(), None);
    }

    #[test]
    fn padding_and_everything_but_a_complete_udp_datagram_is_ignored() {
        let built = frame(b"abc").build().expect("it fits");
        let padded = [built.as_slice(), &[0; 15]].concat();
        assert_eq!(Frame::parse(&padded), Some(frame(b"abc")));
        let changed = |place: usize, byte: u8| {
            let mut bytes = built.clone();
            bytes[place] = byte;
            Frame::parse(&bytes).is_some()
        };
        assert!(changed(40, 0), "a checksum that was left to the card");
        for (place, byte) in [(12, 0x86), (14, 0x65), (14, 0x44), (17, 0xff), (20, 0x20), (21, 1), (23, 6), (39, 7)] {
            assert!(!changed(place, byte), "byte {place}");
        }
    }

    proptest! {
        #[test]
        fn what_was_built_is_read_back(payload in prop::collection::vec(any::<u8>(), 0..600)) {
            let built = frame(&payload).build().expect("it fits");
            prop_assert_eq!(Frame::parse(&built), Some(frame(&payload)));
        }

        #[test]
        fn any_bytes_can_be_parsed(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
            changes in prop::collection::vec((0usize..50, any::<u8>()), 0..8),
        ) {
            let _ = Frame::parse(&bytes);
            let mut built = frame(&bytes).build().expect("it fits");
            for (place, byte) in changes {
                if let Some(at) = built.get_mut(place) {
                    *at = byte;
                }
            }
            let _ = Frame::parse(&built);
        }
    }
}
