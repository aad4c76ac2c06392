//! Replies about leases, counted for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reply about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// DHCPOFFER.
    Offer,
    /// DHCPACK.
    Ack,
    /// DHCPNAK.
    Nak,
}

impl Sent {
    const ALL: [(Self, &'static str); 3] = [(Self::Offer, "offer"), (Self::Ack, "ack"), (Self::Nak, "nak")];
}

/// How many were sent.
#[derive(Debug, Default)]
pub(super) struct Replies([AtomicU64; Sent::ALL.len()]);

impl Replies {
    /// One more.
    pub(super) fn count(&self, sent: Sent) {
        let place = Sent::ALL.iter().position(|(one, _)| *one == sent);
        if let Some(count) = place.and_then(|place| self.0.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of each, by name.
    pub(super) fn view(&self) -> Vec<(&'static str, u64)> {
        let counts = Sent::ALL.iter().zip(&self.0);
        counts.map(|((_, name), count)| (*name, count.load(Ordering::Relaxed))).collect()
    }
}
