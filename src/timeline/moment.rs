//! Points in time as values. The pure core has no clock: its callers bring the time.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in milliseconds since 1970; in JSON, seconds with three decimals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// So many seconds after 1970.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The time from `earlier` to here; none where it is later, as clocks are set back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// This much earlier.
    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl From<SystemTime> for Moment {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl From<Moment> for SystemTime {
    fn from(Moment(millis): Moment) -> Self {
        Self::UNIX_EPOCH + Duration::from_millis(millis)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self((f64::deserialize(deserializer)? * 1000.0).round() as u64))
    }
}

impl schemars::JsonSchema for Moment {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number", "description": "Seconds since 1970, with three decimals." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_after_json_to_the_millisecond() {
        for millis in [0, 1, 999, 1_763_853_458_123, 1_763_853_458_999] {
            let moment = Moment(millis);
            let json = serde_json::to_string(&moment).expect("written");
            assert_eq!(serde_json::from_str::<Moment>(&json).expect("read"), moment, "{json}");
            assert_eq!(Moment::from(SystemTime::from(moment)), moment);
        }
        assert_eq!(Moment::from_secs(3).since(Moment::from_secs(5)), Duration::ZERO, "a clock that was set back");
        assert_eq!(Moment::from_secs(3).before(Duration::from_secs(1)), Moment::from_secs(2));
    }
}
