//! Makers of network cards, by the first half of their MAC addresses: the IEEE's table, as the distributions keep it.

use std::{collections::HashMap, fs};

/// The table; empty where the host has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Makers(HashMap<[u8; 3], String>);

impl Makers {
    /// Reads the table of this host: that of Debian's `ieee-data`, Fedora's `hwdata`, or systemd.
    #[must_use]
    pub fn load() -> Self {
        let read = |path: &&str| fs::read(path).ok();
        let text = PLACES.iter().find_map(read).unwrap_or_default();
        Self::parse(&String::from_utf8_lossy(&text))
    }

    /// Both formats: `00-22-72   (hex)\t\tName`, and systemd's `OUI:002272*` before ` ID_OUI_FROM_DATABASE=Name`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut makers = HashMap::new();
        let mut pending = None;
        for line in text.lines() {
            if let Some((prefix, name)) = line.split_once("(hex)") {
                makers.extend(prefix_of(&prefix.replace('-', "")).map(|prefix| (prefix, name.trim().to_owned())));
            } else if let Some(prefix) = line.strip_prefix("OUI:") {
                // Longer prefixes are of smaller makers.
                pending = prefix_of(prefix.trim_end_matches('*'));
            } else if let Some(name) = line.trim_start().strip_prefix("ID_OUI_FROM_DATABASE=") {
                makers.extend(pending.take().map(|prefix| (prefix, name.trim().to_owned())));
            }
        }
        Self(makers)
    }

    /// The maker of a card, in words; none where it is not known. A locally administered address names no maker.
    #[must_use]
    pub fn of(&self, [a, b, c, ..]: [u8; 6]) -> Option<&str> {
        match a & LOCAL {
            0 => self.0.get(&[a, b, c]).map(String::as_str),
            _ => Some("a locally administered address"),
        }
    }
}

fn prefix_of(digits: &str) -> Option<[u8; 3]> {
    let digits = digits.trim();
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (digits.len() == 6).then(|| Some([byte(0)?, byte(2)?, byte(4)?])).flatten()
}

/// IEEE 802c: the second bit of the first byte.
const LOCAL: u8 = 2;
const PLACES: [&str; 4] = [
    "/usr/share/ieee-data/oui.txt",
    "/var/lib/ieee-data/oui.txt",
    "/usr/share/hwdata/oui.txt",
    "/usr/lib/udev/hwdb.d/20-OUI.hwdb",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_read() {
        let ieee = "OUI/MA-L   Organization\ncompany_id\n\n9C-8E-CD   (hex)\t\tDell Inc.\r\n9C8ECD     (base 16)\t\tDell Inc.\n\t\t\t\tOne Dell Way\n";
        let systemd =
            "# comment\nOUI:9C8ECD*\n ID_OUI_FROM_DATABASE=Dell Inc.\n\nOUI:0050C2001*\n ID_OUI_FROM_DATABASE=Small\n";
        for text in [ieee, systemd] {
            let makers = Makers::parse(text);
            assert_eq!(makers.of([0x9c, 0x8e, 0xcd, 1, 2, 3]), Some("Dell Inc."), "{text}");
            assert_eq!(makers.of([0, 0x50, 0xc2, 0, 0x10, 3]), None);
            assert_eq!(makers.of([0x52, 0x54, 0, 1, 2, 3]), Some("a locally administered address"));
            assert_eq!(makers.0.len(), 1);
        }
        assert_eq!(Makers::parse(""), Makers::default());
    }
}
