//! Which firmware is behind an address: what a machine said by DHCP, for the stages that know it by its address only and
//! cannot wait for the recorder.

use std::net::Ipv4Addr;

use super::{
    client::{Client, Speaks},
    loader::ClientArch,
    mac::MacAddr,
    recent::Recent,
};

/// The memory of all machines; bounded.
#[derive(Debug)]
pub struct Heard {
    firmware: Recent<MacAddr, Firmware>,
    by_address: Recent<Ipv4Addr, MacAddr>,
}

/// What a machine said of its firmware.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firmware {
    /// Its architecture; `None` where it did not say.
    pub arch: Option<ClientArch>,
    /// It is an iPXE that cannot fetch a script by HTTP, as VirtualBox has.
    pub is_weak_ipxe: bool,
    /// What was heard last was the firmware itself, and no iPXE since. gPXE asks by TFTP as iPXE does, and runs no script
    /// of ours.
    pub spoke_last: bool,
}

impl Firmware {
    /// Whether what asks from there now may be an iPXE that runs our scripts.
    #[must_use]
    pub fn may_run_scripts(self) -> bool {
        !self.is_weak_ipxe && !self.spoke_last
    }
}

impl Default for Heard {
    fn default() -> Self {
        Self { firmware: Recent::new(MACHINES), by_address: Recent::new(MACHINES) }
    }
}

impl Heard {
    /// A machine asked by DHCP. An iPXE that was loaded says nothing of the firmware below it.
    pub fn asked(&mut self, client: &Client) {
        let firmware = self.firmware.touch(client.mac);
        match client.speaks {
            Speaks::Pxe | Speaks::HttpBoot => {
                *firmware = Firmware { arch: Some(client.arch()), is_weak_ipxe: false, spoke_last: true };
            }
            Speaks::Ipxe { http } => {
                firmware.is_weak_ipxe = !http;
                firmware.spoke_last = false;
                firmware.arch = firmware.arch.or(Some(client.arch()));
            }
        }
    }

    /// A machine has this address.
    pub fn took(&mut self, mac: MacAddr, address: Ipv4Addr) {
        self.by_address.insert(address, mac);
    }

    /// The firmware of the machine that has this address, where it was heard.
    #[must_use]
    pub fn at(&self, address: Ipv4Addr) -> Option<Firmware> {
        self.firmware.peek(self.by_address.peek(&address)?).copied()
    }
}

/// Machines that are remembered at least.
const MACHINES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_is_known_by_the_address_that_its_machine_took() {
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let client = |arch, speaks| Client { mac, uuid: None, archs: vec![ClientArch(arch)], speaks, interface: None };
        let address = Ipv4Addr::new(192, 0, 2, 1);
        let mut heard = Heard::default();
        heard.asked(&client(11, Speaks::Pxe));
        assert_eq!(heard.at(address), None);
        heard.took(mac, address);
        let arm = Firmware { arch: Some(ClientArch(11)), is_weak_ipxe: false, spoke_last: true };
        assert_eq!(heard.at(address), Some(arm));
        assert!(!arm.may_run_scripts(), "no iPXE was heard");
        heard.asked(&client(7, Speaks::Ipxe { http: true }));
        let below_ipxe = Firmware { spoke_last: false, ..arm };
        assert_eq!(heard.at(address), Some(below_ipxe), "an iPXE is no other firmware");
        assert!(below_ipxe.may_run_scripts());
        heard.asked(&client(0, Speaks::Ipxe { http: false }));
        assert!(heard.at(address).is_some_and(|firmware| firmware.is_weak_ipxe));
        heard.asked(&client(14, Speaks::Pxe));
        assert_eq!(heard.at(address), Some(Firmware { arch: Some(ClientArch(14)), ..arm }), "it has no loader");
    }
}
