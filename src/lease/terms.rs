//! What the configuration says about leases.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, str::FromStr, time::Duration};

/// Addresses from the first to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first address.
    pub first: Ipv4Addr,
    /// The last address; not before the first one.
    pub last: Ipv4Addr,
}

impl Range {
    /// The largest number of addresses in the ranges of one network.
    pub const MOST: u32 = 65_536;

    /// Whether it has this address.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    /// The number of its addresses.
    #[must_use]
    pub fn size(&self) -> u32 {
        (self.last.to_bits() - self.first.to_bits()).saturating_add(1)
    }

    /// Whether it has addresses that no host can have: "this" network, the loopback, multicast and reserved ones (RFC 6890
    /// §2.2.2, RFC 5771 §3).
    #[must_use]
    pub fn has_no_hosts(&self) -> bool {
        let none = [(0, 0), (127, 127), (224, 255)];
        let (first, last) = (self.first.octets()[0], self.last.octets()[0]);
        none.iter().any(|(from, to)| first <= *to && *from <= last)
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl FromStr for Range {
    type Err = String;

    /// `192.0.2.100-192.0.2.200`, or one address.
    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let address = |text: &str| text.trim().parse::<Ipv4Addr>();
        let (Ok(first), Ok(last)) = (address(first), address(last)) else {
            return Err(format!("{text:?} is not a range of addresses; example: \"192.0.2.100-192.0.2.200\""));
        };
        if last < first {
            return Err(format!("the range {text} ends before it begins: write the smaller address first"));
        }
        let range = Self { first, last };
        if range.size() > Self::MOST {
            return Err(format!("the range {text} has {} addresses: use {} at most", range.size(), Self::MOST));
        }
        Ok(range)
    }
}

/// A network: an address and the length of its prefix in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// Its first address.
    pub network: Ipv4Addr,
    /// 0 to 32.
    pub length: u8,
}

impl Prefix {
    /// The network that an address is in.
    #[must_use]
    pub fn of(address: Ipv4Addr, length: u8) -> Self {
        let length = length.min(32);
        Self { network: Ipv4Addr::from_bits(address.to_bits() & mask(length)), length }
    }

    /// The netmask.
    #[must_use]
    pub fn mask(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(mask(self.length))
    }

    /// Its last address. A prefix of 31 or 32 bits has no broadcast address (RFC 3021).
    #[must_use]
    pub fn last(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() | !mask(self.length))
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & mask(self.length) == self.network.to_bits()
    }

    /// Whether no machine can have this address: that of the network, or the broadcast address.
    #[must_use]
    pub fn is_special(self, address: Ipv4Addr) -> bool {
        self.length < 31 && (address == self.network || address == self.last())
    }
}

fn mask(length: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or_default()
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

/// The terms of the leases on one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Whether addresses are leased there.
    pub enabled: bool,
    /// The addresses; none: all of the network.
    pub ranges: Vec<Range>,
    /// How long a lease is valid.
    pub time: Duration,
    /// DHCP options by their codes, without those that netbootd sets itself.
    pub options: BTreeMap<u8, Vec<u8>>,
}

impl Terms {
    /// The place of the network that the ranges are in; none if they are in none, or in any.
    #[must_use]
    pub fn place_among(&self, networks: &[Prefix]) -> Option<usize> {
        let first = self.ranges.first()?;
        networks.iter().position(|network| network.contains(first.first) && network.contains(first.last))
    }
}

/// Everything that the configuration says about leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leasing {
    /// Whether every client gets a lease; otherwise only boot clients, and for an hour machines that booted from us.
    pub everyone: bool,
    /// Whether to lease on an interface with the default route too.
    pub on_default_route: bool,
    /// The longest time between two questions whether another server leases.
    pub ask_every: Duration,
    /// For every interface without terms of its own.
    pub terms: Terms,
    /// By the names of interfaces.
    pub interfaces: BTreeMap<String, Terms>,
    /// Networks behind relays.
    pub relayed: Vec<(Prefix, Terms)>,
}

impl Leasing {
    /// The terms on an interface.
    #[must_use]
    pub fn terms_of(&self, interface: &str) -> &Terms {
        self.interfaces.get(interface).unwrap_or(&self.terms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_prefixes_are_read_and_bounded() {
        let range: Range = "192.0.2.100-192.0.2.200".parse().expect("a range");
        assert_eq!((range.size(), range.to_string().as_str()), (101, "192.0.2.100-192.0.2.200"));
        assert!(range.contains([192, 0, 2, 200].into()) && !range.contains([192, 0, 2, 201].into()));
        assert_eq!("192.0.2.7".parse::<Range>().map(|range| range.to_string()), Ok("192.0.2.7".into()));
        for text in ["", "-", "192.0.2.9-192.0.2.8", "192.0.2.a-192.0.2.b", "10.0.0.0-10.255.0.0", "192.0.2.0/24"] {
            assert!(text.parse::<Range>().is_err(), "{text}");
        }
        for (text, has_none) in [
            ("0.0.0.9", true),
            ("126.255.255.250-127.0.0.1", true),
            ("127.0.0.1-127.0.0.9", true),
            ("223.255.255.9-224.0.0.9", true),
            ("255.255.255.255", true),
            ("126.0.0.1", false),
            ("192.0.2.7", false),
        ] {
            assert_eq!(text.parse::<Range>().map(|range| range.has_no_hosts()), Ok(has_none), "{text}");
        }
        let prefix = Prefix::of([192, 0, 2, 77].into(), 26);
        assert_eq!((prefix.to_string().as_str(), prefix.mask()), ("192.0.2.64/26", [255, 255, 255, 192].into()));
        assert_eq!(prefix.last(), Ipv4Addr::new(192, 0, 2, 127));
        assert!(prefix.is_special([192, 0, 2, 64].into()) && prefix.is_special([192, 0, 2, 127].into()));
        assert!(!Prefix::of([192, 0, 2, 0].into(), 31).is_special([192, 0, 2, 1].into()));
        assert_eq!(Prefix::of([192, 0, 2, 1].into(), 0).mask(), Ipv4Addr::UNSPECIFIED);
    }
}
