//! A point in time, for the page.

use std::time::SystemTime;

use chrono::{DateTime, Local};
use serde::Serialize;

use crate::timeline::moment::Moment;

/// A point in time: the script shows how long ago that is, and without it the clock's time is there to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Time {
    /// Since 1970.
    pub(super) millis: u64,
    /// As HTML reads it (§2.3.5.5).
    iso: String,
    /// On the server.
    date: String,
    clock: String,
    /// The server's time zone, as hours and minutes east of UTC.
    zone: String,
}

impl Time {
    pub(super) fn new(moment: Moment) -> Self {
        let time = SystemTime::from(moment);
        let local = DateTime::<Local>::from(time);
        let millis = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        Self {
            millis: u64::try_from(millis).unwrap_or_default(),
            iso: local.format("%Y-%m-%dT%H:%M:%S%:z").to_string(),
            date: local.format("%-d %b").to_string(),
            clock: local.format("%H:%M:%S").to_string(),
            zone: local.format("UTC%:z").to_string(),
        }
    }
}
