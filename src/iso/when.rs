//! Dates in images, as seconds since 1970.

/// A day of the Gregorian calendar with a time, which is `east` minutes before UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Date {
    pub(super) year: i64,
    pub(super) month: i64,
    pub(super) day: i64,
    pub(super) hour: i64,
    pub(super) minute: i64,
    pub(super) second: i64,
    /// Minutes east of UTC.
    pub(super) east: i64,
}

impl Date {
    /// `None` if it is not a date: images have zeros if no date was set.
    pub(super) fn seconds(self) -> Option<i64> {
        let Self { year, month, day, hour, minute, second, east } = self;
        let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && (1..=9999).contains(&year);
        let is_time = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second);
        if !(is_date && is_time && east.abs() <= 24 * 60) {
            return None;
        }
        // Days since 1970. Years are counted from March, so that the leap day is the last day of a year.
        let shifted = if month <= 2 { year - 1 } else { year };
        let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
        let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
        let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
        Some(days * 86_400 + hour * 3600 + (minute - east) * 60 + second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_from_1970() {
        let at = |year, month, day, hour, minute, second, east| {
            Date { year, month, day, hour, minute, second, east }.seconds()
        };
        assert_eq!(at(1970, 1, 1, 0, 0, 0, 0), Some(0));
        assert_eq!(at(2000, 2, 29, 12, 34, 56, 0), Some(951_827_696));
        assert_eq!(at(2026, 11, 26, 14, 0, 0, 60), Some(1_795_698_000));
        assert_eq!(at(1960, 1, 1, 0, 0, 0, 0), Some(-315_619_200));
        assert_eq!((at(0, 0, 0, 0, 0, 0, 0), at(2000, 13, 1, 0, 0, 0, 0)), (None, None));
    }
}
