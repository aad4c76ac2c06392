//! The time since the host started. Nobody can set this clock, and it goes on while the host sleeps.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since the host started.
#[must_use]
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// A name for this start of the host: another start has another one. Empty if the kernel has none.
#[must_use]
pub fn this_start() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}
