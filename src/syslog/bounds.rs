//! The limits for syslog lines, per machine and in total. Pure.

use std::{net::Ipv4Addr, time::Instant};

use crate::{
    boot::recent::Recent,
    offers::{attempts::Rates, bucket::Bucket},
};

/// Lines per second, for each sender and in total.
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
    /// No lines yet.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self { rates, total: Bucket::default(), senders: Recent::new(SENDERS) }
    }

    /// Whether a line is accepted, and how many lines of this sender were dropped since the last accepted one.
    pub fn admit(&mut self, from: Ipv4Addr, now: Instant) -> Option<u64> {
        let sender = self.senders.touch(from);
        // The sender's own limit comes first, so that one sender cannot use up the limit of the others.
        if sender.lines.take(self.rates.per_client, now) && self.total.take(self.rates.total, now) {
            return Some(std::mem::take(&mut sender.left_out));
        }
        sender.left_out += 1;
        None
    }
}

/// The smallest number of senders that are remembered.
const SENDERS: usize = 2048;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn rates_are_limited_per_sender_and_in_total_and_dropped_lines_are_counted() {
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
