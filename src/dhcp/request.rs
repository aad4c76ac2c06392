//! A client's message, as far as a proxy looks at it (RFC 2131, 2132, 4578).

use std::net::Ipv4Addr;

use uuid::Uuid;

use super::{
    infiniband, ipxe, relay_agent,
    vendor_options::boot_item,
    wire::{Hardware, Message, Sender, until_nul},
};
use crate::boot::{
    client::{Client, Speaks},
    loader::ClientArch,
    mac::MacAddr,
    reason::Reason,
};

/// A client's message, with the options that a proxy looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Option 53.
    pub kind: Kind,
    /// Transaction id.
    pub xid: u32,
    /// Seconds since the client started.
    pub secs: u16,
    /// Whether it can only receive broadcasts.
    pub broadcast: bool,
    /// The address that it has.
    pub ciaddr: Ipv4Addr,
    /// The relay that forwarded it; zero for none.
    pub giaddr: Ipv4Addr,
    /// The hardware address, copied into the reply.
    pub hardware: Hardware,
    /// The MAC address of its network card.
    pub mac: MacAddr,
    /// Whether it asks for option 209 or 210 in its option 55: a boot program that reads `pxelinux.cfg`.
    pub asks_for_pxelinux: bool,
    /// Option 60.
    pub vendor_class: Vec<u8>,
    /// Option 77.
    pub user_class: Vec<u8>,
    /// Option 93, all values.
    pub archs: Vec<ClientArch>,
    /// Option 93 with one byte, as some old firmware sends it.
    pub half_arch: Option<u8>,
    /// Option 97, unchanged, copied into the reply.
    pub uuid: Option<[u8; 17]>,
    /// Option 54: the server that the client chose.
    pub server_id: Option<Ipv4Addr>,
    /// Option 50: the address that it requests.
    pub requested: Option<Ipv4Addr>,
    /// Option 57: the largest message that it accepts, in bytes with the headers of IP and UDP; 0 where it does not say.
    pub max_size: u16,
    /// Option 43.71: the menu entry that it chose.
    pub boot_item: Option<[u8; 4]>,
    /// Option 175, unchanged: the features of iPXE.
    pub ipxe: Vec<u8>,
    /// Option 82, unchanged: a relay needs it back (RFC 3046 §2.2).
    pub relay_agent: Vec<u8>,
}

/// Option 53, as far as a proxy distinguishes the types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPREQUEST.
    Request,
    /// DHCPDECLINE.
    Decline,
    /// DHCPRELEASE.
    Release,
    /// DHCPINFORM.
    Inform,
    /// Any other type.
    Other(u8),
}

impl Request {
    /// Reads a datagram.
    ///
    /// # Errors
    /// [`Reason::NotARequest`] and [`Reason::MalformedDhcp`]. Unknown and malformed options are ignored: firmware with a
    /// wrong option should boot too.
    pub fn parse(datagram: &[u8]) -> Result<Self, Reason> {
        let message = Message::parse(datagram, Sender::Client)?;
        let hardware = message.hardware();
        let mut request = Self::new(hardware, hardware.mac().unwrap_or(NO_CARD));
        request.xid = message.xid();
        request.secs = message.secs();
        request.broadcast = message.broadcast();
        request.ciaddr = message.ciaddr();
        request.giaddr = message.giaddr();
        message.each_option(|code, data| request.read(code, data));
        if request.mac == NO_CARD && hardware.length == 0 {
            return Err(Reason::MalformedDhcp(Hardware::NO_GUID));
        }
        if request.kind == Kind::Other(0) {
            return Err(Reason::MalformedDhcp("option 53 (message type) is missing"));
        }
        Ok(request)
    }

    /// A message without options.
    fn new(hardware: Hardware, mac: MacAddr) -> Self {
        let none = Ipv4Addr::UNSPECIFIED;
        Self {
            kind: Kind::Other(0),
            xid: 0,
            secs: 0,
            broadcast: false,
            ciaddr: none,
            giaddr: none,
            hardware,
            mac,
            asks_for_pxelinux: false,
            vendor_class: Vec::new(),
            user_class: Vec::new(),
            archs: Vec::new(),
            half_arch: None,
            uuid: None,
            server_id: None,
            requested: None,
            max_size: 0,
            boot_item: None,
            ipxe: Vec::new(),
            relay_agent: Vec::new(),
        }
    }

    /// The DHCPDISCOVER that a machine would send, for `explain`.
    #[must_use]
    pub fn discover(mac: MacAddr, arch: ClientArch, uuid: Option<Uuid>, speaks: Speaks) -> Self {
        let class = if speaks == Speaks::HttpBoot { "HTTPClient" } else { "PXEClient" };
        let (user_class, ipxe): (&[u8], &[u8]) = match speaks {
            Speaks::Ipxe { http: true } => (b"iPXE", ipxe::HTTP),
            Speaks::Ipxe { http: false } => (b"iPXE", b""),
            Speaks::Pxe | Speaks::HttpBoot => (b"", b""),
        };
        Self {
            kind: Kind::Discover,
            vendor_class: format!("{class}:Arch:{:05}:UNDI:003016", arch.0).into_bytes(),
            archs: vec![arch],
            uuid: uuid.and_then(|uuid| [&[0], uuid.as_bytes().as_slice()].concat().try_into().ok()),
            user_class: user_class.to_vec(),
            ipxe: ipxe.to_vec(),
            ..Self::new(Hardware::ethernet(mac), mac)
        }
    }

    fn read(&mut self, code: u8, data: &[u8]) {
        let address = || data.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets));
        match code {
            43 => self.boot_item = boot_item(data),
            50 => self.requested = address(),
            53 => self.kind = data.first().map_or(Kind::Other(0), |byte| Kind::from(*byte)),
            54 => self.server_id = address(),
            55 => self.asks_for_pxelinux = data.contains(&209) || data.contains(&210),
            57 => self.max_size = data.first_chunk().map_or(0, |size| u16::from_be_bytes(*size)),
            60 => self.vendor_class = data.to_vec(),
            61 if self.hardware.length == 0 => {
                self.mac = infiniband::guid(data).map_or(NO_CARD, infiniband::mac);
            }
            77 => self.user_class = data.to_vec(),
            82 => self.relay_agent = data.to_vec(),
            93 => {
                let codes = data.as_chunks().0.iter().map(|code| ClientArch(u16::from_be_bytes(*code)));
                self.archs = codes.collect();
                self.half_arch = data.first().copied();
            }
            // Type 0 and 16 bytes (RFC 4578 §2.3). A value that is not a UUID is not copied: firmware checks its
            // length.
            97 => self.uuid = self.uuid.or(data.try_into().ok()),
            175 => self.ipxe = data.to_vec(),
            _ => {}
        }
    }

    /// The boot client that sent the message.
    ///
    /// # Errors
    /// [`Reason::NotPxe`]: option 60 decides, because ordinary clients may send any of the other options.
    pub fn client(&self) -> Result<Client, Reason> {
        let firmware = self.firmware()?;
        let speaks = ipxe::speaks(&self.user_class, &self.ipxe).unwrap_or(firmware);
        // Type 0, then the UUID (RFC 4578 §2.3).
        let uuid = self.uuid.and_then(|uuid| Uuid::from_slice(uuid.get(1..)?).ok());
        Ok(Client { mac: self.mac, uuid, archs: self.archs(), speaks, interface: None })
    }

    /// [`Self::client`], or firmware that sends no option 60 (SLOF, and s390 in QEMU): it says its architecture when it
    /// asks for `pxelinux.cfg`. Such firmware gets no offer, but may fetch files.
    #[must_use]
    pub fn booting(&self) -> Option<Client> {
        let reads_pxelinux = || {
            let archs = Some(self.archs.clone()).filter(|archs| self.asks_for_pxelinux && !archs.is_empty())?;
            Some(Client { mac: self.mac, uuid: None, archs, speaks: Speaks::Pxe, interface: None })
        };
        self.client().ok().or_else(reads_pxelinux)
    }

    fn firmware(&self) -> Result<Speaks, Reason> {
        let class = self.vendor_class.as_slice();
        // The vendor class of U-Boot (CONFIG_BOOTP_VCI_STRING, "U-Boot.armv8"). Without an architecture, U-Boot asks
        // only for an address, and x86 builds cannot run BIOS programs.
        let is_u_boot = class.starts_with(b"U-Boot") && !matches!(self.archs.as_slice(), [] | [ClientArch::X86_BIOS]);
        if class.starts_with(b"PXEClient") || is_u_boot {
            Ok(Speaks::Pxe)
        } else if class.starts_with(b"HTTPClient") {
            Ok(Speaks::HttpBoot)
        } else {
            Err(Reason::NotPxe)
        }
    }

    /// The architecture in option 93. The vendor class has it too. It is used if option 93 is missing or incomplete, or
    /// if there is no loader for its values.
    fn archs(&self) -> Vec<ClientArch> {
        let has_loader = |arch: &ClientArch| arch.loader().is_some();
        let by_class = || arch_of_vendor_class(&self.vendor_class);
        if self.archs.is_empty() {
            let half = self.half_arch.map(|byte| ClientArch(byte.into()));
            return vec![by_class().or(half).unwrap_or(ClientArch::X86_BIOS)];
        }
        if self.archs.iter().any(has_loader) {
            return self.archs.clone();
        }
        by_class().filter(has_loader).map_or_else(|| self.archs.clone(), |arch| vec![arch])
    }

    /// The address that it has, or accepts with this message (RFC 2131 §4.3.2).
    #[must_use]
    pub fn address(&self) -> Option<Ipv4Addr> {
        let taken = self.requested.filter(|_| self.kind == Kind::Request);
        Some(self.ciaddr).filter(|address| !address.is_unspecified()).or(taken)
    }

    /// The address that the relay wants to be the server's.
    #[must_use]
    pub fn server_override(&self) -> Option<Ipv4Addr> {
        relay_agent::server_id(&self.relay_agent)
    }
}

impl From<u8> for Kind {
    fn from(byte: u8) -> Self {
        match byte {
            1 => Self::Discover,
            3 => Self::Request,
            4 => Self::Decline,
            7 => Self::Release,
            8 => Self::Inform,
            other => Self::Other(other),
        }
    }
}

/// The architecture in `PXEClient:Arch:00007:UNDI:003016`, for firmware without option 93. Some firmware ends the class
/// with a NUL.
fn arch_of_vendor_class(class: &[u8]) -> Option<ClientArch> {
    let class = std::str::from_utf8(until_nul(class)).ok()?;
    let mut parts = class.split(':').skip_while(|part| *part != "Arch").skip(1);
    parts.next()?.trim().parse().ok().map(ClientArch)
}

/// The default if the message has none.
const NO_CARD: MacAddr = MacAddr([0; 6]);

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dhcp::{offered::Offered, wire::tests::message};

    pub(crate) const UUID: &[u8] = b"\0\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x01";

    fn client(options: &[(u8, &[u8])]) -> Result<Client, Reason> {
        let options = [&[(53u8, [1u8].as_slice())], options].concat();
        Request::parse(&message(&options)).and_then(|request| request.client())
    }

    #[test]
    fn the_client_is_detected_by_options_60_93_77_and_175() {
        let speaks = |options: &[(u8, &[u8])]| client(options).map(|client| (client.speaks, client.arch().0));
        assert_eq!(speaks(&[(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])]), Ok((Speaks::Pxe, 7)));
        assert_eq!(speaks(&[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16])]), Ok((Speaks::HttpBoot, 16)));
        // Without option 93 the vendor class decides. Without both it is an old BIOS.
        assert_eq!(speaks(&[(60, b"PXEClient:Arch:00007:UNDI:003016")]), Ok((Speaks::Pxe, 7)));
        assert_eq!(speaks(&[(60, b"PXEClient")]), Ok((Speaks::Pxe, 0)));
        assert_eq!(speaks(&[(60, b"PXEClient"), (93, &[0])]), Ok((Speaks::Pxe, 0)), "half an option");
        assert_eq!(speaks(&[(60, b"PXEClient"), (93, &[0, 2, 0, 11])]), Ok((Speaks::Pxe, 11)), "a list");
        // A host name that is not UTF-8 must not hide the options after it.
        assert_eq!(speaks(&[(12, b"\xff\xfe"), (60, b"PXEClient"), (93, &[0, 7])]), Ok((Speaks::Pxe, 7)));
        let ipxe = |class: &[u8], features: &[u8]| speaks(&[(60, b"PXEClient"), (77, class), (175, features)]);
        assert_eq!(ipxe(b"iPXE", b"\xb1\x05\x01\x1a\xf4\x10\x00\x13\x01\x01"), Ok((Speaks::Ipxe { http: true }, 0)));
        assert_eq!(ipxe(b"\x04iPXE", b"\x13\x01\x01"), Ok((Speaks::Ipxe { http: true }, 0)));
        assert_eq!(ipxe(b"iPXE", b"\x15\x01\x01"), Ok((Speaks::Ipxe { http: false }, 0)));
        assert_eq!(ipxe(b"iPXE", b"\x13\x09\x01"), Ok((Speaks::Ipxe { http: false }, 0)), "cut short");
        assert_eq!(ipxe(b"gPXE", b"\x13\x01\x01"), Ok((Speaks::Pxe, 0)));
        assert_eq!(ipxe(b"xNBA", b"\x13\x01\x01"), Ok((Speaks::Ipxe { http: true }, 0)));
        assert_eq!(speaks(&[(60, b"MSFT 5.0")]), Err(Reason::NotPxe));
        assert_eq!(speaks(&[]), Err(Reason::NotPxe));
    }

    #[test]
    fn the_architecture_is_found_in_all_forms_of_old_firmware() {
        let arch = |options: &[(u8, &[u8])]| client(options).map(|client| client.arch().0);
        let x64 = b"PXEClient:Arch:00007:UNDI:003016".as_slice();
        for class in [&b"PXEClient:Arch:00007\0"[..], b"PXEClient:Arch:00007", b"PXEClient:Arch:00007\0\0\0", x64] {
            assert_eq!(arch(&[(60, class)]), Ok(7), "{class:?}");
            // Empty, incomplete, and with swapped bytes.
            for arch_option in [&b""[..], b"\0", b"\x07", b"\x07\0"] {
                assert_eq!(arch(&[(60, class), (93, arch_option)]), Ok(7), "{class:?} {arch_option:?}");
            }
        }
        assert_eq!(arch(&[(60, b"PXEClient\0"), (93, b"\x07")]), Ok(7), "half a value, and nothing else");
        assert_eq!(arch(&[(60, b"PXEClient\0")]), Ok(0));
        assert_eq!(arch(&[(60, x64), (93, b"\0\x07\0")]), Ok(7), "one value and a half");
        assert_eq!(arch(&[(60, b"HTTPClient:Arch:00016:UNDI:003001\0")]), Ok(16));
        // Option 93 has priority over the class if there is a loader for it, or if there is none for both.
        assert_eq!(arch(&[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, b"\0\x0b")]), Ok(11));
        assert_eq!(arch(&[(60, b"PXEClient:Arch:00012:UNDI:003016"), (93, b"\0\x0e")]), Ok(14));
        assert_eq!(arch(&[(60, b"PXEClient:Arch:seven"), (93, b"\0\x0e")]), Ok(14));
    }

    #[test]
    fn u_boot_is_a_client_if_it_sends_its_architecture() {
        let speaks = |options: &[(u8, &[u8])]| client(options).map(|client| (client.speaks, client.arch().0));
        assert_eq!(speaks(&[(60, b"U-Boot.armv8"), (93, &[0, 22])]), Ok((Speaks::Pxe, 22)));
        assert_eq!(speaks(&[(60, b"U-Boot.arm"), (93, &[0, 21])]), Ok((Speaks::Pxe, 21)));
        assert_eq!(speaks(&[(60, b"PXEClient:Arch:0000b:UNDI:003000"), (93, &[0, 11])]), Ok((Speaks::Pxe, 11)));
        assert_eq!(speaks(&[(60, b"HTTPClient:Arch:00024"), (93, &[0, 24])]), Ok((Speaks::HttpBoot, 24)));
        for options in [&[(60, b"U-Boot.armv8".as_slice())][..], &[(60, b"U-Boot"), (93, &[0, 0])]] {
            assert_eq!(speaks(options), Err(Reason::NotPxe));
        }
    }

    #[test]
    fn firmware_without_a_class_is_known_by_its_architecture_and_pxelinux_cfg() {
        let arch = |options: &[(u8, &[u8])]| {
            let options = [&[(53u8, [3u8].as_slice())], options].concat();
            Request::parse(&message(&options)).expect("a request").booting().map(|client| client.arch().0)
        };
        // The DHCPREQUEST of QEMU's s390 firmware, and of SLOF.
        let asked: &[u8] = &[1, 3, 6, 66, 67, 93, 209, 210];
        assert_eq!(arch(&[(55, asked), (93, &[0, 31])]), Some(31));
        assert_eq!(arch(&[(55, asked), (93, &[0, 12])]), Some(12));
        // An ordinary client, also one that reads pxelinux.cfg or copies the firmware's option 93.
        assert_eq!(arch(&[(55, asked)]), None);
        assert_eq!(arch(&[(55, &asked[..6]), (93, &[0, 7])]), None);
        assert_eq!(arch(&[(60, b"PXEClient"), (93, &[0, 7])]), Some(7));
    }

    #[test]
    fn a_card_on_infiniband_is_known_by_its_guid() {
        let of = |length: u8, client_id: &[u8]| {
            let mut bytes = message(&[(53, &[1]), (61, client_id)]);
            (bytes[1], bytes[2]) = (32, length);
            Request::parse(&bytes).map(|request| (request.mac.to_string(), request.hardware.length))
        };
        let client_id = b"\xff\0\0\0\0\0\x02\0\0\x02\xc9\0\0\x02\xc9\x03\0\xa1\xb2\xc3";
        assert_eq!(of(0, client_id), Ok(("00:02:c9:a1:b2:c3".into(), 0)));
        assert_eq!(of(6, client_id), Ok(("52:54:00:12:34:56".into(), 6)), "iPXE has made its address itself");
        assert!(matches!(of(0, b"\x01"), Err(Reason::MalformedDhcp(why)) if why.contains("GUID")));
        for length in [1, 8, 16, 17, 20, 255] {
            assert!(matches!(of(length, client_id), Err(Reason::MalformedDhcp(_))), "{length}");
        }
    }

    #[test]
    fn a_card_of_another_network_of_ieee_802_is_known_by_its_address() {
        let of = |kind: u8| {
            let mut bytes = message(&[(53, &[1]), (60, b"PXEClient")]);
            bytes[1] = kind;
            Request::parse(&bytes).map(|request| (request.mac.to_string(), request.hardware.kind))
        };
        assert_eq!(of(6), Ok(("52:54:00:12:34:56".into(), 6)), "the reply has its type");
        // FireWire.
        assert_eq!(of(24), Err(Reason::MalformedDhcp(Hardware::UNKNOWN)));
    }

    #[test]
    fn the_request_of_explain_equals_a_real_one() {
        for (speaks, arch) in [
            (Speaks::Pxe, 7),
            (Speaks::Pxe, 22),
            (Speaks::HttpBoot, 16),
            (Speaks::Ipxe { http: true }, 0),
            (Speaks::Ipxe { http: false }, 0),
        ] {
            let mac = MacAddr([2, 0, 0, 0, 0, 1]);
            let uuid = Some(Uuid::from_u128(0x0011_2233));
            let client = Request::discover(mac, ClientArch(arch), uuid, speaks).client().expect("a client");
            assert_eq!(client, Client { mac, uuid, archs: vec![ClientArch(arch)], speaks, interface: None });
        }
    }

    #[test]
    fn only_a_uuid_is_kept_to_be_echoed() {
        let uuid = |data: &[u8]| Request::parse(&message(&[(53, &[1]), (97, data)])).map(|request| request.uuid);
        assert_eq!(uuid(UUID), Ok(UUID.try_into().ok()));
        assert_eq!(uuid(b""), Ok(None));
        assert_eq!(uuid(&[0; 200]), Ok(None));
    }

    #[test]
    fn an_option_in_pieces_is_read_as_one_wherever_they_are() {
        let arch = |options: &[(u8, &[u8])]| client(options).map(|client| client.arch().0);
        let x64 = b"PXEClient:Arch:00007:UNDI:003016".as_slice();
        assert_eq!(arch(&[(60, b"PXECli"), (60, b"ent:Arch:00007")]), Ok(7));
        assert_eq!(arch(&[(60, b"PXECli"), (93, &[0]), (60, b"ent:Ar"), (93, &[7]), (60, b"ch:00007")]), Ok(7));
        // Some firmware sends an option twice.
        assert_eq!(arch(&[(60, b"PXEClient:Arch:00007"), (93, &[]), (60, b"PXEClient:Arch:00007")]), Ok(7));
        let twice = [(97, UUID), (60, x64), (93, &[0, 7]), (93, &[0, 7]), (60, x64)];
        assert_eq!(client(&twice).map(|client| client.archs), Ok(vec![ClientArch(7)]));

        let agent = |pieces: &[(u8, &[u8])]| {
            let pieces = [&[(53u8, [1u8].as_slice())], pieces].concat();
            Request::parse(&message(&pieces)).map(|request| request.relay_agent)
        };
        let long: Vec<u8> = (0..=255).chain(0..44).collect();
        let (first, last) = long.split_at(255);
        assert_eq!(agent(&[(82, first), (82, last)]).as_ref(), Ok(&long));
        assert_eq!(agent(&[(82, first), (60, x64), (82, last)]).as_ref(), Ok(&long));
        // A full piece is no copy.
        assert_eq!(agent(&[(82, &[7; 255]), (82, &[7; 255])]), Ok(vec![7; 510]));
    }

    #[test]
    fn an_option_in_pieces_goes_on_in_the_fields_of_option_52() {
        let in_fields = |overload: u8, file: &[u8], sname: &[u8]| {
            let mut bytes = message(&[(53, &[1]), (52, &[overload]), (60, b"PXEClient:Arch")]);
            bytes[108..108 + file.len()].copy_from_slice(file);
            bytes[44..44 + sname.len()].copy_from_slice(sname);
            Request::parse(&bytes).map(|request| String::from_utf8_lossy(&request.vendor_class).into_owned())
        };
        assert_eq!(in_fields(1, b"\x3c\x06:00007\xff", b""), Ok("PXEClient:Arch:00007".into()));
        assert_eq!(in_fields(2, b"", b"\x3c\x06:00007\xff"), Ok("PXEClient:Arch:00007".into()));
        assert_eq!(in_fields(3, b"\x3c\x03:00\xff", b"\x3c\x03007\xff"), Ok("PXEClient:Arch:00007".into()));
    }

    #[test]
    fn a_piece_that_is_cut_off_does_not_hide_the_ones_before_it() {
        let mut bytes = message(&[(53, &[1]), (93, &[0, 7]), (60, b"PXEClient:Arch:00007:UNDI:003016")]);
        bytes.pop();
        for rest in [&b"\x3c\xc8PXE"[..], b"\x3c"] {
            let request = Request::parse(&[&bytes, rest].concat()).expect("a request");
            assert_eq!(request.vendor_class, b"PXEClient:Arch:00007:UNDI:003016");
        }
    }

    #[test]
    fn the_first_complete_value_of_a_short_option_is_taken() {
        let options: [(u8, &[u8]); 4] = [(50, &[192, 0, 2, 5]), (53, &[1]), (54, &[192, 0, 2, 6]), (57, &[5, 192])];
        let others: [(u8, &[u8]); 4] = [(50, &[192, 0, 2, 7]), (53, &[3]), (54, &[192, 0, 2, 8]), (57, &[2, 64])];
        let once = Request::parse(&message(&options));
        assert_eq!(Request::parse(&message(&[options, options].concat())), once);
        assert_eq!(Request::parse(&message(&[options, others].concat())), once);
        let other = [&[0; 16][..], &[9]].concat();
        let uuid = |pieces: &[&[u8]]| {
            let options = [(53u8, [1u8].as_slice())].into_iter().chain(pieces.iter().map(|data| (97, *data)));
            Request::parse(&message(&options.collect::<Vec<_>>())).map(|request| request.uuid)
        };
        for pieces in [&[UUID, UUID][..], &[UUID, &other], &[&UUID[..9], &UUID[9..]], &[b"", UUID], &[b"\0", UUID]] {
            assert_eq!(uuid(pieces), Ok(UUID.try_into().ok()), "{pieces:?}");
        }
    }

    #[test]
    fn other_messages_have_a_reason() {
        let good = message(&[(53, &[1])]);
        let broken = |change: fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            change(&mut bytes);
            Request::parse(&bytes).map(|request| request.kind)
        };
        assert_eq!(broken(|_| {}), Ok(Kind::Discover));
        assert_eq!(broken(|b| b[0] = 2), Err(Reason::NotARequest));
        assert!(matches!(broken(|b| b[2] = 255), Err(Reason::MalformedDhcp(_))), "the length that panics dhcproto");
        assert!(matches!(broken(|b| b[236] = 0), Err(Reason::MalformedDhcp(_))));
        assert!(matches!(broken(|b| b.truncate(239)), Err(Reason::MalformedDhcp(_))));
        assert!(matches!(broken(|b| b.truncate(240)), Err(Reason::MalformedDhcp(_))), "no message type");
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
