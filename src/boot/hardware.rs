//! What a machine says of its parts: maker, model and numbers from its firmware (SMBIOS), and its network card.
//!
//! Anyone who asks for a script may claim anything here, so it is shown, and it chooses a profile where no rule names the
//! machine itself.

use std::{borrow::Cow, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::text::on_screen;
use crate::spelling::fits;

/// The parts of a machine as iPXE reads them. What it does not know is `None`. iPXE has had all of these settings since
/// 2012, for BIOS and EFI alike (interface/smbios/smbios_settings.c, net/netdev_settings.c).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Hardware {
    /// `${manufacturer}`: who made the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<String>,
    /// `${product}`: the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// `${asset}`: the owner's number, on the enclosure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asset: Option<String>,
    /// `${board-serial}`: the main board's serial number.
    #[serde(alias = "board-serial", skip_serializing_if = "Option::is_none")]
    pub board_serial: Option<String>,
    /// `${netX/chip}`: the driver of the card that it booted from; `SNP` or `UNDI` where that is the firmware's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chip: Option<String>,
    /// `${netX/busid}` of that card: for PCI its vendor and device in hexadecimal, like `8086:100e`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busid: Option<String>,
    /// Memory in MiB: `${memsize}`, which few builds of iPXE know, else what the firmware's tables map.
    #[serde(alias = "memory", deserialize_with = "number", skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// `${smbios/19.4.8:hexraw}` and the same of three more tables, with hyphens between them, until it is
    /// [`Hardware::bounded`].
    #[serde(skip_serializing)]
    #[schemars(skip)]
    pub mapped: Option<String>,
    /// `${efi/SecureBoot}`: whether Secure Boot is on. A BIOS and an iPXE from before 2023-06 do not tell it.
    #[serde(alias = "sb", deserialize_with = "flag", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<bool>")]
    pub secure_boot: Option<bool>,
}

/// `01` and `00` in a query, a truth value in JSON; anything else is not known.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Flag {
        Known(bool),
        Said(String),
        Nothing(()),
    }
    Ok(match Flag::deserialize(deserializer)? {
        Flag::Known(flag) => Some(flag),
        Flag::Said(text) => match text.as_str() {
            "01" | "1" | "true" => Some(true),
            "00" | "0" | "false" => Some(false),
            _ => None,
        },
        Flag::Nothing(_) => None,
    })
}

impl Hardware {
    /// How many characters of a text are kept. SMBIOS sets no bound; until version 3 a text was to have 64 at most.
    pub const LONGEST: usize = 64;

    /// The same without what is empty, with texts that fit a line of a screen or a terminal.
    #[must_use]
    pub fn bounded(self) -> Self {
        let text = |text: Option<String>| {
            let plain: String = on_screen(text?.trim()).chars().take(Self::LONGEST).collect();
            Some(plain).filter(|plain| !plain.is_empty())
        };
        Self {
            manufacturer: text(self.manufacturer),
            product: text(self.product),
            asset: text(self.asset),
            board_serial: text(self.board_serial),
            chip: text(self.chip),
            busid: self.busid.and_then(|busid| bus_id(&busid)),
            memory_mib: self
                .memory_mib
                .or_else(|| mapped(self.mapped.as_deref()?))
                .filter(|mib| (1..1 << 30).contains(mib)),
            mapped: None,
            secure_boot: self.secure_boot,
        }
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known().next().is_none()
    }

    /// The same with what was known before, where it tells nothing but whether Secure Boot is on: a GRUB knows no more.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        let only = Self { secure_boot: self.secure_boot, ..Self::default() };
        if self == only { Self { secure_boot: self.secure_boot, ..before.clone() } } else { self }
    }

    /// What is known, with what people call it.
    pub fn known(&self) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
        let texts = self.texts().filter_map(|(name, text)| Some((name, text?.into())));
        let secure_boot = self.secure_boot.map(|on| ("Secure Boot", if on { "on".into() } else { "off".into() }));
        texts.chain(self.memory_mib.map(|mib| ("memory", format!("{mib} MiB").into()))).chain(secure_boot)
    }

    fn texts(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        let Self { manufacturer, product, asset, board_serial, chip, busid, .. } = self;
        let texts = [
            ("manufacturer", manufacturer),
            ("product", product),
            ("asset", asset),
            ("board serial", board_serial),
            ("card", chip),
            ("card ID", busid),
        ];
        texts.into_iter().map(|(name, text)| (name, text.as_deref()))
    }
}

/// iPXE's bus ID is the type of the bus, the vendor and the device, as in DHCP option 175.177: `018086100e`, with or
/// without something between the bytes. Anything else is no bus ID.
fn bus_id(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
    let has_others = text.chars().any(|c| !c.is_ascii_hexdigit() && !matches!(c, ':' | '-'));
    let (bus, ids) = digits.split_at_checked(2).filter(|_| !has_others && digits.len() == 10)?;
    let (vendor, device) = ids.split_at_checked(4)?;
    match bus {
        // All zeros: a card that the firmware gives without its place on a bus.
        _ if ids.chars().all(|digit| digit == '0') => None,
        "01" => Some(format!("{vendor}:{device}")),
        _ => Some(format!("{bus}-{vendor}:{device}")),
    }
}

/// A number, or one in words as queries have it. Anything else is not known.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Number(u64),
        Text(String),
        Nothing,
    }
    Ok(match Said::deserialize(deserializer)? {
        Said::Number(number) => Some(number),
        Said::Text(text) => text.trim().parse().ok(),
        Said::Nothing => None,
    })
}

/// MiB, from where the memory arrays of SMBIOS begin and end (type 19, offsets 4 and 8: KiB, four bytes each, the lowest
/// first). Not known where there may be more of them than iPXE was asked for, or where they are too large for that field.
fn mapped(text: &str) -> Option<u64> {
    let range = |part: &str| {
        let bytes: Vec<u8> =
            (0..8).map(|at| u8::from_str_radix(part.get(at * 2..at * 2 + 2)?, 16).ok()).collect::<Option<_>>()?;
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        let (start, end) = bytes.split_at_checked(4).map(|(start, end)| (number(start), number(end)))?;
        (start <= end && end < u64::from(u32::MAX)).then(|| end - start + 1)
    };
    let parts: Vec<&str> = text.split('-').collect();
    let known: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    let sizes: Vec<u64> = known.iter().map(|part| range(part)).collect::<Option<_>>()?;
    (!sizes.is_empty() && known.len() < parts.len()).then(|| sizes.iter().sum::<u64>() >> 10)
}

/// What a rule asks of such a text: all of it, in any case; `*` stands for any characters, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    /// From the configuration.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }

    /// Whether a text is one of those that are meant.
    #[must_use]
    pub fn fits(&self, text: &str) -> bool {
        fits(&self.0, text.trim())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_ipxe_says_or_else_what_smbios_maps() {
        let of = |query: &str| serde_urlencoded::from_str::<Hardware>(query).expect("a query").bounded().memory_mib;
        // QEMU with 512 MiB, and with 6 GiB: below 4 GiB and above.
        assert_eq!(of("memory=&mapped=00000000ffff0700---"), Some(512));
        assert_eq!(of("mapped=00000000ffff2f00-00004000ffff6f00--"), Some(6144));
        assert_eq!(of("memory=1023&mapped=00000000ffff0700---"), Some(1023));
        for unknown in [
            "",
            "memory=&mapped=---",
            "memory=x&mapped=zz---",
            "mapped=00000000ffffffff---",
            "mapped=00000000ffff0700-00000000ffff0700-00000000ffff0700-00000000ffff0700",
            "mapped=ffff070000000000---",
            "memory=99999999999&mapped=\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}---",
        ] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
        let kept = Hardware { memory_mib: Some(512), ..Hardware::default() };
        let json = serde_json::to_value(&kept).expect("JSON");
        assert_eq!(json, serde_json::json!({ "memory_mib": 512 }));
        assert_eq!(serde_json::from_value::<Hardware>(json).ok(), Some(kept));
    }

    #[test]
    fn a_pattern_fits_whole_texts_without_the_spaces_around_them() {
        let fits = |pattern: &str, text: &str| Pattern::new(pattern).fits(text);
        assert!(fits(" Dell Inc.", " dell inc. ") && !fits("Dell", "Dell Inc."));
        assert!(fits("PowerEdge R6*", "PowerEdge R640\n") && !fits("PowerEdge R6*", "PowerEdge R740"));
    }

    #[test]
    fn what_a_machine_says_is_cut_to_a_line() {
        let said = |text: &str| Some(text.to_owned());
        let hardware = Hardware {
            secure_boot: None,
            manufacturer: said(&"x".repeat(5000)),
            product: said("  "),
            asset: said("a || shell\n${x}"),
            board_serial: said(""),
            chip: said("virtio-net"),
            busid: said("01:1a:f4:10:00"),
            ..Hardware::default()
        };
        let kept = hardware.bounded();
        assert_eq!(kept.manufacturer.map(|text| text.len()), Some(Hardware::LONGEST));
        assert_eq!((kept.product, kept.board_serial), (None, None));
        assert!(kept.asset.as_ref().is_some_and(|text| !text.contains(['\n', '$', '|'])), "{:?}", kept.asset);
        assert_eq!(kept.busid.as_deref(), Some("1af4:1000"));
        assert!(Hardware { busid: said("0000000000"), ..Hardware::default() }.bounded().is_empty());
    }

    #[test]
    fn a_bus_id_has_five_bytes() {
        for (text, id) in [
            ("018086100e", Some("8086:100e")),
            ("01-80-86-10-0E", Some("8086:100e")),
            ("0412345678", Some("04-1234:5678")),
            ("018086", None),
            ("01 80 86 10 0e", None),
            ("", None),
            ("é18086100e", None),
        ] {
            assert_eq!(bus_id(text).as_deref(), id, "{text}");
        }
    }
}
