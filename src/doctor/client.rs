//! The clients that the doctor plays, and what they send.

use std::net::Ipv4Addr;

use serde::Serialize;

use crate::{boot::mac::MacAddr, dhcp::wire::encode_request};

/// A kind of boot client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Client {
    /// A PXE ROM of a BIOS machine.
    Bios,
    /// UEFI firmware that boots by TFTP.
    Uefi,
    /// UEFI firmware that boots by HTTP.
    UefiHttp,
    /// iPXE.
    Ipxe,
}

impl Client {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Bios, Self::Uefi, Self::UefiHttp, Self::Ipxe];

    /// As users know it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Bios => "BIOS",
            Self::Uefi => "UEFI",
            Self::UefiHttp => "UEFI HTTP",
            Self::Ipxe => "iPXE",
        }
    }

    /// Its card in this run. The first three bytes are [`MacAddr::DOCTOR`]; `run` differs from one run to the next, so
    /// that no server takes a probe for the repetition of an earlier one.
    #[must_use]
    pub fn card(self, run: u16) -> MacAddr {
        let [a, b, c] = MacAddr::DOCTOR;
        let [high, low] = run.to_be_bytes();
        MacAddr([a, b, c, high, low, self as u8])
    }

    /// Options 60, 93 and 94, and those of iPXE (RFC 4578; net/udp/dhcp.c).
    fn options(self) -> &'static [(u8, &'static [u8])] {
        match self {
            Self::Bios => &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0]), (94, &[1, 2, 1])],
            Self::Uefi => &[(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7]), (94, &[1, 3, 16])],
            Self::UefiHttp => &[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16]), (94, &[1, 3, 1])],
            Self::Ipxe => &[
                (60, b"PXEClient:Arch:00007:UNDI:003010"),
                (93, &[0, 7]),
                (94, &[1, 3, 10]),
                (77, b"iPXE"),
                (175, b"\x13\x01\x01\x15\x01\x01\x24\x01\x01"),
            ],
        }
    }

    /// Its DHCPDISCOVER.
    #[must_use]
    pub fn discover(self, run: u16, xid: u32) -> Vec<u8> {
        self.message(run, xid, 1, Ipv4Addr::UNSPECIFIED)
    }

    /// Its DHCPREQUEST to a boot server on port 4011 (PXE 2.1 §2.2.5).
    #[must_use]
    pub fn boot_request(self, run: u16, xid: u32, own: Ipv4Addr) -> Vec<u8> {
        self.message(run, xid, 3, own)
    }

    fn message(self, run: u16, xid: u32, kind: u8, own: Ipv4Addr) -> Vec<u8> {
        let MacAddr(card) = self.card(run);
        // Of no real machine: RFC 9562 version 4 would be, this one has the card in it.
        let uuid = [&[0; 11], card.as_slice()].concat();
        let kind = [kind];
        let head: [(u8, &[u8]); 4] =
            [(53, &kind), (57, &[5, 192]), (55, &[1, 3, 6, 12, 15, 43, 54, 60, 66, 67, 128, 129, 175]), (97, &uuid)];
        encode_request(xid, self.card(run), own, head.into_iter().chain(self.options().iter().copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::client::Speaks,
        dhcp::request::{Kind, Request},
    };

    #[test]
    fn every_client_is_taken_for_what_it_plays() {
        let speaks = [Speaks::Pxe, Speaks::Pxe, Speaks::HttpBoot, Speaks::Ipxe { http: true }];
        for (client, speaks) in Client::ALL.into_iter().zip(speaks) {
            let request = Request::parse(&client.discover(513, 7)).expect("a request");
            assert_eq!((request.kind, request.xid, request.broadcast), (Kind::Discover, 7, true));
            assert!(request.mac.is_doctor() && request.mac == client.card(513));
            assert_eq!(request.client().expect("a client").speaks, speaks);
        }
        let own = Ipv4Addr::new(192, 0, 2, 3);
        let request = Request::parse(&Client::Uefi.boot_request(1, 2, own)).expect("a request");
        assert_eq!((request.kind, request.ciaddr), (Kind::Request, own));
    }
}
