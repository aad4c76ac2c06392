//! A message of another DHCP server, as far as netbootd reads it.

use std::net::Ipv4Addr;

use super::wire::{Message, Sender, until_nul};
use crate::boot::{mac::MacAddr, reason::Reason};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The client.
    pub mac: MacAddr,
    /// The leased address; zero for none.
    pub yiaddr: Ipv4Addr,
    /// The relay that forwarded it; zero for none.
    pub giaddr: Ipv4Addr,
    /// siaddr: the address of the next server.
    pub siaddr: Ipv4Addr,
    /// giaddr: the relay that it is sent through; zero for none.
    pub relay: Ipv4Addr,
    /// Transaction id, of the request.
    pub xid: u32,
    /// Whether it is a DHCPACK, which confirms the lease.
    pub is_ack: bool,
    /// Whether it is a DHCPNAK, which refuses an address.
    pub is_nak: bool,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// Option 60.
    pub vendor_class: Vec<u8>,
    /// Whether it has option 43, which tells firmware how to go on.
    pub has_vendor_options: bool,
    /// Another name of the next server: option 66, or `sname` if that is empty.
    pub tftp_server: Vec<u8>,
    /// The servers in option 150, an address list (RFC 5859).
    pub tftp_addresses: Vec<Ipv4Addr>,
    /// `file`, or option 67 if that is empty, without zeros at the end.
    pub bootfile: Vec<u8>,
}

impl Offered {
    /// Reads a DHCPOFFER, DHCPACK or DHCPNAK.
    ///
    /// # Errors
    /// Why the message is none of these.
    pub fn parse(datagram: &[u8]) -> Result<Self, Reason> {
        let message = Message::parse(datagram, Sender::Server)?;
        let mut offered = Self {
            mac: message.hardware().mac().ok_or(Reason::MalformedDhcp("it has no Ethernet address"))?,
            yiaddr: message.yiaddr(),
            giaddr: message.giaddr(),
            siaddr: message.siaddr(),
            relay: message.giaddr(),
            xid: message.xid(),
            is_ack: false,
            is_nak: false,
            server_id: None,
            vendor_class: Vec::new(),
            has_vendor_options: false,
            tftp_server: message.sname().to_vec(),
            tftp_addresses: Vec::new(),
            bootfile: message.file().to_vec(),
        };
        let (mut kind, is_in_file) = (0, !offered.bootfile.is_empty());
        message.each_option(|code, data| match code {
            53 => kind = data.first().copied().unwrap_or_default(),
            43 => offered.has_vendor_options = !data.is_empty(),
            54 => offered.server_id = data.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets)),
            60 => offered.vendor_class = data.to_vec(),
            66 => offered.tftp_server = until_nul(data).to_vec(),
            67 if !is_in_file => offered.bootfile = until_nul(data).to_vec(),
            150 => {
                offered.tftp_addresses = data.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets)).collect()
            }
            _ => {}
        });
        offered.is_ack = kind == 5;
        offered.is_nak = kind == 6;
        if matches!(kind, 2 | 5 | 6) { Ok(offered) } else { Err(Reason::MessageType(kind)) }
    }
}
