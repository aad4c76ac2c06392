//! Bytes ↔ DHCP messages (RFC 2131, 2132, 4578). The only file that names `dhcproto`.
//!
//! Read through the crate's borrowed view, because its owned parser drops everything behind one option that it does
//! not like (a host name that is not UTF-8 lost options 60 and 93), keeps only the first value of option 93, and
//! panics on a hardware address of more than 16 bytes.

use std::net::Ipv4Addr;

use dhcproto::{
    Encodable, Encoder,
    v4::{self, DhcpOption, HType, Opcode, OptionCode, UnknownOption, borrowed},
};
use uuid::Uuid;

use crate::boot::{
    client::{Client, MacAddr, Speaks},
    loader::ClientArch,
    why::Why,
};

/// A client's message, with the options that a proxy looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Option 53.
    pub kind: Kind,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Whether it can only hear broadcasts.
    pub broadcast: bool,
    /// The address that it has.
    pub ciaddr: Ipv4Addr,
    /// The relay that it came through; zero for none.
    pub giaddr: Ipv4Addr,
    /// Its card.
    pub mac: MacAddr,
    /// Option 60.
    pub vendor_class: Vec<u8>,
    /// Option 77.
    pub user_class: Vec<u8>,
    /// Option 93, all values.
    pub archs: Vec<ClientArch>,
    /// Option 97 as it came, to be echoed.
    pub uuid: Vec<u8>,
    /// Option 54: the server that the client has chosen.
    pub server_id: Option<Ipv4Addr>,
    /// Option 50: the address that it takes.
    pub requested: Option<Ipv4Addr>,
    /// Option 175 as it came: iPXE's features.
    pub ipxe: Vec<u8>,
    /// Option 82 as it came, which a relay wants back (RFC 3046 §2.2).
    pub relay_agent: Vec<u8>,
}

/// Option 53, as far as a proxy tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPREQUEST.
    Request,
    /// DHCPINFORM.
    Inform,
    /// Any other type.
    Other(u8),
}

impl Request {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Why::NotARequest`] and [`Why::MalformedDhcp`]. Unknown and malformed options are passed over: firmware that
    /// gets one wrong still wants to boot.
    pub fn parse(datagram: &[u8]) -> Result<Self, Why> {
        let message = checked(datagram, Opcode::BootRequest)?;
        let mut request = Self {
            kind: Kind::Other(0),
            xid: message.xid(),
            secs: message.secs(),
            broadcast: message.flags().broadcast(),
            ciaddr: message.ciaddr(),
            giaddr: message.giaddr(),
            mac: MacAddr(
                *message.chaddr().first_chunk().ok_or(Why::MalformedDhcp("the hardware address is too short"))?,
            ),
            vendor_class: Vec::new(),
            user_class: Vec::new(),
            archs: Vec::new(),
            uuid: Vec::new(),
            server_id: None,
            requested: None,
            ipxe: Vec::new(),
            relay_agent: Vec::new(),
        };
        for option in message.opts() {
            request.read(u8::from(option.code()), option.data());
        }
        if request.kind == Kind::Other(0) {
            return Err(Why::MalformedDhcp("option 53 (message type) is missing"));
        }
        Ok(request)
    }

    fn read(&mut self, code: u8, data: &[u8]) {
        let address = || data.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        match code {
            50 => self.requested = address(),
            53 => self.kind = data.first().map_or(Kind::Other(0), |byte| Kind::from(*byte)),
            54 => self.server_id = address(),
            60 => self.vendor_class = data.to_vec(),
            77 => self.user_class = data.to_vec(),
            82 => self.relay_agent = data.to_vec(),
            93 => self.archs = data.as_chunks().0.iter().map(|code| ClientArch(u16::from_be_bytes(*code))).collect(),
            // Type 0 and 16 bytes (RFC 4578 §2.3). What is no UUID is not sent back: firmware checks its length.
            97 if data.len() == 17 => self.uuid = data.to_vec(),
            175 => self.ipxe = data.to_vec(),
            _ => {}
        }
    }

    /// The boot client behind the message.
    ///
    /// # Errors
    /// [`Why::NotPxe`]: option 60 alone decides, since ordinary clients may send any of the others.
    pub fn client(&self) -> Result<Client, Why> {
        let firmware = if self.vendor_class.starts_with(b"PXEClient") {
            Speaks::Pxe
        } else if self.vendor_class.starts_with(b"HTTPClient") {
            Speaks::HttpBoot
        } else {
            return Err(Why::NotPxe);
        };
        // iPXE's option 77 is the bare word; RFC 3004 puts a length before it.
        let is_ipxe = self.user_class == b"iPXE" || self.user_class == b"\x04iPXE";
        let speaks = if is_ipxe { Speaks::Ipxe { http: has_feature(&self.ipxe, FEATURE_HTTP) } } else { firmware };
        let archs = match self.archs.as_slice() {
            [] => vec![arch_of_vendor_class(&self.vendor_class).unwrap_or(ClientArch::X86_BIOS)],
            archs => archs.to_vec(),
        };
        // Type 0, then the UUID (RFC 4578 §2.3).
        let uuid = self.uuid.get(1..).and_then(|uuid| Uuid::from_slice(uuid).ok());
        Ok(Client { mac: self.mac, uuid, archs, speaks, interface: None })
    }
}

impl From<u8> for Kind {
    fn from(byte: u8) -> Self {
        match byte {
            1 => Self::Discover,
            3 => Self::Request,
            8 => Self::Inform,
            other => Self::Other(other),
        }
    }
}

/// The guard before `dhcproto`, which checks neither the opcode nor the cookie, and slices `chaddr` by a length from
/// the wire.
fn checked(datagram: &[u8], opcode: Opcode) -> Result<borrowed::Message<'_>, Why> {
    let message = borrowed::Message::new(datagram).map_err(|_| Why::MalformedDhcp("it is shorter than 240 bytes"))?;
    if message.opcode() != opcode {
        return Err(Why::NotARequest);
    }
    if datagram.get(236..240) != Some(&v4::MAGIC) {
        return Err(Why::MalformedDhcp("the magic cookie is wrong"));
    }
    if message.hlen() != 6 || message.htype() != HType::Eth {
        return Err(Why::MalformedDhcp("the hardware address is no Ethernet address"));
    }
    Ok(message)
}

/// iPXE feature tag "HTTP protocol" (include/ipxe/features.h, `DHCP_EB_FEATURE_HTTP`).
const FEATURE_HTTP: u8 = 0x13;

/// Whether the encapsulated options of option 175 hold this tag with a value that is not zero.
fn has_feature(mut encapsulated: &[u8], tag: u8) -> bool {
    while let [code, len, rest @ ..] = encapsulated {
        let Some((value, behind)) = rest.split_at_checked(usize::from(*len)) else { return false };
        if *code == tag {
            return value.iter().any(|byte| *byte != 0);
        }
        encapsulated = behind;
    }
    false
}

/// The architecture in `PXEClient:Arch:00007:UNDI:003016`, for firmware that sends no option 93.
fn arch_of_vendor_class(class: &[u8]) -> Option<ClientArch> {
    let class = std::str::from_utf8(class).ok()?;
    let mut parts = class.split(':').skip_while(|part| *part != "Arch").skip(1);
    parts.next()?.parse().ok().map(ClientArch)
}

/// Some server's message, as far as a proxy has to know what else its clients are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Whom it is for.
    pub mac: MacAddr,
    /// The address that it leases; zero where it leases none.
    pub yiaddr: Ipv4Addr,
    /// Where it says that the boot file is.
    pub siaddr: Ipv4Addr,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// Option 60.
    pub vendor_class: Vec<u8>,
    /// `file`, or option 67 where that is empty; without the zeros behind it.
    pub bootfile: Vec<u8>,
}

impl Offered {
    /// Reads a DHCPOFFER or DHCPACK.
    ///
    /// # Errors
    /// What keeps it from being one.
    pub fn parse(datagram: &[u8]) -> Result<Self, Why> {
        let message = checked(datagram, Opcode::BootReply)?;
        let text = |bytes: &[u8]| bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        let mut offered = Self {
            mac: MacAddr(
                *message.chaddr().first_chunk().ok_or(Why::MalformedDhcp("the hardware address is too short"))?,
            ),
            yiaddr: message.yiaddr(),
            siaddr: message.siaddr(),
            server_id: None,
            vendor_class: Vec::new(),
            bootfile: text(datagram.get(108..236).unwrap_or_default()),
        };
        let mut kind = 0;
        for option in message.opts() {
            let data = option.data();
            match u8::from(option.code()) {
                53 => kind = data.first().copied().unwrap_or_default(),
                54 => offered.server_id = data.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets)),
                60 => offered.vendor_class = data.to_vec(),
                67 if offered.bootfile.is_empty() => offered.bootfile = text(data),
                _ => {}
            }
        }
        if matches!(kind, 2 | 5) { Ok(offered) } else { Err(Why::MessageType(kind)) }
    }
}

/// What a proxy answers; everything that is not a field here is the same for all clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// DHCPOFFER or DHCPACK.
    pub kind: ReplyKind,
    /// From the request.
    pub xid: u32,
    /// From the request.
    pub broadcast: bool,
    /// From the request.
    pub ciaddr: Ipv4Addr,
    /// From the request.
    pub giaddr: Ipv4Addr,
    /// From the request.
    pub mac: MacAddr,
    /// Our address on the client's network: siaddr and option 54. iPXE takes no ACK whose siaddr is zero.
    pub server: Ipv4Addr,
    /// Option 60.
    pub vendor_class: &'static [u8],
    /// Option 43.
    pub vendor_options: &'static [u8],
    /// Option 97, from the request.
    pub uuid: Vec<u8>,
    /// TFTP path or URL: in `file`, or in option 67 where it is longer; empty for none.
    pub bootfile: String,
    /// Whether option 67 says it too.
    pub bootfile_option: bool,
    /// Option 66: [`Self::server`] once more, as text.
    pub server_option: bool,
    /// Option 175.
    pub ipxe: &'static [u8],
    /// Option 82, from the request.
    pub relay_agent: Vec<u8>,
}

/// Option 53 of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
}

impl Reply {
    /// The datagram. Options stand in the order in which old ROMs look for them (53 first), which is why they are
    /// encoded one by one; it ends in 255 and is padded to the 300 bytes of a BOOTP packet (RFC 1542 §2.1).
    ///
    /// # Errors
    /// Where an option does not fit its length byte, which the callers' own values always do.
    pub fn encode(&self) -> Result<Vec<u8>, dhcproto::error::EncodeError> {
        let mut datagram = Vec::with_capacity(512);
        let mut encoder = Encoder::new(&mut datagram);
        let in_file = self.bootfile.len() <= FILE_MAX;
        self.header(in_file).encode(&mut encoder)?;
        for option in self.options(in_file) {
            option.encode(&mut encoder)?;
        }
        DhcpOption::End.encode(&mut encoder)?;
        let padded = datagram.len().max(BOOTP_MIN);
        datagram.resize(padded, 0);
        Ok(datagram)
    }

    fn header(&self, in_file: bool) -> v4::Message {
        let none = Ipv4Addr::UNSPECIFIED;
        let mut header = v4::Message::new_with_id(self.xid, self.ciaddr, none, self.server, self.giaddr, &self.mac.0);
        header.set_opcode(Opcode::BootReply);
        header.set_flags(if self.broadcast { v4::Flags::default().set_broadcast() } else { v4::Flags::default() });
        if in_file {
            header.set_fname(self.bootfile.as_bytes());
        }
        header
    }

    fn options(&self, in_file: bool) -> Vec<DhcpOption> {
        let raw = |code: u8, data: &[u8]| {
            (!data.is_empty())
                .then(|| DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(code), data.to_vec())))
        };
        let kind = match self.kind {
            ReplyKind::Offer => v4::MessageType::Offer,
            ReplyKind::Ack => v4::MessageType::Ack,
        };
        // EDK2 writes a NUL one byte past option 67; one of our own keeps that inside the option.
        let mut bootfile_option = Vec::new();
        if !in_file || self.bootfile_option {
            bootfile_option = [self.bootfile.as_bytes(), b"\0"].concat();
        }
        let server_option = if self.server_option { self.server.to_string() } else { String::new() };
        let always = [DhcpOption::MessageType(kind), DhcpOption::ServerIdentifier(self.server)];
        let optional = [
            raw(60, self.vendor_class),
            raw(97, &self.uuid),
            raw(43, self.vendor_options),
            raw(66, server_option.as_bytes()),
            raw(67, &bootfile_option),
            raw(175, self.ipxe),
            raw(82, &self.relay_agent),
        ];
        always.into_iter().chain(optional.into_iter().flatten()).collect()
    }
}

/// `file` holds 128 bytes with its NUL (RFC 2131 §2).
const FILE_MAX: usize = 127;
/// RFC 1542 §2.1; some ROMs drop shorter ones.
const BOOTP_MIN: usize = 300;

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

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

    pub(crate) const UUID: &[u8] = b"\0\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x01";

    /// What a PXE client is answered.
    pub(crate) fn reply(kind: ReplyKind, bootfile: &str) -> Reply {
        Reply {
            kind,
            xid: 0x1234_5678,
            broadcast: true,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            mac: MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
            server: Ipv4Addr::new(192, 0, 2, 10),
            vendor_class: b"PXEClient",
            vendor_options: b"\x06\x01\x08\xff",
            uuid: UUID.to_vec(),
            bootfile: bootfile.into(),
            bootfile_option: false,
            server_option: false,
            ipxe: b"",
            relay_agent: Vec::new(),
        }
    }

    fn client(options: &[(u8, &[u8])]) -> Result<Client, Why> {
        let options = [&[(53u8, [1u8].as_slice())], options].concat();
        Request::parse(&message(&options)).and_then(|request| request.client())
    }

    #[test]
    fn the_client_is_told_by_option_60_93_77_and_175() {
        let speaks = |options: &[(u8, &[u8])]| client(options).map(|client| (client.speaks, client.arch().0));
        assert_eq!(speaks(&[(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])]), Ok((Speaks::Pxe, 7)));
        assert_eq!(speaks(&[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16])]), Ok((Speaks::HttpBoot, 16)));
        // No option 93: the vendor class tells, and where it does not, it is an old BIOS.
        assert_eq!(speaks(&[(60, b"PXEClient:Arch:00007:UNDI:003016")]), Ok((Speaks::Pxe, 7)));
        assert_eq!(speaks(&[(60, b"PXEClient")]), Ok((Speaks::Pxe, 0)));
        assert_eq!(speaks(&[(60, b"PXEClient"), (93, &[0])]), Ok((Speaks::Pxe, 0)), "half an option");
        assert_eq!(speaks(&[(60, b"PXEClient"), (93, &[0, 2, 0, 11])]), Ok((Speaks::Pxe, 11)), "a list");
        // A host name that is not UTF-8 hides nothing behind it.
        assert_eq!(speaks(&[(12, b"\xff\xfe"), (60, b"PXEClient"), (93, &[0, 7])]), Ok((Speaks::Pxe, 7)));
        let ipxe = |class: &[u8], features: &[u8]| speaks(&[(60, b"PXEClient"), (77, class), (175, features)]);
        assert_eq!(ipxe(b"iPXE", b"\xb1\x05\x01\x1a\xf4\x10\x00\x13\x01\x01"), Ok((Speaks::Ipxe { http: true }, 0)));
        assert_eq!(ipxe(b"\x04iPXE", b"\x13\x01\x01"), Ok((Speaks::Ipxe { http: true }, 0)));
        assert_eq!(ipxe(b"iPXE", b"\x15\x01\x01"), Ok((Speaks::Ipxe { http: false }, 0)));
        assert_eq!(ipxe(b"iPXE", b"\x13\x09\x01"), Ok((Speaks::Ipxe { http: false }, 0)), "cut short");
        assert_eq!(ipxe(b"gPXE", b"\x13\x01\x01"), Ok((Speaks::Pxe, 0)));
        assert_eq!(speaks(&[(60, b"MSFT 5.0")]), Err(Why::NotPxe));
        assert_eq!(speaks(&[]), Err(Why::NotPxe));
    }

    #[test]
    fn only_a_uuid_is_kept_to_be_echoed() {
        let uuid = |data: &[u8]| Request::parse(&message(&[(53, &[1]), (97, data)])).map(|request| request.uuid);
        assert_eq!(uuid(UUID), Ok(UUID.to_vec()));
        assert_eq!(uuid(b""), Ok(Vec::new()));
        assert_eq!(uuid(&[0; 200]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_request_has_a_name() {
        let good = message(&[(53, &[1])]);
        let broken = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            Request::parse(&bytes).map(|request| request.kind)
        };
        assert_eq!(broken(|_| {}), Ok(Kind::Discover));
        assert_eq!(broken(|b| b[0] = 2), Err(Why::NotARequest));
        assert!(matches!(broken(|b| b[2] = 255), Err(Why::MalformedDhcp(_))), "the length that panics dhcproto");
        assert!(matches!(broken(|b| b[236] = 0), Err(Why::MalformedDhcp(_))));
        assert!(matches!(broken(|b| b.truncate(239)), Err(Why::MalformedDhcp(_))));
        assert!(matches!(broken(|b| b.truncate(240)), Err(Why::MalformedDhcp(_))), "no message type");
    }

    #[test]
    fn a_reply_is_this_datagram() {
        let reply = reply(ReplyKind::Offer, "undionly.kpxe");
        let mut expected = vec![0; 236];
        expected[..4].copy_from_slice(&[2, 1, 6, 0]);
        expected[4..8].copy_from_slice(b"\x12\x34\x56\x78");
        expected[10] = 0x80;
        expected[20..24].copy_from_slice(&[192, 0, 2, 10]);
        expected[28..34].copy_from_slice(&[0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        expected[108..121].copy_from_slice(b"undionly.kpxe");
        expected.extend_from_slice(b"\x63\x82\x53\x63\x35\x01\x02\x36\x04\xc0\x00\x02\x0a\x3c\x09PXEClient\x61\x11");
        expected.extend_from_slice(UUID);
        expected.extend_from_slice(b"\x2b\x04\x06\x01\x08\xff\xff");
        expected.resize(300, 0);
        assert_eq!(reply.encode().expect("it fits"), expected);

        // 127 bytes are the most that `file` holds beside its NUL; more goes into option 67.
        let longest = Reply { bootfile: "x".repeat(127), ..reply.clone() }.encode().expect("it fits");
        assert_eq!(&longest[108..236], [&[b'x'; 127][..], &[0]].concat());
        let longer = Reply { bootfile: "x".repeat(128), ..reply }.encode().expect("it fits");
        assert_eq!(longer[108..236], [0; 128]);
        // Firmware that reads options only gets both names in options too.
        let options =
            Reply { bootfile_option: true, server_option: true, ..self::reply(ReplyKind::Offer, "undionly.kpxe") };
        let options = options.encode().expect("it fits");
        assert_eq!(&options[108..122], b"undionly.kpxe\0");
        assert!(options.ends_with(b"\x42\x0a192.0.2.10\x43\x0eundionly.kpxe\0\xff"));
        let option_67 = [&[67, 129][..], &[b'x'; 128], &[0]].concat();
        assert!(longer.windows(option_67.len()).any(|window| window == option_67));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_have_a_reason(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            let _ = Request::parse(&bytes).and_then(|request| request.client());
            let _ = Offered::parse(&bytes);
        }

        #[test]
        fn a_good_message_with_some_bytes_changed_never_panics(
            changes in prop::collection::vec((0usize..330, any::<u8>()), 1..40),
            cut in 0usize..330,
        ) {
            let mut bytes = message(&[
                (53, &[1]), (60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7]), (77, b"iPXE"),
                (175, b"\x13\x01\x01\x15\x01\x01"), (97, UUID),
            ]);
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes.truncate(cut);
            let _ = Request::parse(&bytes).and_then(|request| request.client());
            if let Some(opcode) = bytes.first_mut() {
                *opcode = 2;
            }
            let _ = Offered::parse(&bytes);
        }
    }
}
