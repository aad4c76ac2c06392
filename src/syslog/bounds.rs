//! How many lines a machine, and all of them together, may add to what is remembered. Pure.

use std::{net::Ipv4Addr, time::Instant};

use crate::boot::{
    attempts::{Bucket, Rates},
    recent::Recent,
};

/// Lines a second, for each sender and in total.
#[derive(Debug)]
pub struct Bounds {
    rates: Rates,
    total: Bucket,
    senders: Recent<Ipv4Addr, Sender>,
}

#[derive(Debug, Default)]
struct Sender {
    lines: Bucket,
    left_out: u64,
}

impl Bounds {
    /// Nobody has said anything yet.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { rates, total: Bucket::default(), senders: Recent::new(SENDERS) }
    }

    /// Whether a line is taken; and how many of this sender were left out since the last one that was.
    pub fn admit(&mut self, from: Ipv4Addr, now: Instant) -> Option<u64> {
        let sender = self.senders.touch(from);
        // The sender's own rate first: what one of them wastes is not taken from the others.
        if sender.lines.take(self.rates.per_client, now) && self.total.take(self.rates.total, now) {
            return Some(std::mem::take(&mut sender.left_out));
        }
        sender.left_out += 1;
        None
    }
}

/// Remembered at least.
const SENDERS: usize = 2048;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_sender_and_all_together_are_held_to_their_rates_and_what_was_left_out_is_counted() {
        let mut bounds = Bounds::new(Rates { total: 25, per_client: 10 });
        let (one, two, three) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 3));
        let now = Instant::now();
        let mut taken = |from, count, now| (0..count).filter(|_| bounds.admit(from, now).is_some()).count();
        assert_eq!((taken(one, 40, now), taken(two, 40, now), taken(three, 40, now)), (20, 20, 10));
        let later = now + Duration::from_secs(1);
        assert_eq!(bounds.admit(one, later), Some(20));
        assert_eq!(bounds.admit(one, later), Some(0));
        assert_eq!(bounds.admit(three, later), Some(30));
    }
}
