//! Delayed replies. They wait here, so that the receive loop does not have to.

use std::{collections::BTreeMap, time::Instant};

/// Replies to send later, the earliest first.
#[derive(Debug)]
pub struct Delayed<T> {
    waiting: BTreeMap<(Instant, u64), T>,
    count: u64,
}

impl<T> Default for Delayed<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), count: 0 }
    }
}

impl<T> Delayed<T> {
    /// The largest number that may wait: a few thousand machines that start together.
    const MOST: usize = 4096;

    /// Adds a reply. If too many wait, it is returned, to be sent at once.
    pub fn put(&mut self, at: Instant, what: T) -> Option<T> {
        if self.waiting.len() >= Self::MOST {
            return Some(what);
        }
        self.count += 1;
        self.waiting.insert((at, self.count), what);
        None
    }

    /// The time of the next reply.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.waiting.keys().next().map(|(at, _)| *at)
    }

    /// The replies whose time has come, sorted by their times.
    pub fn due(&mut self, now: Instant) -> impl Iterator<Item = T> {
        let later = self.waiting.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.waiting, later).into_values()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn replies_come_in_order_and_beyond_the_limit_at_once() {
        let (mut delayed, start) = (Delayed::default(), Instant::now());
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        assert_eq!(delayed.next(), None);
        for (tenths, what) in [(10, "c"), (5, "a"), (5, "b"), (20, "d")] {
            assert_eq!(delayed.put(at(tenths), what), None);
        }
        assert_eq!(delayed.next(), Some(at(5)));
        assert_eq!(delayed.due(at(4)).count(), 0);
        assert_eq!(delayed.due(at(10)).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(delayed.due(at(19)).count(), 0);
        assert_eq!(delayed.due(at(20)).collect::<Vec<_>>(), ["d"]);
        for _ in 0..Delayed::<&str>::MOST {
            assert_eq!(delayed.put(at(9), "e"), None);
        }
        assert_eq!(delayed.put(at(1), "f"), Some("f"));
    }
}
