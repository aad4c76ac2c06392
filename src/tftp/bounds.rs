//! What the transfers of all addresses are held to: which clients' paths carry small packets only, and how much is told
//! of strangers.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

/// The clients whose paths carry small packets only.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// The largest block that is granted to a client, and until when.
    small: HashMap<Ipv4Addr, (u16, Instant)>,
}

impl Paths {
    /// Remembers that a client never got a block of this many bytes: its next transfer is offered smaller ones.
    pub(super) fn too_large(&mut self, client: Ipv4Addr, block_size: u16, now: Instant) {
        let Some(smaller) = SMALLER.iter().find(|smaller| **smaller < block_size) else { return };
        if self.small.len() >= REMEMBERED {
            self.small.retain(|_, (_, until)| *until > now);
        }
        if self.small.len() < REMEMBERED || self.small.contains_key(&client) {
            self.small.insert(client, (*smaller, now + MEMORY));
        }
    }

    /// The largest block that a client's path is believed to carry, in bytes of data.
    pub(super) fn block_size(&self, client: Ipv4Addr, now: Instant) -> Option<u16> {
        self.small.get(&client).filter(|(_, until)| *until > now).map(|(size, _)| *size)
    }
}

/// How many refusals are told of in a second: a flood of nonsense must not flood the log and the timelines too.
#[derive(Debug, Default)]
pub(super) struct News {
    since: Option<Instant>,
    told: u32,
}

impl News {
    pub(super) fn may_tell(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            *self = Self { since: Some(now), told: 0 };
        }
        self.told += 1;
        self.told <= NEWS_PER_SECOND
    }
}

/// What is offered next: a VPN's path carries the first, and every path of IPv4 the second (RFC 1350's own size).
const SMALLER: [u16; 2] = [1024, 512];
/// Clients whose path is remembered. More are a flood, and learn it anew.
const REMEMBERED: usize = 1024;
/// A path is mended some day.
const MEMORY: Duration = Duration::from_secs(600);
/// More than a person reads.
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
        for client in 0..5000 {
            paths.too_large(Ipv4Addr::from_bits(client), 1468, now);
        }
        assert_eq!(paths.small.len(), REMEMBERED);
        paths.too_large(B, 1468, now + MEMORY);
        assert_eq!(paths.small.len(), 1, "what is out of date makes room");
    }

    #[test]
    fn a_flood_of_refusals_is_told_in_part() {
        let (mut news, now) = (News::default(), Instant::now());
        assert_eq!((0..1000).filter(|_| news.may_tell(now)).count(), 20);
        assert!(news.may_tell(now + Duration::from_secs(1)));
    }
}
