//! Offers that wait until it is known whether their address is in use.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    time::Instant,
};

/// See the module. There is one offer for each address.
#[derive(Debug)]
pub struct Waiting<T> {
    offers: HashMap<Ipv4Addr, (Instant, T)>,
    due: BTreeSet<(Instant, Ipv4Addr)>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self { offers: HashMap::new(), due: BTreeSet::new() }
    }
}

impl<T> Waiting<T> {
    /// The largest number that may wait: more machines than start together.
    const MOST: usize = 4096;

    /// Lets an offer wait. If its machine has asked again in the meantime, the new offer takes the place of the old one,
    /// but the wait is not longer. Returns whether the address has to be tried now. If too many wait, the offer is lost,
    /// and the machine asks again.
    pub fn put(&mut self, address: Ipv4Addr, at: Instant, offer: T) -> bool {
        if let Some((_, before)) = self.offers.get_mut(&address) {
            *before = offer;
            return false;
        }
        if self.offers.len() >= Self::MOST {
            return false;
        }
        self.due.insert((at, address));
        self.offers.insert(address, (at, offer));
        true
    }

    /// The offer of an address.
    #[must_use]
    pub fn get(&self, address: Ipv4Addr) -> Option<&T> {
        self.offers.get(&address).map(|(_, offer)| offer)
    }

    /// Removes the offer of an address that is in use.
    pub fn take(&mut self, address: Ipv4Addr) -> Option<T> {
        let (at, offer) = self.offers.remove(&address)?;
        self.due.remove(&(at, address));
        Some(offer)
    }

    /// The time of the next offer.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// The offers whose time has come.
    pub fn due(&mut self, now: Instant) -> Vec<T> {
        let later = self.due.split_off(&(now, Ipv4Addr::BROADCAST));
        let over = std::mem::replace(&mut self.due, later);
        over.into_iter().filter_map(|(_, address)| self.offers.remove(&address)).map(|(_, offer)| offer).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn offers_wait_for_their_time_and_not_longer_if_the_machine_asks_again() {
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        let at = |last: u8| Ipv4Addr::new(192, 0, 2, last);
        let later = |tenths: u64| start + Duration::from_millis(100 * tenths);
        assert!(waiting.put(at(1), later(3), "a") && waiting.put(at(2), later(2), "b"));
        assert!(!waiting.put(at(1), later(5), "c"));
        assert_eq!((waiting.next(), waiting.get(at(1))), (Some(later(2)), Some(&"c")));
        assert_eq!(waiting.due(later(1)), [""; 0]);
        assert_eq!(waiting.due(later(2)), ["b"]);
        assert_eq!((waiting.take(at(1)), waiting.take(at(1))), (Some("c"), None));
        assert_eq!((waiting.next(), waiting.due(later(9)).len()), (None, 0));
        let many = (0..5000).filter(|n| waiting.put(Ipv4Addr::from_bits(*n), later(1), "d")).count();
        assert_eq!((many, waiting.due(later(1)).len()), (4096, 4096));
    }
}
