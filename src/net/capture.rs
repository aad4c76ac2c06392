//! Packets of a capture file, as tcpdump and Wireshark write them: pcap (draft-ietf-opsawg-pcap) and pcapng
//! (draft-ietf-opsawg-pcapng). No socket, and no file: bytes in, packets out.

use super::frame::{Datagram, datagram};

/// A packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// From 1, as Wireshark counts.
    pub number: usize,
    /// Microseconds since 1970; 0 if the file does not say it.
    pub at: u64,
    /// How the bytes begin.
    pub link: Link,
    /// Those that were kept.
    pub bytes: &'a [u8],
    /// Bytes that the capture left out at its end.
    pub cut: usize,
}

/// The header that packets begin with (tcpdump.org, "Link-layer header types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Ethernet, with or without VLAN tags.
    Ethernet,
    /// "Linux cooked", as `tcpdump -i any` writes it.
    Sll,
    /// Its second version.
    Sll2,
    /// An IP packet.
    Raw,
    /// Four bytes with the protocol family.
    Null,
    /// Another one, by its number.
    Other(u32),
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// The beginning.
    #[error(
        "it is no capture: it begins with neither the magic number of pcap nor that of pcapng; save it with tcpdump -w FILE or from Wireshark"
    )]
    NotACapture,
    /// The end of the file is missing.
    #[error("it ends in the middle of packet {0}: capture it again, or copy the whole file")]
    Ends(usize),
    /// A length that no writer makes.
    #[error("the length of {what} behind packet {number} is wrong: {length} bytes; the file is damaged")]
    Length {
        /// What.
        what: &'static str,
        /// Packets before it.
        number: usize,
        /// The length that is written there.
        length: u32,
    },
    /// A packet of an interface that the file does not describe.
    #[error("packet {0} is of an interface that the file does not describe; the file is damaged")]
    NoInterface(usize),
}

impl Link {
    fn of(number: u32) -> Self {
        match number {
            1 => Self::Ethernet,
            113 => Self::Sll,
            276 => Self::Sll2,
            12 | 14 | 101 | 228 => Self::Raw,
            0 | 108 => Self::Null,
            other => Self::Other(other),
        }
    }
}

impl<'a> Packet<'a> {
    /// The UDP datagram in it; none if it is something else, or a fragment.
    #[must_use]
    pub fn datagram(&self) -> Option<Datagram<'a>> {
        datagram(self.ip()?)
    }

    /// What follows the header of the link, and VLAN tags, if that is IPv4.
    fn ip(&self) -> Option<&'a [u8]> {
        let two = |at: usize| {
            self.bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map(|bytes| u16::from_be_bytes(*bytes))
        };
        let (mut at, protocol) = match self.link {
            Link::Ethernet => (14, two(12)?),
            Link::Sll => (16, two(14)?),
            Link::Sll2 => (20, two(0)?),
            // Of an IP packet, the first four bits are the version.
            Link::Raw => (0, IPV4),
            Link::Null => (4, IPV4),
            Link::Other(_) => return None,
        };
        let mut protocol = protocol;
        // IEEE 802.1Q and 802.1ad: the tag is followed by the protocol.
        while matches!(protocol, 0x8100 | 0x88a8 | 0x9100) {
            protocol = two(at + 2)?;
            at += 4;
        }
        (protocol == IPV4).then(|| self.bytes.get(at..)).flatten()
    }
}

/// All packets of a file.
///
/// # Errors
/// The file is no capture, or it is damaged.
pub fn packets(file: &[u8]) -> Result<Vec<Packet<'_>>, Damaged> {
    match file.first_chunk::<4>() {
        Some([0xa1, 0xb2, 0xc3, 0xd4]) => pcap(file, Order::Big, 1),
        Some([0xd4, 0xc3, 0xb2, 0xa1]) => pcap(file, Order::Little, 1),
        Some([0xa1, 0xb2, 0x3c, 0x4d]) => pcap(file, Order::Big, 1000),
        Some([0x4d, 0x3c, 0xb2, 0xa1]) => pcap(file, Order::Little, 1000),
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(file),
        _ => Err(Damaged::NotACapture),
    }
}

#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

impl Order {
    fn long(self, bytes: &[u8], at: usize) -> Option<u32> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u32::from_be_bytes(bytes),
            Self::Little => u32::from_le_bytes(bytes),
        })
    }

    fn short(self, bytes: &[u8], at: usize) -> Option<u16> {
        let bytes = *bytes.get(at..)?.first_chunk()?;
        Some(match self {
            Self::Big => u16::from_be_bytes(bytes),
            Self::Little => u16::from_le_bytes(bytes),
        })
    }
}

/// `parts`: how many units of the fraction are a microsecond.
fn pcap(file: &[u8], order: Order, parts: u32) -> Result<Vec<Packet<'_>>, Damaged> {
    let link = order.long(file, 20).ok_or(Damaged::Ends(1))?;
    // The upper bits say whether frames end with a checksum.
    let link = Link::of(link & 0x03ff_ffff);
    let mut rest = file.get(24..).ok_or(Damaged::Ends(1))?;
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let number = packets.len() + 1;
        let field = |at| order.long(rest, at).ok_or(Damaged::Ends(number));
        let (seconds, fraction, kept, whole) = (field(0)?, field(4)?, field(8)?, field(12)?);
        if kept > LARGEST {
            return Err(Damaged::Length { what: "the packet", number: number - 1, length: kept });
        }
        let (bytes, next) =
            rest.get(16..).and_then(|rest| rest.split_at_checked(kept as usize)).ok_or(Damaged::Ends(number))?;
        let at = u64::from(seconds) * 1_000_000 + u64::from(fraction / parts);
        packets.push(Packet { number, at, link, bytes, cut: whole.saturating_sub(kept) as usize });
        rest = next;
    }
    Ok(packets)
}

/// An interface of a pcapng file.
struct Described {
    link: Link,
    /// Units of a timestamp in a second.
    resolution: u64,
}

fn pcapng(file: &[u8]) -> Result<Vec<Packet<'_>>, Damaged> {
    let (mut order, mut interfaces) = (Order::Big, Vec::<Described>::new());
    let (mut rest, mut packets) = (file, Vec::new());
    while !rest.is_empty() {
        let number = packets.len() + 1;
        let ends = Damaged::Ends(number);
        if rest.starts_with(&SECTION) {
            order = match rest.get(8..12) {
                Some([0x1a, 0x2b, 0x3c, 0x4d]) => Order::Big,
                Some([0x4d, 0x3c, 0x2b, 0x1a]) => Order::Little,
                Some(_) => return Err(Damaged::NotACapture),
                None => return Err(ends),
            };
            // A section has interfaces of its own.
            interfaces.clear();
        }
        let (kind, length) = (order.long(rest, 0).ok_or(ends.clone())?, order.long(rest, 4).ok_or(ends.clone())?);
        if length < 12 || length % 4 != 0 || length > LARGEST + 4096 {
            return Err(Damaged::Length { what: "the block", number: number - 1, length });
        }
        let (block, next) = rest.split_at_checked(length as usize).ok_or(ends)?;
        let body = block.get(8..block.len() - 4).unwrap_or_default();
        match kind {
            1 => interfaces.push(Described::of(body, order)),
            2 | 3 | 6 => packets.push(packet(kind, body, order, &interfaces, number)?),
            // Names, statistics and what was written by others.
            _ => {}
        }
        rest = next;
    }
    Ok(packets)
}

impl Described {
    fn of(body: &[u8], order: Order) -> Self {
        let link = Link::of(order.short(body, 0).unwrap_or_default().into());
        let (mut resolution, mut at) = (1_000_000, 8);
        while let (Some(code @ 1..), Some(length)) = (order.short(body, at), order.short(body, at + 2)) {
            // if_tsresol: a power of ten, or of two if the upper bit is set.
            if let (9, Some(byte)) = (code, body.get(at + 4)) {
                let power = u32::from(byte & 0x7f);
                let base: u64 = if byte & 0x80 == 0 { 10 } else { 2 };
                resolution = base.checked_pow(power).unwrap_or(resolution);
            }
            at += 4 + usize::from(length).next_multiple_of(4);
        }
        Self { link, resolution }
    }
}

/// An enhanced (6), a simple (3) or an old packet block (2).
fn packet<'a>(
    kind: u32,
    body: &'a [u8],
    order: Order,
    interfaces: &[Described],
    number: usize,
) -> Result<Packet<'a>, Damaged> {
    let long = |at| order.long(body, at).ok_or(Damaged::Ends(number));
    let (interface, time, kept, whole, head) = match kind {
        3 => {
            let whole = long(0)?;
            (0, 0, whole.min(u32::try_from(body.len().saturating_sub(4)).unwrap_or(u32::MAX)), whole, 4)
        }
        _ => {
            // The old block has a count of lost packets in the other half.
            let interface = if kind == 6 { long(0)? } else { order.short(body, 0).map_or(0, u32::from) };
            (interface, u64::from(long(4)?) << 32 | u64::from(long(8)?), long(12)?, long(16)?, 20)
        }
    };
    let Described { link, resolution } = interfaces.get(interface as usize).ok_or(Damaged::NoInterface(number))?;
    let bytes = body.get(head..).and_then(|rest| rest.get(..kept as usize)).ok_or(Damaged::Ends(number))?;
    let at = u128::from(time) * 1_000_000 / u128::from(*resolution).max(1);
    let at = u64::try_from(at).unwrap_or_default();
    Ok(Packet { number, at, link: *link, bytes, cut: whole.saturating_sub(kept) as usize })
}

const IPV4: u16 = 0x0800;
/// The type of a section header, the same in both byte orders.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// No writer keeps more of a packet (MAXIMUM_SNAPLEN of libpcap).
const LARGEST: u32 = 262_144;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::net::frame::{BROADCAST, Frame};

    fn ethernet() -> Vec<u8> {
        let (from, to) = ("0.0.0.0:68".parse().expect("one"), "255.255.255.255:67".parse().expect("one"));
        Frame { link_from: [2, 0, 0, 0, 0, 1], link_to: BROADCAST, from, to, payload: b"hello" }.build().expect("short")
    }

    fn long(order: Order, value: u32) -> [u8; 4] {
        match order {
            Order::Big => value.to_be_bytes(),
            Order::Little => value.to_le_bytes(),
        }
    }

    fn pcap_of(order: Order, magic: u32, link: u32, packets: &[Vec<u8>]) -> Vec<u8> {
        let words = |words: &[u32]| words.iter().flat_map(|word| long(order, *word)).collect::<Vec<u8>>();
        let mut file = words(&[magic, 0x0002_0004, 0, 0, 65_535, link]);
        for packet in packets {
            let length = packet.len() as u32;
            file.extend(words(&[7, 5, length, length + 2]));
            file.extend_from_slice(packet);
        }
        file
    }

    /// With nanoseconds.
    fn pcapng_of(order: Order, link: u16, packet: &[u8]) -> Vec<u8> {
        let block = |kind: u32, body: &[u8]| {
            let mut body = body.to_vec();
            body.resize(body.len().next_multiple_of(4), 0);
            let length = long(order, body.len() as u32 + 12);
            [&long(order, kind), &length, body.as_slice(), &length].concat()
        };
        let short = |value: u16| match order {
            Order::Big => value.to_be_bytes(),
            Order::Little => value.to_le_bytes(),
        };
        let section = [long(order, 0x1a2b_3c4d).as_slice(), &short(1), &short(0), &[0xff; 8]].concat();
        let interface =
            [&short(link), &short(0), long(order, 0).as_slice(), &short(9), &short(1), &[9, 0, 0, 0], &[0; 4]].concat();
        let length = long(order, packet.len() as u32);
        let time = 7_000_005_000_u64;
        let head =
            [long(order, 0), long(order, (time >> 32) as u32), long(order, time as u32), length, length].concat();
        let simple = [length.as_slice(), packet].concat();
        [
            block(0x0a0d_0d0a, &section),
            block(1, &interface),
            block(4, b"name"),
            block(6, &[&head, packet].concat()),
            block(3, &simple),
        ]
        .concat()
    }

    #[test]
    fn both_formats_in_both_byte_orders() {
        let frame = ethernet();
        for order in [Order::Big, Order::Little] {
            for (magic, at) in [(0xa1b2_c3d4, 7_000_005), (0xa1b2_3c4d, 7_000_000)] {
                let file = pcap_of(order, magic, 1, &[frame.clone(), vec![1, 2]]);
                let all = packets(&file).expect("a capture");
                assert_eq!((all.len(), all[0].at, all[0].cut, all[1].bytes), (2, at, 2, [1, 2].as_slice()));
                assert_eq!(all[0].datagram().expect("a datagram").payload, b"hello");
                assert_eq!(all[1].datagram(), None);
            }
            let file = pcapng_of(order, 1, &frame);
            let all = packets(&file).expect("a capture");
            assert_eq!((all.len(), all[0].at, all[1].at), (2, 7_000_005, 0));
            assert!(all.iter().all(|packet| packet.datagram().is_some_and(|datagram| datagram.payload == b"hello")));
        }
    }

    #[test]
    fn every_header_of_a_link_is_known() {
        let ip = ethernet()[14..].to_vec();
        let begins = |head: &[u8]| [head, &ip].concat();
        let tagged = [&[0; 12], [0x81, 0, 0, 20, 8, 0].as_slice()].concat();
        let twice = [&[0; 12], [0x88, 0xa8, 0, 20, 0x81, 0, 0, 1, 8, 0].as_slice()].concat();
        let sll = [&[0; 14], [8, 0].as_slice()].concat();
        let sll2 = [[8, 0].as_slice(), &[0; 18]].concat();
        for (link, bytes) in [
            (1, begins(&tagged)),
            (1, begins(&twice)),
            (113, begins(&sll)),
            (276, begins(&sll2)),
            (101, ip.clone()),
            (228, ip.clone()),
            (0, begins(&[2, 0, 0, 0])),
        ] {
            let file = pcap_of(Order::Little, 0xa1b2_c3d4, link, &[bytes]);
            let all = packets(&file).expect("a capture");
            assert_eq!(all[0].datagram().map(|datagram| datagram.payload), Some(b"hello".as_slice()), "link {link}");
        }
        let file = pcap_of(Order::Little, 0xa1b2_c3d4, 127, &[ip]);
        assert_eq!(packets(&file).expect("a capture")[0].datagram(), None);
    }

    #[test]
    fn a_damaged_file_is_an_error_in_words() {
        let words = |file: &[u8]| packets(file).map(|packets| packets.len()).map_err(|error| error.to_string());
        for file in [b"".as_slice(), b"\xd4\xc3", b"GIF89a"] {
            assert!(words(file).expect_err("no capture").starts_with("it is no capture"), "{file:?}");
        }
        let frame = ethernet();
        let file = pcap_of(Order::Little, 0xa1b2_c3d4, 1, &[frame.clone(), frame.clone()]);
        let cut = words(&file[..file.len() - 1]).expect_err("damaged");
        assert_eq!(cut, "it ends in the middle of packet 2: capture it again, or copy the whole file");
        let mut long = file.clone();
        long[24 + 8..24 + 12].fill(0xff);
        assert!(words(&long).expect_err("damaged").starts_with("the length of the packet behind packet 0 is wrong"));
        let mut next = pcapng_of(Order::Little, 1, &frame);
        next[28 + 4] = 3;
        assert!(words(&next).expect_err("damaged").starts_with("the length of the block behind packet 0 is wrong"));
    }

    proptest! {
        #[test]
        fn nothing_stops_the_program(which in 0..4_usize, changes in prop::collection::vec((0..400_usize, any::<u8>()), 0..8), end in 0..600_usize) {
            let frame = ethernet();
            let mut file = match which {
                0 => pcap_of(Order::Big, 0xa1b2_c3d4, 1, &[frame.clone(), frame]),
                1 => pcap_of(Order::Little, 0xa1b2_3c4d, 113, &[frame]),
                2 => pcapng_of(Order::Big, 1, &frame),
                _ => pcapng_of(Order::Little, 276, &frame),
            };
            for (at, byte) in changes {
                if let Some(place) = file.get_mut(at) {
                    *place = byte;
                }
            }
            file.truncate(end.max(4));
            if let Ok(all) = packets(&file) {
                all.iter().for_each(|packet| assert!(packet.datagram().is_none_or(|datagram| datagram.payload.len() < 1000)));
            }
        }
    }
}
