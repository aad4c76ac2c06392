//! Times and sizes of the configuration: `"90s"`, `"10MB"`.

use std::time::Duration;

/// A time: a whole number of `ms`, `s`, `m`, `h` or `d`.
///
/// # Errors
/// What is wrong, with examples.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let parsed = number.parse::<u64>().ok().and_then(|number| match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        "d" => number.checked_mul(86_400).map(Duration::from_secs),
        _ => None,
    });
    parsed.ok_or_else(|| format!("{text:?} is not a time; examples: \"90s\", \"2m\", \"500ms\""))
}

/// A time in the largest unit that it is a whole number of.
#[must_use]
pub fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, "d"), (3600, "h"), (60, "m")];
    let fitting = units.into_iter().find(|(size, _)| seconds.is_multiple_of(*size) && seconds >= *size);
    let (size, unit) = fitting.unwrap_or((1, "s"));
    format!("{} {unit}", seconds / size)
}

/// A number of bytes: a whole number, alone or with `B`, `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// What is wrong, with examples.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    let parsed = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    parsed.ok_or_else(|| format!("{text:?} is not a number of bytes; examples: \"500kB\", \"10MB\", \"0\""))
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_read_as_people_write_them() {
        for (text, milliseconds) in
            [("60s", 60_000), ("2m", 120_000), ("1h", 3_600_000), ("2d", 172_800_000), ("500 ms", 500), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for (text, count) in [("0", 0), ("1500", 1500), ("10MB", 10_000_000), ("1 GiB", 1 << 30), ("5 kB", 5000)] {
            assert_eq!(bytes(text), Ok(count), "{text}");
        }
        for text in ["", "60", "s", "-1s", "1.5s", "60 sec", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for (seconds, text) in
            [(0, "0 s"), (60, "1 m"), (90, "90 s"), (3600, "1 h"), (32_767, "32767 s"), (315_360_000, "3650 d")]
        {
            assert_eq!(words(Duration::from_secs(seconds)), text);
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "MB", "10 mb", "-1", "18446744073709551615kB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
