//! A network that addresses are leased on.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use super::terms::{Prefix, Range, Terms};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The interface's name, or the prefix of a network behind a relay.
    pub name: Arc<str>,
    /// Its addresses.
    pub prefix: Prefix,
    /// The addresses that are leased.
    pub ranges: Vec<Range>,
    /// Our own addresses, which are never leased.
    pub own: Vec<Ipv4Addr>,
    /// How long a lease is valid.
    pub time: Duration,
    /// Options by their codes.
    pub options: Vec<(u8, Vec<u8>)>,
}

impl Network {
    /// The network, with ranges that were checked against it.
    ///
    /// # Errors
    /// Which range does not fit, and why.
    pub fn new(name: Arc<str>, prefix: Prefix, own: Vec<Ipv4Addr>, terms: &Terms) -> Result<Self, String> {
        let Terms { ranges, time, options, .. } = terms;
        let options = options.iter().map(|(code, data)| (*code, data.clone())).collect();
        let ranges = if ranges.is_empty() { by_default(prefix, &own)? } else { ranges.clone() };
        let network = Self { name, prefix, ranges, own, time: *time, options };
        network.ranges.iter().try_for_each(|range| network.fits(*range))?;
        Ok(network)
    }

    fn fits(&self, range: Range) -> Result<(), String> {
        let Self { name, prefix, own, .. } = self;
        let is_of_prefix = prefix.contains(range.first) && prefix.contains(range.last);
        if !is_of_prefix {
            // A network behind a relay has no other name.
            let of = if **name == *prefix.to_string() { String::new() } else { format!(" of {name}") };
            return Err(format!("the range {range} is not in the network {prefix}{of}: use addresses of that network"));
        }
        if let Some(own) = own.iter().find(|own| range.contains(**own)) {
            return Err(format!(
                "the range {range} has the address {own}, which is this server's own on {name}: leave it out"
            ));
        }
        for (special, what) in
            [(prefix.network, "the address of the network"), (prefix.last(), "the broadcast address")]
        {
            if prefix.is_special(special) && range.contains(special) {
                return Err(format!("the range {range} has {special}, {what} of {prefix}: leave it out"));
            }
        }
        Ok(())
    }

    /// Whether it is an address of ours to lease: in a range, or reserved.
    #[must_use]
    pub fn leases(&self, address: Ipv4Addr, is_reserved: bool) -> bool {
        self.ranges.iter().any(|range| range.contains(address)) || (is_reserved && self.may_reserve(address))
    }

    /// Whether a machine can have this address by a reservation.
    #[must_use]
    pub fn may_reserve(&self, address: Ipv4Addr) -> bool {
        self.prefix.contains(address) && !self.prefix.is_special(address) && !self.own.contains(&address)
    }

    /// The number of addresses in its ranges.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.ranges.iter().map(Range::size).fold(0, u32::saturating_add)
    }

    /// Its ranges as a text.
    #[must_use]
    pub fn ranges_text(&self) -> String {
        self.ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// All addresses of the prefix without ours. Of a large network, those around our address.
fn by_default(prefix: Prefix, own: &[Ipv4Addr]) -> Result<Vec<Range>, String> {
    let near = own.first().map_or(prefix, |own| Prefix::of(*own, prefix.length.max(16)));
    let is_free = |address: &Ipv4Addr| !prefix.is_special(*address) && !own.contains(address);
    let mut ranges: Vec<Range> = Vec::new();
    for address in (near.network.to_bits()..=near.last().to_bits()).map(Ipv4Addr::from_bits).filter(is_free) {
        match ranges.last_mut() {
            Some(range) if range.last.to_bits() + 1 == address.to_bits() => range.last = address,
            _ => ranges.push(Range { first: address, last: address }),
        }
    }
    if ranges.is_empty() {
        return Err(format!("the network {prefix} has no address to lease: use a shorter prefix, such as /24"));
    }
    Ok(ranges)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;

    pub(crate) fn terms(ranges: &[&str]) -> Terms {
        let ranges = ranges.iter().map(|range| range.parse().expect("a range")).collect();
        Terms { enabled: true, ranges, time: Duration::from_secs(3600), options: BTreeMap::new() }
    }

    pub(crate) fn network(length: u8, ranges: &[&str]) -> Result<Network, String> {
        let own = Ipv4Addr::new(192, 0, 2, 1);
        Network::new("eth1".into(), Prefix::of(own, length), vec![own], &terms(ranges))
    }

    #[test]
    fn by_default_it_is_the_whole_network_without_us() {
        let ranges = |length| network(length, &[]).map(|network| network.ranges_text());
        assert_eq!(ranges(24), Ok("192.0.2.2-192.0.2.254".into()));
        assert_eq!(ranges(30), Ok("192.0.2.2".into()));
        assert_eq!(ranges(31), Ok("192.0.2.0".into()));
        assert_eq!(ranges(8), Ok("192.0.0.1-192.0.2.0, 192.0.2.2-192.0.255.255".into()));
        let fault = "the network 192.0.2.1/32 has no address to lease: use a shorter prefix, such as /24";
        assert_eq!(ranges(32), Err(fault.into()));
    }

    #[test]
    fn a_range_that_does_not_fit_is_refused_with_the_reason() {
        let fault = |range: &str| network(24, &[range]).expect_err("a fault");
        assert_eq!(
            fault("198.51.100.1-198.51.100.9"),
            "the range 198.51.100.1-198.51.100.9 is not in the network 192.0.2.0/24 of eth1: use addresses of that network"
        );
        assert_eq!(
            fault("192.0.2.1-192.0.2.9"),
            "the range 192.0.2.1-192.0.2.9 has the address 192.0.2.1, which is this server's own on eth1: leave it out"
        );
        assert_eq!(
            fault("192.0.2.9-192.0.2.255"),
            "the range 192.0.2.9-192.0.2.255 has 192.0.2.255, the broadcast address of 192.0.2.0/24: leave it out"
        );
        assert!(fault("192.0.2.0").contains("the address of the network"));
        assert!(fault("192.0.2.9-192.0.3.9").contains("is not in the network"));
    }
}
