//! The wall clock, and what it showed before it jumped.
//!
//! A host without a battery for its clock starts in the past, and jumps by months or years when it has reached a time
//! server. What was signed before that ends by the clock that it was signed by: a machine must not lose its answer files
//! in the middle of an installation.

use std::time::Duration;

use super::{answer::Key, query::Query, reason::Denied};

/// What the clock showed, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Era {
    /// When it was last looked at.
    last: u64,
    /// What it would show when the server began: its readings less the time that has gone by.
    origin: i128,
}

/// A wall clock that is held against one that only goes on.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    now: Option<Era>,
    /// The latest last.
    before: Vec<Era>,
}

impl Clock {
    /// Takes a reading: the wall clock's in seconds since 1970, and the time since the server began. By how many seconds
    /// the clock has jumped, where it has.
    pub fn read(&mut self, wall: u64, running: Duration) -> Option<i128> {
        let origin = i128::from(wall) - i128::from(running.as_secs());
        let jumped = self.now.map(|era| origin - era.origin).filter(|by| by.unsigned_abs() > SLACK);
        if let (Some(_), Some(era)) = (jumped, self.now) {
            self.before.push(era);
            if self.before.len() > MOST {
                self.before.remove(0);
            }
        }
        // A clock that is put right little by little goes on being the same.
        self.now = Some(Era { last: wall, origin });
        jumped
    }

    /// What a token was signed for, as [`Key::open`] says; also one that was signed before the clock jumped, and that
    /// would still be good had it not. `lifetime`: for how long addresses are signed.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn open(
        &self,
        key: &Key,
        token: &str,
        name: &str,
        running: Duration,
        lifetime: Duration,
    ) -> Result<Query, Denied> {
        let shows = |era: &Era| u64::try_from(era.origin + i128::from(running.as_secs())).unwrap_or_default();
        let opened = key.open(token, name, self.now.as_ref().map(shows).unwrap_or_default());
        if opened != Err(Denied::Expired) {
            return opened;
        }
        let of_before = self.before.iter().rev().find_map(|era| {
            let query = key.open(token, name, shows(era)).ok()?;
            // One that ends later than any that was signed then is of another time.
            let latest = era.last.saturating_add(lifetime.as_secs());
            (key.open(token, name, latest) == Err(Denied::Expired)).then_some(query)
        });
        of_before.ok_or(Denied::Expired)
    }
}

/// Seconds that a clock may be put right by, and that a busy host takes between two readings.
const SLACK: u128 = 30;
/// Jumps that are remembered.
const MOST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    const LIFETIME: Duration = Duration::from_secs(DAY);
    /// A clock without a battery, and the true time.
    const PAST: u64 = 1_600_000_000;
    const NOW: u64 = 1_790_000_000;

    const CARD: &str = "52:54:00:12:34:56";

    fn query() -> Query {
        Query { mac: Some(CARD.into()), renewed: Some(0), ..Query::default() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_was_signed_before_a_jump_holds_as_long_as_it_was_to() {
        let key = Key::new([7; Key::LENGTH]);
        let mut clock = Clock::default();
        assert_eq!(clock.read(PAST, seconds(0)), None);
        assert_eq!(clock.read(PAST + 100, seconds(100)), None);
        let token = key.token("user-data", PAST + 100 + DAY, &query());
        let open = |clock: &Clock, token: &str, running| {
            let opened = clock.open(&key, token, "user-data", seconds(running), LIFETIME);
            opened.map(|query| query.mac.unwrap_or_default())
        };
        assert_eq!(open(&clock, &token, 200), Ok(CARD.into()));
        assert_eq!(clock.read(NOW, seconds(200)), Some(i128::from(NOW - PAST - 200)));
        assert_eq!(open(&clock, &token, 201), Ok(CARD.into()));
        assert_eq!(open(&clock, &token, 99 + DAY), Ok(CARD.into()));
        assert_eq!(open(&clock, &token, 100 + DAY), Err(Denied::Expired));
        // One that the right clock has signed, and that has ended since, is no better for it.
        let old = key.token("user-data", NOW - 1, &query());
        assert_eq!(open(&clock, &old, 201), Err(Denied::Expired));
        let fresh = key.token("user-data", NOW + DAY, &query());
        assert_eq!(open(&clock, &fresh, 201), Ok(CARD.into()));
        assert_eq!(clock.open(&key, &token, "meta-data", seconds(201), LIFETIME), Err(Denied::NotSigned));
    }

    #[test]
    fn a_clock_that_is_put_right_little_by_little_does_not_jump() {
        let mut clock = Clock::default();
        for minute in 0..1000 {
            assert_eq!(clock.read(PAST + 61 * minute, seconds(60 * minute)), None);
        }
        // Set back by hand: its last reading was PAST + 61 * 999, 59,940 s after the start.
        assert_eq!(clock.read(PAST, seconds(60_000)), Some(-60_000 - 999));
    }

    #[test]
    fn jumps_are_bounded() {
        let mut clock = Clock::default();
        for jump in 0..100 {
            clock.read(PAST + jump * DAY, seconds(jump));
        }
        assert_eq!(clock.before.len(), MOST);
    }
}
