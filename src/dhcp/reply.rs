//! The reply.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    vendor_options::VendorOptions,
    wire::{FILE_MAX, Hardware, Header, encode},
};

/// The reply. Everything that is not a field here is the same for all clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// DHCPOFFER or DHCPACK.
    pub kind: ReplyKind,
    /// From the request.
    pub xid: u32,
    /// Whether the client can only receive broadcasts.
    pub broadcast: bool,
    /// From the request.
    pub ciaddr: Ipv4Addr,
    /// From the request.
    pub giaddr: Ipv4Addr,
    /// From the request.
    pub hardware: Hardware,
    /// Our address on the client's network: siaddr. iPXE accepts no ACK with siaddr zero.
    pub server: Ipv4Addr,
    /// Option 54: our address too, or the address that a relay asks for (RFC 5107).
    pub server_id: Ipv4Addr,
    /// Option 60.
    pub vendor_class: &'static [u8],
    /// Option 43.
    pub vendor_options: VendorOptions,
    /// Option 97, from the request.
    pub uuid: Option<[u8; 17]>,
    /// TFTP path or URL: in `file`, or in option 67 if it is longer; empty for none.
    pub bootfile: String,
    /// Whether option 67 contains it too.
    pub bootfile_option: bool,
    /// Option 66: [`Self::server`] as text.
    pub server_option: bool,
    /// Option 209 (RFC 5071 §4): the name of its `pxelinux.cfg` file; empty for none. Option 210 goes with it.
    pub config_file: String,
    /// Option 175.
    pub ipxe: &'static [u8],
    /// Option 82, from the request.
    pub relay_agent: Vec<u8>,
    /// The lease that it offers or confirms; none for a proxy's reply.
    pub lease: Option<LeaseOptions>,
}

/// A lease, as a reply has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// yiaddr; none for a client that has an address and asks only for options (DHCPINFORM).
    pub address: Option<Ipv4Addr>,
    /// Option 51, and from it 58 and 59.
    pub time: Duration,
    /// Option 1.
    pub mask: Ipv4Addr,
    /// More options by their codes.
    pub options: Vec<(u8, Vec<u8>)>,
    /// The largest message that the client accepts (option 57), in bytes with the headers of IP and UDP.
    pub max_size: usize,
}

impl LeaseOptions {
    /// The size that every client accepts (RFC 2131 §2).
    pub const SIZE: usize = 576;

    /// The options of the lease itself, as code and data.
    fn own(&self) -> Vec<(u8, Vec<u8>)> {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        let mut own = Vec::new();
        if self.address.is_some() {
            // T1 and T2: when the client renews, and when it asks every server (RFC 2131 §4.4.5).
            own.extend([(51, self.time), (58, self.time / 2), (59, self.time * 7 / 8)].map(|(c, t)| (c, seconds(t))));
        }
        own.push((1, self.mask.octets().to_vec()));
        own
    }
}

/// Option 53 of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyKind {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
}

impl ReplyKind {
    fn code(self) -> &'static [u8] {
        match self {
            Self::Offer => &[2],
            Self::Ack => &[5],
            Self::Nak => &[6],
        }
    }
}

impl Reply {
    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Some(lease) = &self.lease else { return self.encode_with(&[]) };
        let mut options = [lease.own(), lease.options.clone()].concat();
        // What does not fit is left out from the end, but never an option of the lease itself.
        loop {
            let datagram = self.encode_with(&options);
            let has_room = datagram.len() + IP_AND_UDP <= lease.max_size.max(LeaseOptions::SIZE);
            if has_room || options.len() <= lease.own().len() {
                return datagram;
            }
            options.pop();
        }
    }

    fn encode_with(&self, lease_options: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let in_file = self.bootfile.len() <= FILE_MAX;
        let header = Header {
            xid: self.xid,
            broadcast: self.broadcast,
            ciaddr: self.ciaddr,
            yiaddr: self.lease.as_ref().and_then(|lease| lease.address).unwrap_or(Ipv4Addr::UNSPECIFIED),
            siaddr: self.server,
            giaddr: self.giaddr,
            hardware: self.hardware,
            file: if in_file { self.bootfile.as_bytes() } else { b"" },
        };
        // EDK2 writes a NUL one byte after option 67. With our own NUL, it stays inside the option.
        let mut bootfile_option = Vec::new();
        if (!in_file || self.bootfile_option) && !self.bootfile.is_empty() {
            bootfile_option = [self.bootfile.as_bytes(), b"\0"].concat();
        }
        let server_option = if self.server_option { self.server.to_string() } else { String::new() };
        let (server_id, vendor_options) = (self.server_id.octets(), self.vendor_options.bytes());
        // An absolute prefix: petitboot and PXELINUX add it to the name, but not to a path that begins with a slash.
        let path_prefix: &[u8] = if self.config_file.is_empty() { b"" } else { b"/" };
        let first: [(u8, &[u8]); 2] = [(53, self.kind.code()), (54, &server_id)];
        let behind: [(u8, &[u8]); 9] = [
            (60, self.vendor_class),
            (97, self.uuid.as_ref().map_or(b"", <[u8; 17]>::as_slice)),
            (43, &vendor_options),
            (66, server_option.as_bytes()),
            (67, &bootfile_option),
            (175, self.ipxe),
            (209, self.config_file.as_bytes()),
            (210, path_prefix),
            (82, &self.relay_agent),
        ];
        let of_lease = lease_options.iter().map(|(code, data)| (*code, data.as_slice()));
        encode(&header, first.into_iter().chain(of_lease).chain(behind))
    }
}

/// The headers in front of a DHCP message, in bytes.
const IP_AND_UDP: usize = 28;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{boot::mac::MacAddr, dhcp::request::tests::UUID};

    /// The vendor class for PXE clients.
    pub(crate) fn reply(kind: ReplyKind, bootfile: &str) -> Reply {
        Reply {
            kind,
            xid: 0x1234_5678,
            broadcast: true,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            hardware: Hardware::ethernet(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
            server: Ipv4Addr::new(192, 0, 2, 10),
            server_id: Ipv4Addr::new(192, 0, 2, 10),
            vendor_class: b"PXEClient",
            vendor_options: VendorOptions::Direct,
            uuid: UUID.try_into().ok(),
            bootfile: bootfile.into(),
            bootfile_option: false,
            server_option: false,
            config_file: String::new(),
            ipxe: b"",
            relay_agent: Vec::new(),
            lease: None,
        }
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
        assert_eq!(reply.encode(), expected);

        // After the others, for boot programs that asked for it.
        let config_file = "pxelinux.cfg/01-52-54-00-12-34-56".to_owned();
        let with_file = Reply { config_file, ..reply.clone() }.encode();
        let mut options = expected[..expected.iter().rposition(|byte| *byte == 0xff).expect("the end")].to_vec();
        options.extend_from_slice(b"\xd1\x21pxelinux.cfg/01-52-54-00-12-34-56\xd2\x01/\xff");
        options.resize(options.len().max(300), 0);
        assert_eq!(with_file, options);

        // `file` holds at most 127 bytes and a NUL. A longer name goes into option 67.
        let longest = Reply { bootfile: "x".repeat(127), ..reply.clone() }.encode();
        assert_eq!(&longest[108..236], [&[b'x'; 127][..], &[0]].concat());
        let longer = Reply { bootfile: "x".repeat(128), ..reply }.encode();
        assert_eq!(longer[108..236], [0; 128]);
        // Firmware that reads only options gets both names there too.
        let options =
            Reply { bootfile_option: true, server_option: true, ..self::reply(ReplyKind::Offer, "undionly.kpxe") };
        let options = options.encode();
        assert_eq!(&options[108..122], b"undionly.kpxe\0");
        assert!(options.ends_with(b"\x42\x0a192.0.2.10\x43\x0eundionly.kpxe\0\xff"));
        let option_67 = [&[67, 129][..], &[b'x'; 128], &[0]].concat();
        assert!(longer.windows(option_67.len()).any(|window| window == option_67));
    }

    #[test]
    fn a_long_option_is_written_in_pieces() {
        let relay_agent: Vec<u8> = (0..=255).chain(0..44).collect();
        let bytes = Reply { relay_agent: relay_agent.clone(), ..reply(ReplyKind::Offer, "undionly.kpxe") }.encode();
        let pieces = [&[82, 255][..], &relay_agent[..255], &[82, 45], &relay_agent[255..], &[255]].concat();
        assert!(bytes.ends_with(&pieces), "{bytes:02x?}");
    }
}
