//! Bytes ↔ header and options of a DHCP message (RFC 2131, RFC 2132). The only file that uses `dhcproto`.
//!
//! It uses the borrowed view of the crate, because the owned parser has three problems. It drops all options after one
//! that it cannot read (after a host name that is not UTF-8, options 60 and 93 are lost). It keeps only the first value
//! of option 93. It panics on a hardware address of more than 16 bytes.
//!
//! The options are read here: the borrowed view joins only pieces side by side, and loses an option if a piece of it
//! that is cut off comes next.

use std::{collections::BTreeMap, mem, net::Ipv4Addr};

use dhcproto::v4::{self, Opcode, borrowed};

use super::sub_options::encapsulated;
use crate::boot::{mac::MacAddr, reason::Reason};

/// The sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// BOOTREQUEST.
    Client,
    /// BOOTREPLY.
    Server,
}

/// The hardware address of a header; a reply copies that of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// The IANA number of the network type: 1 is Ethernet, 6 any network of IEEE 802, 32 InfiniBand.
    pub kind: u8,
    /// How many bytes of the address are used. The 20 bytes of InfiniBand do not fit, so it is 0 there (RFC 4390 §2.1).
    pub length: u8,
    /// The whole `chaddr`.
    pub address: [u8; 16],
}

impl Hardware {
    /// The number of InfiniBand.
    pub const INFINIBAND: u8 = 32;
    /// Why a message is refused whose card has no address that can be used here.
    pub const UNKNOWN: &str = "the hardware address is not of Ethernet or InfiniBand";
    /// The same of a card on InfiniBand.
    pub const NO_GUID: &str = "an InfiniBand card without its GUID in option 61 (RFC 4390 §2.1)";

    /// An Ethernet card's.
    #[must_use]
    pub fn ethernet(MacAddr(octets): MacAddr) -> Self {
        let mut address = [0; 16];
        address.iter_mut().zip(octets).for_each(|(byte, octet)| *byte = octet);
        Self { kind: 1, length: 6, address }
    }

    /// Its first six bytes as an Ethernet address.
    #[must_use]
    pub fn mac(&self) -> Option<MacAddr> {
        (self.length == 6).then(|| self.address.first_chunk().copied().map(MacAddr)).flatten()
    }
}

/// A message whose header was checked.
#[derive(Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    header: borrowed::Message<'a>,
}

/// Option 52: which header fields contain options too (RFC 2132 §9.3).
#[derive(Clone, Copy, Debug, Default)]
struct Overload {
    file: bool,
    sname: bool,
}

impl Overload {
    fn of(data: &[u8]) -> Self {
        let value = data.first().copied().unwrap_or_default();
        Self { file: matches!(value, 1 | 3), sname: matches!(value, 2 | 3) }
    }
}

impl<'a> Message<'a> {
    /// Reads a datagram. dhcproto checks only the length of the header.
    ///
    /// # Errors
    /// [`Reason::NotARequest`] and [`Reason::MalformedDhcp`].
    pub fn parse(datagram: &'a [u8], from: Sender) -> Result<Self, Reason> {
        let header =
            borrowed::Message::new(datagram).map_err(|_| Reason::MalformedDhcp("it is shorter than a header"))?;
        let opcode = match from {
            Sender::Client => Opcode::BootRequest,
            Sender::Server => Opcode::BootReply,
        };
        if header.opcode() != opcode {
            return Err(Reason::NotARequest);
        }
        if datagram.get(236..240) != Some(&v4::MAGIC) {
            return Err(Reason::MalformedDhcp("the magic cookie is wrong"));
        }
        match (u8::from(header.htype()), header.hlen()) {
            (1 | 6, 6) | (Hardware::INFINIBAND, 0 | 6) => {}
            _ => return Err(Reason::MalformedDhcp(Hardware::UNKNOWN)),
        }
        Ok(Self { bytes: datagram, header })
    }

    /// Transaction id.
    #[must_use]
    pub fn xid(&self) -> u32 {
        self.header.xid()
    }

    /// Seconds since the client started.
    #[must_use]
    pub fn secs(&self) -> u16 {
        self.header.secs()
    }

    /// Whether the client can only receive broadcasts.
    #[must_use]
    pub fn broadcast(&self) -> bool {
        self.header.flags().broadcast()
    }

    /// The address that the client has.
    #[must_use]
    pub fn ciaddr(&self) -> Ipv4Addr {
        self.header.ciaddr()
    }

    /// The leased address.
    #[must_use]
    pub fn yiaddr(&self) -> Ipv4Addr {
        self.header.yiaddr()
    }

    /// The next server.
    #[must_use]
    pub fn siaddr(&self) -> Ipv4Addr {
        self.header.siaddr()
    }

    /// The relay.
    #[must_use]
    pub fn giaddr(&self) -> Ipv4Addr {
        self.header.giaddr()
    }

    /// The client's card.
    #[must_use]
    pub fn hardware(&self) -> Hardware {
        let address = self.bytes.get(28..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or_default();
        Hardware { kind: u8::from(self.header.htype()), length: self.header.hlen(), address }
    }

    /// `file` without the zeros at the end; empty if it contains options.
    #[must_use]
    pub fn file(&self) -> &'a [u8] {
        if self.overload().file { &[] } else { until_nul(self.field(FILE)) }
    }

    /// `sname` without the zeros at the end; empty if it contains options.
    #[must_use]
    pub fn sname(&self) -> &'a [u8] {
        if self.overload().sname { &[] } else { until_nul(self.field(SNAME)) }
    }

    /// Every option. One whose code comes again is passed piece by piece, and then once more as a whole (RFC 3396 §7):
    /// the last value that `each` gets is the right one. So a message without pieces needs no memory here.
    pub fn each_option(&self, mut each: impl FnMut(u8, &[u8])) {
        let mut seen = [false; 256];
        let mut in_pieces = BTreeMap::new();
        self.pieces().for_each(|(code, data)| {
            if seen.get_mut(usize::from(code)).is_some_and(|seen| mem::replace(seen, true)) {
                in_pieces.insert(code, Vec::new());
            }
            each(code, data);
        });
        if !in_pieces.is_empty() {
            self.join(&mut in_pieces);
            in_pieces.iter().for_each(|(code, data)| each(*code, data));
        }
    }

    /// Adds the pieces of each of these options.
    fn join(&self, options: &mut BTreeMap<u8, Vec<u8>>) {
        for (code, data) in self.pieces() {
            let Some(whole) = options.get_mut(&code) else { continue };
            // Some firmware sends an option twice. A full piece may equal the one before it by chance.
            if whole != data || data.len() == usize::from(u8::MAX) {
                whole.extend_from_slice(data);
            }
        }
    }

    /// What is after the cookie, then what is in `file`, then what is in `sname` (RFC 3396 §5). The end of a field, or
    /// an option that is cut off, ends that field only.
    fn pieces(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let overload = self.overload();
        let in_file = overload.file.then(|| encapsulated(self.field(FILE)));
        let in_sname = overload.sname.then(|| encapsulated(self.field(SNAME)));
        self.options().chain(in_file.into_iter().flatten()).chain(in_sname.into_iter().flatten())
    }

    fn options(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        encapsulated(self.bytes.get(OPTIONS..).unwrap_or_default())
    }

    fn overload(&self) -> Overload {
        self.options().find(|(code, _)| *code == OVERLOAD).map(|(_, data)| Overload::of(data)).unwrap_or_default()
    }

    fn field(&self, place: std::ops::Range<usize>) -> &'a [u8] {
        self.bytes.get(place).unwrap_or_default()
    }
}

/// The bytes before the first zero.
#[must_use]
pub fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// The header of a message, as far as it is not the same for all.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// From the request.
    pub xid: u32,
    /// Whether the client can only receive broadcasts.
    pub broadcast: bool,
    /// From the request.
    pub ciaddr: Ipv4Addr,
    /// The leased address; zero for none.
    pub yiaddr: Ipv4Addr,
    /// The next server.
    pub siaddr: Ipv4Addr,
    /// From the request.
    pub giaddr: Ipv4Addr,
    /// From the request.
    pub hardware: Hardware,
    /// At most [`FILE_MAX`] bytes.
    pub file: &'a [u8],
}

/// A reply's datagram. Options keep their order, because old ROMs expect one (53 first). It ends with 255 and is padded
/// to the 300 bytes of a BOOTP packet (RFC 1542 §2.1). Options without data are left out. Long options are written in
/// pieces (RFC 3396 §6).
pub fn encode<'b>(header: &Header<'_>, options: impl IntoIterator<Item = (u8, &'b [u8])>) -> Vec<u8> {
    written(Opcode::BootReply, header, options)
}

/// A client's datagram, which asks for broadcast answers; for a client of our own.
pub fn encode_request<'b>(
    xid: u32,
    card: MacAddr,
    ciaddr: Ipv4Addr,
    options: impl IntoIterator<Item = (u8, &'b [u8])>,
) -> Vec<u8> {
    let (none, hardware) = (Ipv4Addr::UNSPECIFIED, Hardware::ethernet(card));
    let header = Header { xid, broadcast: true, ciaddr, yiaddr: none, siaddr: none, giaddr: none, hardware, file: b"" };
    written(Opcode::BootRequest, &header, options)
}

/// The DHCPDISCOVER by which the guard asks for other servers: their replies are to be broadcasts, which everyone hears.
#[must_use]
pub fn question(xid: u32, card: MacAddr, vendor_class: &[u8]) -> Vec<u8> {
    // Message type, parameter list (netmask, router, lease time, server), vendor class.
    let options = [(53, [1].as_slice()), (55, &[1, 3, 51, 54]), (60, vendor_class)];
    encode_request(xid, card, Ipv4Addr::UNSPECIFIED, options)
}

/// By hand: the encoder of dhcproto keeps no order of options, and to write the header by it was a twentieth of the CPU
/// time of an OFFER.
fn written<'b>(opcode: Opcode, header: &Header<'_>, options: impl IntoIterator<Item = (u8, &'b [u8])>) -> Vec<u8> {
    let Header { xid, broadcast, ciaddr, yiaddr, siaddr, giaddr, hardware, file } = header;
    let chaddr = hardware.address.get(..usize::from(hardware.length)).unwrap_or_default();
    let fields: [(usize, &[u8]); 10] = [
        (0, &[opcode.into(), hardware.kind, hardware.length]),
        (4, &xid.to_be_bytes()),
        (10, if *broadcast { &[0x80] } else { &[0] }),
        (12, &ciaddr.octets()),
        (16, &yiaddr.octets()),
        (20, &siaddr.octets()),
        (24, &giaddr.octets()),
        (28, chaddr),
        (FILE.start, file.get(..FILE_MAX).unwrap_or(file)),
        (OPTIONS - v4::MAGIC.len(), &v4::MAGIC),
    ];
    let mut datagram = Vec::with_capacity(CAPACITY);
    datagram.resize(OPTIONS, 0);
    for (at, bytes) in fields {
        datagram.iter_mut().skip(at).zip(bytes).for_each(|(to, byte)| *to = *byte);
    }
    for (code, data) in options {
        for piece in data.chunks(u8::MAX.into()) {
            datagram.extend([code, u8::try_from(piece.len()).unwrap_or(u8::MAX)]);
            datagram.extend_from_slice(piece);
        }
    }
    datagram.push(255);
    let padded = datagram.len().max(BOOTP_MIN);
    datagram.resize(padded, 0);
    datagram
}

/// The code of [`Overload`].
const OVERLOAD: u8 = 52;
/// `file` has 128 bytes, including a NUL (RFC 2131 §2).
pub const FILE_MAX: usize = 127;
/// RFC 1542 §2.1; some ROMs drop shorter packets.
const BOOTP_MIN: usize = 300;
/// Bytes of a common reply: memory for it is taken once.
const CAPACITY: usize = 512;
/// Where the options begin, after the cookie (RFC 2131 §3).
const OPTIONS: usize = 240;
/// The offsets in the header (RFC 2131 §2).
const SNAME: std::ops::Range<usize> = 44..108;
/// See [`SNAME`].
const FILE: std::ops::Range<usize> = 108..236;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A client's message: header, cookie, options, end.
    pub(crate) fn message(options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[..4].copy_from_slice(&[1, 1, 6, 0]);
        bytes[4..8].copy_from_slice(&0x1234_5678u32.to_be_bytes());
        bytes[8..10].copy_from_slice(&4u16.to_be_bytes());
        bytes[10] = 0x80;
        bytes[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        bytes.extend_from_slice(&v4::MAGIC);
        for (code, data) in options {
            bytes.extend_from_slice(&[*code, u8::try_from(data.len()).expect("a short option")]);
            bytes.extend_from_slice(data);
        }
        bytes.push(255);
        bytes
    }

    #[test]
    fn options_are_read_only_from_the_fields_in_option_52() {
        let codes = |overload: &[u8], file: &[u8], sname: &[u8]| {
            let mut bytes = message(&[(53, &[1]), (52, overload)]);
            bytes[108..108 + file.len()].copy_from_slice(file);
            bytes[44..44 + sname.len()].copy_from_slice(sname);
            let message = Message::parse(&bytes, Sender::Client).expect("a message");
            let mut codes = Vec::new();
            message.each_option(|code, data| codes.push((code, data.to_vec())));
            let fields = (message.file().to_vec(), message.sname().to_vec());
            (codes.split_off(2), fields)
        };
        let (in_file, in_sname) = (b"\x43\x01x\xff".as_slice(), b"\0\x42\x01y\xff".as_slice());
        let (of_file, of_sname) = ((67, b"x".to_vec()), (66, b"y".to_vec()));
        let none = Vec::new;
        assert_eq!(codes(&[1], in_file, b"name"), (vec![of_file.clone()], (none(), b"name".to_vec())));
        assert_eq!(codes(&[2], b"path", in_sname), (vec![of_sname.clone()], (b"path".to_vec(), none())));
        assert_eq!(codes(&[3], in_file, in_sname), (vec![of_file.clone(), of_sname], (none(), none())));
        // Without the end mark, incomplete, and with an invalid number.
        assert_eq!(codes(&[1], b"\x43\x01x", b""), (vec![of_file], (none(), none())));
        assert_eq!(codes(&[1], &[b"\x43\xff".as_slice(), &[b'x'; 100]].concat(), b""), (vec![], (none(), none())));
        for nothing in [&[0u8][..], &[4], &[]] {
            assert_eq!(codes(nothing, b"path", b"name"), (vec![], (b"path".to_vec(), b"name".to_vec())));
        }
    }
}
