//! Who gets answer files.

use std::time::Duration;

/// Who gets answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Everyone who names a machine's MAC address (`http.answers_open`).
    pub open: bool,
    /// For how long a signed address is good (`http.answers_expire`).
    pub lifetime: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        // An installer may be started, left at a question over night, and come back.
        Self { open: false, lifetime: Duration::from_secs(24 * 3600) }
    }
}
