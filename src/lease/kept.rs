//! A lease as it is stored, and read again after a restart.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    At,
    book::{Entry, Held},
};
use crate::boot::mac::MacAddr;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The address.
    pub address: Ipv4Addr,
    /// The network's name.
    pub network: String,
    /// The machine's card.
    pub card: MacAddr,
    /// What the address is.
    pub held: Held,
    /// When this ends, since the start of the host of this name.
    pub ends: At,
    /// A name for the start of the host.
    pub start: String,
    /// When it ends by the time of day, as the duration since 1970.
    pub ends_at: Duration,
    /// For how long it was given.
    pub time: Duration,
}

/// The clocks at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// Since the host started.
    pub now: At,
    /// A name for this start of the host.
    pub start: String,
    /// The time of day, as the duration since 1970.
    pub today: Duration,
}

impl Kept {
    /// To be stored.
    #[must_use]
    pub fn new(address: Ipv4Addr, entry: &Entry, clocks: &Clocks) -> Self {
        let Entry { network, card, held, ends, time } = entry;
        Self {
            address,
            network: network.to_string(),
            card: *card,
            held: *held,
            ends: *ends,
            start: clocks.start.clone(),
            ends_at: clocks.today + ends.saturating_sub(clocks.now),
            time: *time,
        }
    }

    /// The entry for the book. After another start of the host only the time of day is known. It may have been set back
    /// since, so no lease is longer than the time that it was given for.
    #[must_use]
    pub fn entry(&self, clocks: &Clocks) -> (Ipv4Addr, Entry) {
        let is_same_start = !self.start.is_empty() && self.start == clocks.start;
        let left = self.ends_at.saturating_sub(clocks.today).min(self.time);
        let ends = if is_same_start { self.ends } else { clocks.now + left };
        let Self { address, network, card, held, time, .. } = self;
        (*address, Entry { network: network.as_str().into(), card: *card, held: *held, ends, time: *time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_time_of_day_ends_no_lease_early_and_makes_none_longer() {
        let seconds = Duration::from_secs;
        let clocks = |now, start: &str, today| Clocks { now: seconds(now), start: start.into(), today: seconds(today) };
        let (card, time) = (MacAddr([2; 6]), seconds(3600));
        let entry = Entry { network: "eth1".into(), card, held: Held::Leased, ends: seconds(4000), time };
        let kept = Kept::new([192, 0, 2, 7].into(), &entry, &clocks(1000, "a", 1_000_000));
        assert_eq!(kept.ends_at, seconds(1_003_000));
        // The host is still up, whatever its time of day was set to.
        for today in [0, 1_000_000, 9_000_000] {
            assert_eq!(kept.entry(&clocks(2000, "a", today)).1, entry);
        }
        let ends = |today| kept.entry(&clocks(10, "b", today)).1.ends;
        assert_eq!(ends(1_001_000), seconds(2010));
        assert_eq!(ends(2_000_000), seconds(10), "it is over");
        assert_eq!(ends(0), seconds(3610), "the time of day is wrong");
    }
}
