//! Who asks: a machine's firmware or its iPXE, as far as a packet says.

use std::{fmt, sync::Arc};

use uuid::Uuid;

use super::{
    loader::ClientArch,
    mac::{MacAddr, Oui},
    selector::Facts,
};

/// What is known of the one who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// `chaddr`, or the `mac` of a query.
    pub mac: MacAddr,
    /// Option 97, where it is one.
    pub uuid: Option<Uuid>,
    /// Option 93 in the client's order of preference; never empty.
    pub archs: Vec<ClientArch>,
    /// What it can take.
    pub speaks: Speaks,
    /// The interface of ours that it is heard on, which no packet carries.
    pub interface: Option<Arc<str>>,
}

impl Client {
    /// The architecture that decides: the first of the list that has a loader, else the first.
    #[must_use]
    pub fn arch(&self) -> ClientArch {
        let with_loader = self.archs.iter().find(|arch| arch.loader().is_some());
        with_loader.or(self.archs.first()).copied().unwrap_or(ClientArch::X86_BIOS)
    }

    /// What rules are asked by.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        let Self { mac, uuid, interface, .. } = self;
        Facts {
            mac: *mac,
            uuid: *uuid,
            serial: None,
            hardware: None,
            arch: self.arch().loader(),
            interface: interface.as_deref(),
        }
    }

    /// A Raspberry Pi's boot ROM. Most say that they are an x86 BIOS, and are known by the maker of their card or, since
    /// that can be another one's (an adapter, a compute module's carrier), by their UUID.
    #[must_use]
    pub fn is_raspberry_pi(&self) -> bool {
        let is_one = || Oui::of(self.mac).is_raspberry_pi() || self.uuid.is_some_and(is_raspberry_pis);
        let is_rom = |arch: ClientArch| arch == ClientArch::RASPBERRY_PI || arch == ClientArch::X86_BIOS && is_one();
        self.speaks == Speaks::Pxe && is_rom(self.arch())
    }
}

/// From the Pi 4 on the UUID begins with the board's name ("RPi4"; Raspberry Pi documentation, "Network booting", DHCP
/// request details); the ROM of the Pi 3 has the letter D in every byte.
fn is_raspberry_pis(uuid: Uuid) -> bool {
    let bytes = uuid.as_bytes();
    bytes.starts_with(b"RPi") || bytes == b"DDDDDDDDDDDDDDDD"
}

/// Which program is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Firmware that loads by TFTP (option 60 `PXEClient`).
    Pxe,
    /// Firmware that loads by HTTP (option 60 `HTTPClient`, UEFI 2.5 §23.7).
    HttpBoot,
    /// iPXE: option 77 `iPXE` (net/udp/dhcp.c).
    Ipxe {
        /// Feature tag 0x13 in option 175: it can fetch by HTTP. Crippled ROMs (VirtualBox's) cannot.
        http: bool,
    },
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arch = self.arch();
        match self.speaks {
            Speaks::Pxe | Speaks::HttpBoot => write!(f, "{arch}"),
            Speaks::Ipxe { http: true } => write!(f, "iPXE on {arch}"),
            Speaks::Ipxe { http: false } => write!(f, "iPXE without HTTP on {arch}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raspberry_pi_is_known_by_its_card_or_its_uuid_as_long_as_its_rom_asks() {
        let of = |mac, uuid: [u8; 16], arch, speaks| {
            let uuid = Some(Uuid::from_bytes(uuid));
            let archs = vec![ClientArch(arch)];
            Client { mac: MacAddr(mac), uuid, archs, speaks, interface: None }.is_raspberry_pi()
        };
        let (its, others) = ([0xdc, 0xa6, 0x32, 1, 2, 3], [0, 0xe0, 0x4c, 1, 2, 3]);
        let (pi_4, pi_5, pi_3, pc) = (*b"RPi4\x141\xd0\0....tail", *b"RPi5.......tail.", [0x44; 16], [0x11; 16]);
        for uuid in [pi_4, pi_5, pi_3] {
            assert!(of(others, uuid, 0, Speaks::Pxe));
            assert!(of(others, uuid, 41, Speaks::Pxe));
            // UEFI firmware on a Pi, an iPXE, and UEFI HTTP Boot are what they say.
            assert!(!of(its, uuid, 11, Speaks::Pxe));
            assert!(!of(its, uuid, 0, Speaks::Ipxe { http: true }));
            assert!(!of(its, uuid, 19, Speaks::HttpBoot));
        }
        assert!(of(its, pc, 0, Speaks::Pxe) && of(others, pc, 41, Speaks::Pxe));
        assert!(!of(others, pc, 0, Speaks::Pxe));
    }

    #[test]
    fn of_several_architectures_the_first_with_a_loader_decides() {
        let client = |codes: &[u16]| Client {
            mac: MacAddr([0; 6]),
            uuid: None,
            archs: codes.iter().copied().map(ClientArch).collect(),
            speaks: Speaks::Pxe,
            interface: None,
        };
        assert_eq!(client(&[2, 7, 0]).arch(), ClientArch(7));
        assert_eq!(client(&[2, 12]).arch(), ClientArch(2));
        assert_eq!(client(&[0]).arch(), ClientArch(0));
    }
}
