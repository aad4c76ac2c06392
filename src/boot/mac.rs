//! Ethernet addresses, and the makers that their first half names.

use std::{fmt, str::FromStr};

/// An Ethernet address. Written with colons in lower case, as Linux and iPXE do; read with colons, hyphens, dots or
/// nothing between its twelve hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The first half of the addresses that `netbootd doctor` invents for its probes: locally administered (IEEE 802c),
    /// then "nb".
    pub const DOCTOR: [u8; 3] = [0x02, 0x6e, 0x62];

    /// One of them, for what is not a probe of DHCP.
    #[must_use]
    pub fn of_doctor() -> Self {
        let [a, b, c] = Self::DOCTOR;
        Self([a, b, c, 0, 0, 0])
    }

    /// Whether a network card can have it: it is not all zeros, and no group of cards (IEEE 802, broadcast among them).
    #[must_use]
    pub fn is_of_a_card(self) -> bool {
        let [first, ..] = self.0;
        self.0 != [0; 6] && first & 1 == 0
    }

    /// Whether it is such an address. What is seen of it belongs to no machine.
    #[must_use]
    pub fn is_doctor(self) -> bool {
        self.0.starts_with(&Self::DOCTOR)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every line of the log has one, and `{:02x}` six times takes more than four times as long.
        let mut text = [b':'; 17];
        for (pair, octet) in text.chunks_mut(3).zip(self.0) {
            let digits =
                [octet >> 4, octet & 0xf].map(|digit| if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
            pair.iter_mut().zip(digits).for_each(|(to, digit)| *to = digit);
        }
        f.write_str(str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: write it like 52:54:00:12:34:56")]
pub struct NotAMac(String);

impl FromStr for MacAddr {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let refuse = || NotAMac(text.chars().take(40).collect());
        let mut octets = [0u8; 6];
        let mut digits = text.chars().filter(|c| !matches!(c, ':' | '-' | '.'));
        for octet in &mut octets {
            for _ in 0..2 {
                let digit = digits.next().and_then(|c| c.to_digit(16)).ok_or_else(refuse)?;
                *octet = *octet << 4 | u8::try_from(digit).map_err(|_| refuse())?;
            }
        }
        if digits.next().is_some() { Err(refuse()) } else { Ok(Self(octets)) }
    }
}

/// Organizationally unique identifier: who made a card (IEEE 802).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Oui(pub [u8; 3]);

impl Oui {
    /// That of a card.
    #[must_use]
    pub fn of(MacAddr([a, b, c, ..]): MacAddr) -> Self {
        Self([a, b, c])
    }

    /// Whether it is one of the Raspberry Pi's makers, whose boot ROM calls itself an x86 BIOS.
    #[must_use]
    pub fn is_raspberry_pi(self) -> bool {
        RASPBERRY_PI.contains(&self)
    }
}

/// Raspberry Pi Foundation and Raspberry Pi Trading, in the IEEE's registry.
const RASPBERRY_PI: [Oui; 7] = [
    Oui([0xb8, 0x27, 0xeb]),
    Oui([0xdc, 0xa6, 0x32]),
    Oui([0xe4, 0x5f, 0x01]),
    Oui([0x28, 0xcd, 0xc1]),
    Oui([0xd8, 0x3a, 0xdd]),
    Oui([0x2c, 0xcf, 0x67]),
    Oui([0x88, 0xa2, 0x9e]),
];

/// The text is no OUI.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an OUI: write the first three bytes of a MAC address, like b8:27:eb")]
pub struct NotAnOui(String);

impl FromStr for Oui {
    type Err = NotAnOui;

    fn from_str(text: &str) -> Result<Self, NotAnOui> {
        let whole = format!("{text}{}", if text.contains('-') { "-00-00-00" } else { ":00:00:00" });
        let mac: Result<MacAddr, _> = whole.parse();
        mac.map(Self::of).map_err(|_| NotAnOui(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Oui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_in_every_notation_and_written_in_one() {
        for text in ["52:54:00:12:ab:56", "52-54-00-12-AB-56", "5254.0012.ab56", "52540012ab56"] {
            assert_eq!(text.parse::<MacAddr>().map(|mac| mac.to_string()), Ok("52:54:00:12:ab:56".into()));
        }
        for text in ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "52:54:00:12:34:5g", "５２5400123456"] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}
