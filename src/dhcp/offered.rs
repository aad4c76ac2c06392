//! Another server's message, as far as a proxy has to know what else its clients are told.

use std::net::Ipv4Addr;

use super::wire::{Message, Sender, until_nul};
use crate::boot::{client::MacAddr, why::Why};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// Whom it is for.
    pub mac: MacAddr,
    /// The address that it leases; zero where it leases none.
    pub yiaddr: Ipv4Addr,
    /// Where it says that the boot file is.
    pub siaddr: Ipv4Addr,
    /// The lease is the machine's: DHCPACK.
    pub is_ack: bool,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// Option 60.
    pub vendor_class: Vec<u8>,
    /// Where else it says that the boot file is: option 66, or `sname` where that is empty.
    pub tftp_server: Vec<u8>,
    /// And the servers of option 150, which is an address list (RFC 5859).
    pub tftp_addresses: Vec<Ipv4Addr>,
    /// `file`, or option 67 where that is empty; without the zeros behind it.
    pub bootfile: Vec<u8>,
}

impl Offered {
    /// Reads a DHCPOFFER or DHCPACK.
    ///
    /// # Errors
    /// What keeps it from being one.
    pub fn parse(datagram: &[u8]) -> Result<Self, Why> {
        let message = Message::parse(datagram, Sender::Server)?;
        let mut offered = Self {
            mac: message.hardware().mac().ok_or(Why::MalformedDhcp("it names no Ethernet card"))?,
            yiaddr: message.yiaddr(),
            siaddr: message.siaddr(),
            is_ack: false,
            server_id: None,
            vendor_class: Vec::new(),
            tftp_server: message.sname().to_vec(),
            tftp_addresses: Vec::new(),
            bootfile: message.file().to_vec(),
        };
        let mut kind = 0;
        message.each_option(|code, data| match code {
            53 => kind = data.first().copied().unwrap_or_default(),
            54 => offered.server_id = data.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets)),
            60 => offered.vendor_class = data.to_vec(),
            66 => offered.tftp_server = until_nul(data).to_vec(),
            67 if offered.bootfile.is_empty() => offered.bootfile = until_nul(data).to_vec(),
            150 => {
                offered.tftp_addresses = data.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets)).collect()
            }
            _ => {}
        });
        offered.is_ack = kind == 5;
        if matches!(kind, 2 | 5) { Ok(offered) } else { Err(Why::MessageType(kind)) }
    }
}
