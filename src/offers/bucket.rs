//! How often something may happen.

use std::time::{Duration, Instant};

/// A token bucket that holds a burst of two seconds.
#[derive(Debug, Default)]
pub struct Bucket {
    /// When it would be empty of debts: the "theoretical arrival time" of the generic cell rate algorithm (ITU-T I.371).
    tat: Option<Instant>,
}

impl Bucket {
    /// Whether one more is let pass, at so many a second.
    pub fn take(&mut self, rate: u32, now: Instant) -> bool {
        let each = Duration::from_secs(1) / rate.max(1);
        let tat = self.tat.map_or(now, |tat| tat.max(now));
        if tat.saturating_duration_since(now) >= 2 * Duration::from_secs(1) {
            return false;
        }
        self.tat = Some(tat + each);
        true
    }
}
