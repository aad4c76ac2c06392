//! The part of a reply that describes the next boot step, in one of the formats that firmware accepts.

use std::net::Ipv4Addr;

use super::vendor_options::VendorOptions;
use crate::boot::{
    next::{NextStep, Under, Via},
    shape::Shape,
    urls::asset_url,
};

/// netbootd's servers, as one network sees them.
#[derive(Clone, Copy, Debug)]
pub struct Servers<'a> {
    /// Our address there.
    pub address: Ipv4Addr,
    /// Our HTTP server for scripts.
    pub base_url: &'a str,
    /// Our HTTP server for firmware, which seldom has DNS.
    pub firmware_url: &'a str,
}

/// The part of a reply that depends on the next boot step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// A path or a URL; can be empty.
    pub bootfile: String,
    /// Option 43.
    pub vendor_options: VendorOptions,
    /// Whether option 67 contains the path too.
    pub bootfile_option: bool,
    /// Option 66.
    pub server_option: bool,
    /// Option 175.
    pub ipxe: &'static [u8],
    /// A text for the log.
    pub words: String,
}

impl Offer {
    /// The offer for a boot step. The format matters only for a loader by TFTP.
    #[must_use]
    pub fn new(step: NextStep<'_>, shape: Shape, servers: Servers<'_>) -> Self {
        let Servers { address, base_url, firmware_url } = servers;
        match step {
            NextStep::Loader { name, via: Via::Tftp, .. } => Self::loader(name, shape, address),
            NextStep::Loader { name, under: Under::Loaders, via: Via::Http } => {
                Self::url(format!("{firmware_url}/loaders/{name}"))
            }
            NextStep::Loader { name, under: Under::Assets, via: Via::Http } => Self::url(asset_url(firmware_url, name)),
            NextStep::Script => Self {
                vendor_options: VendorOptions::Direct,
                ipxe: PRIORITY,
                ..Self::url([base_url, "/boot.ipxe"].concat())
            },
            NextStep::RaspberryPi => Self {
                bootfile: String::new(),
                vendor_options: VendorOptions::RaspberryPi,
                bootfile_option: false,
                server_option: true,
                ipxe: b"",
                words: format!("its own firmware files by TFTP from {address}"),
            },
            NextStep::PxelinuxCfg => Self {
                bootfile: String::new(),
                vendor_options: VendorOptions::Direct,
                bootfile_option: false,
                server_option: false,
                ipxe: b"",
                words: format!("its pxelinux.cfg from {address}; no loader for its architecture was found"),
            },
        }
    }

    fn loader(name: &str, shape: Shape, address: Ipv4Addr) -> Self {
        let mut words = format!("{name} by TFTP from {address}");
        if shape != Shape::Direct {
            words = format!("{words}, {shape}");
        }
        let vendor_options = match shape {
            Shape::Direct | Shape::Option67 | Shape::Option66 => VendorOptions::Direct,
            Shape::BootServer => VendorOptions::None,
            Shape::Menu => VendorOptions::Menu(address),
        };
        Self {
            // A client that asks port 4011 for its boot file must not get it in this offer.
            bootfile: if shape.asks_the_boot_server() { String::new() } else { name.to_owned() },
            vendor_options,
            bootfile_option: matches!(shape, Shape::Option67 | Shape::Option66),
            server_option: shape == Shape::Option66,
            ipxe: b"",
            words,
        }
    }

    fn url(url: String) -> Self {
        Self {
            words: url.clone(),
            bootfile: url,
            vendor_options: VendorOptions::None,
            bootfile_option: false,
            server_option: false,
            ipxe: b"",
        }
    }
}

/// Priority 1 (`DHCP_EB_PRIORITY`): our boot file is used before that of the main DHCP server.
const PRIORITY: &[u8] = b"\x01\x01\x01";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_for_firmware_have_an_ip_address_and_are_escaped() {
        let servers = Servers {
            address: Ipv4Addr::new(192, 0, 2, 10),
            base_url: "http://boot.lab:8080",
            firmware_url: "http://192.0.2.10:8080",
        };
        let bootfile = |step| Offer::new(step, Shape::Direct, servers).bootfile;
        let loader = |name, under| bootfile(NextStep::Loader { name, under, via: Via::Http });
        assert_eq!(loader("snponly.efi", Under::Loaders), "http://192.0.2.10:8080/loaders/snponly.efi");
        assert_eq!(
            loader("my tools/grub 100% é#?.efi", Under::Assets),
            "http://192.0.2.10:8080/assets/my%20tools/grub%20100%25%20%C3%A9%23%3F.efi"
        );
        assert_eq!(bootfile(NextStep::Script), "http://boot.lab:8080/boot.ipxe");
        // TFTP names are not URLs, so nothing is escaped.
        let by_tftp = NextStep::Loader { name: "my tools/grub.efi", under: Under::Assets, via: Via::Tftp };
        assert_eq!(bootfile(by_tftp), "my tools/grub.efi");
    }
}
