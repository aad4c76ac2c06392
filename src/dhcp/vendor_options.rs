//! Option 43 of PXE (PXE 2.1 §2.2.1 and §3.1): what a client does with an offer.

use std::{borrow::Cow, net::Ipv4Addr};

use super::sub_options::encapsulated;

/// The option in a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VendorOptions {
    /// None. Then a client asks port 4011 (EDK2: "Binl").
    None,
    /// Use the boot file of this offer, without boot server and menu.
    Direct,
    /// A menu with one entry, chosen without delay. Its boot server is this one.
    Menu(Ipv4Addr),
    /// The menu entry that the boot ROM of a Raspberry Pi expects.
    RaspberryPi,
    /// The reply to a client that chose a menu entry: the same entry.
    BootItem([u8; 4]),
}

impl VendorOptions {
    /// The data of the option; empty for none.
    #[must_use]
    pub fn bytes(self) -> Cow<'static, [u8]> {
        match self {
            Self::None => Cow::Borrowed(b""),
            // PXE_DISCOVERY_CONTROL bit 3. Without it EDK2 stops with PXE-E21.
            Self::Direct => Cow::Borrowed(b"\x06\x01\x08\xff"),
            Self::Menu(server) => Cow::Owned(menu(server)),
            // It uses siaddr (or option 66) as its TFTP server (Raspberry Pi documentation, "Network boot your
            // Raspberry Pi").
            Self::RaspberryPi => Cow::Borrowed(b"\x06\x01\x03\x0a\x04\0PXE\x09\x14\0\0\x11Raspberry Pi Boot\xff"),
            Self::BootItem([a, b, c, d]) => Cow::Owned(vec![71, 4, a, b, c, d, 255]),
        }
    }
}

/// The format of dnsmasq's `pxe-service`, which is the only one that some boards accept. No discovery by broadcast or
/// multicast (PXE_DISCOVERY_CONTROL = 3), one boot server, one entry, and no time to choose another one (a prompt with
/// timeout 0 takes the first).
fn menu(server: Ipv4Addr) -> Vec<u8> {
    const WORDS: &[u8; 12] = b"Network boot";
    let ([high, low], [a, b, c, d]) = (SERVER_TYPE.to_be_bytes(), server.octets());
    let mut bytes = vec![6, 1, 3];
    bytes.extend([8, 7, high, low, 1, a, b, c, d]);
    bytes.extend([9, 15, high, low, 12]);
    bytes.extend_from_slice(WORDS);
    bytes.extend([10, 13, 0]);
    bytes.extend_from_slice(WORDS);
    bytes.push(255);
    bytes
}

/// The type of our boot server: the first number that vendors may use freely (PXE 2.1 §2.2.3, table 2-4).
const SERVER_TYPE: u16 = 0x8000;

/// The menu entry that a client chose (43.71, PXE_BOOT_ITEM: type and layer), in its request to port 4011.
#[must_use]
pub fn boot_item(option: &[u8]) -> Option<[u8; 4]> {
    let (_, value) = encapsulated(option).find(|(code, _)| *code == 71)?;
    value.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_is_these_bytes() {
        let expected = b"\x06\x01\x03\x08\x07\x80\x00\x01\xc0\x00\x02\x0a\x09\x0f\x80\x00\x0cNetwork boot\
                         \x0a\x0d\x00Network boot\xff";
        assert_eq!(VendorOptions::Menu(Ipv4Addr::new(192, 0, 2, 10)).bytes(), expected.as_slice());
        let entries: Vec<u8> = encapsulated(expected).map(|(code, _)| code).collect();
        assert_eq!(entries, [6, 8, 9, 10]);
    }

    #[test]
    fn the_entry_that_was_chosen_is_read_and_repeated() {
        assert_eq!(boot_item(b"\x47\x04\x80\0\0\0\xff"), Some([0x80, 0, 0, 0]));
        assert_eq!(boot_item(b"\x06\x01\x08\0\x47\x04\0\x05\0\x01"), Some([0, 5, 0, 1]));
        for option in [&b""[..], b"\x06\x01\x08\xff", b"\x47\x02\x80\0", b"\x47\x04\x80", b"\xff\x47\x04\x80\0\0\0"] {
            assert_eq!(boot_item(option), None, "{option:?}");
        }
        assert_eq!(VendorOptions::BootItem([0x80, 0, 0, 0]).bytes(), b"\x47\x04\x80\0\0\0\xff".as_slice());
    }
}
