//! Limits for the transfers of all addresses: which clients can receive only small packets, and how many refusals are
//! logged.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// The clients whose network path carries only small packets.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// The largest block for a client, and until when.
    small: HashMap<Ipv4Addr, (u16, Instant)>,
}

impl Paths {
    /// Remembers that a client has not received a first block of this size. Its next transfer gets smaller ones.
    pub(super) fn too_large(&mut self, client: Ipv4Addr, block_size: u16, now: Instant) {
        let Some(smaller) = SMALLER.iter().find(|smaller| **smaller < block_size) else { return };
        if self.small.len() >= REMEMBERED {
            self.small.retain(|_, (_, until)| *until > now);
        }
        if self.small.len() < REMEMBERED || self.small.contains_key(&client) {
            self.small.insert(client, (*smaller, now + MEMORY));
        }
    }

    /// A block of this size did reach a client: if a smaller size was remembered, the client was only slow.
    pub(super) fn fits(&mut self, client: Ipv4Addr, block_size: u16) {
        if let Some((small, _)) = self.small.get_mut(&client) {
            *small = block_size.max(*small);
        }
    }

    /// The largest block, in bytes of data, that probably reaches a client.
    pub(super) fn block_size(&self, client: Ipv4Addr, now: Instant) -> Option<u16> {
        self.small.get(&client).filter(|(_, until)| *until > now).map(|(size, _)| *size)
    }
}

/// How many refusals are logged per second, so that a flood of bad requests does not fill the log and the timelines.
#[derive(Debug, Default)]
pub(super) struct News {
    since: Option<Instant>,
    reported: u32,
}

impl News {
    pub(super) fn may_tell(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            *self = Self { since: Some(now), reported: 0 };
        }
        self.reported += 1;
        self.reported <= NEWS_PER_SECOND
    }
}

/// The next smaller sizes. A VPN carries the first, and every IPv4 path the second (the size of RFC 1350).
const SMALLER: [u16; 2] = [1024, SMALLEST_BLOCK];
/// Nothing smaller is tried.
pub(super) const SMALLEST_BLOCK: u16 = 512;
/// The largest number of clients that are remembered. If there are more, older ones are forgotten and learned again.
const REMEMBERED: usize = 1024;
/// After this time the path may have been repaired.
const MEMORY: Duration = Duration::from_secs(600);
/// More lines than a person reads.
const NEWS_PER_SECOND: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    #[test]
    fn a_path_gets_smaller_blocks_step_by_step_for_a_while_and_memory_is_bounded() {
        let (mut paths, now) = (Paths::default(), Instant::now());
        assert_eq!(paths.block_size(A, now), None);
        paths.too_large(A, 1468, now);
        assert_eq!((paths.block_size(A, now), paths.block_size(B, now)), (Some(1024), None));
        paths.too_large(A, 1024, now);
        paths.too_large(A, 512, now);
        assert_eq!(paths.block_size(A, now), Some(512), "there is nothing below it");
        assert_eq!(paths.block_size(A, now + MEMORY), None);
        paths.fits(A, 1024);
        paths.fits(A, 400);
        assert_eq!(paths.block_size(A, now), Some(1024), "it was slow");
        paths.fits(B, 1468);
        assert_eq!(paths.small.len(), 1, "nothing was remembered of it");
        for client in 0..5000 {
            paths.too_large(Ipv4Addr::from_bits(client), 1468, now);
        }
        assert_eq!(paths.small.len(), REMEMBERED);
        paths.too_large(B, 1468, now + MEMORY);
        assert_eq!(paths.small.len(), 1, "what is out of date makes room");
    }

    #[test]
    fn a_flood_of_refusals_is_logged_in_part() {
        let (mut news, now) = (News::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| news.may_tell(now)).count(), 20);
        assert!(news.may_tell(now + Duration::from_secs(1)));
    }
}
