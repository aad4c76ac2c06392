//! Conditional and range requests on a file (RFC 9110 §13, §14): headers → what to send.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};

/// A file's version, as validators see it.
#[derive(Clone, Copy, Debug)]
pub struct Version<'a> {
    /// Strong entity tag with its quotes.
    pub etag: &'a str,
    /// Last modification.
    pub modified: SystemTime,
    /// Bytes.
    pub size: u64,
    /// The clock.
    pub now: fn() -> SystemTime,
}

/// What to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// 200 with all of it.
    Whole,
    /// 206 with these bytes.
    Part {
        /// First byte.
        start: u64,
        /// How many, at least one.
        length: u64,
    },
    /// 304.
    NotModified,
    /// 412.
    PreconditionFailed,
    /// 416.
    Unsatisfiable,
}

/// Evaluates the headers of a GET or HEAD in the order of RFC 9110 §13.2.2.
///
/// Firmware resumes by these: EDK2 with Range and If-Match or If-Unmodified-Since (HttpBootDxe, 2024-09 on). A version
/// that is not the one it began with must never be spliced to it.
#[must_use]
pub fn select(headers: &HeaderMap, version: Version<'_>) -> Selection {
    // What cannot be read is there all the same: an If-Range of other bytes names another version.
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (Comparison::Strong.finds(headers, header::IF_MATCH, version.etag), text(header::IF_UNMODIFIED_SINCE)) {
        (Some(false), _) => return Selection::PreconditionFailed,
        (None, Some(date)) if is_modified_since(version, date) => return Selection::PreconditionFailed,
        _ => {}
    }
    match (Comparison::Weak.finds(headers, header::IF_NONE_MATCH, version.etag), text(header::IF_MODIFIED_SINCE)) {
        (Some(true), _) => return Selection::NotModified,
        (None, Some(date)) if !is_modified_since(version, date) && httpdate::parse_http_date(date).is_ok() => {
            return Selection::NotModified;
        }
        _ => {}
    }
    match text(header::RANGE) {
        Some(range) if text(header::IF_RANGE).is_none_or(|validator| is_this(validator, version)) => {
            part(range, version.size)
        }
        _ => Selection::Whole,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

impl Comparison {
    /// Whether the tags of this field, which may be in several lines (RFC 9110 §5.3), have this one; `None` without them.
    fn finds(self, headers: &HeaderMap, name: HeaderName, etag: &str) -> Option<bool> {
        let is_it = |tag: &str| {
            let opaque = if self == Self::Weak { tag.strip_prefix("W/").unwrap_or(tag) } else { tag };
            tag == "*" || opaque == etag
        };
        let mut lines = headers.get_all(name).into_iter().map(|value| value.to_str().unwrap_or_default()).peekable();
        lines.peek()?;
        Some(lines.flat_map(|line| line.split(',')).any(|tag| is_it(tag.trim())))
    }
}

/// A date that is none does not count (RFC 9110 §13.1.3), and says "not modified since" here.
fn is_modified_since(version: Version<'_>, date: &str) -> bool {
    httpdate::parse_http_date(date).is_ok_and(|date| whole_seconds(version.modified) > date)
}

/// If-Range: the same tag, or the very date, where that second is over: a file may change twice within it, and then its
/// date names both versions (RFC 9110 §8.8.2.2 and §13.1.5).
fn is_this(validator: &str, version: Version<'_>) -> bool {
    let is_over = || (version.now)() > whole_seconds(version.modified) + Duration::from_secs(1);
    validator.trim() == version.etag
        || httpdate::parse_http_date(validator).is_ok_and(|date| date == whole_seconds(version.modified)) && is_over()
}

/// HTTP dates have whole seconds.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

/// A range in which letters of a printf format stand for the numbers, as an iPXE sends that cannot print 64-bit numbers
/// (`bytes=u-u`: 32-bit builds, and SAN boots, which read a disk part by part). To such a client the whole file is as
/// wrong as any part, and may have gigabytes. What else is no range is ignored, as RFC 9110 §14.2 has it.
#[must_use]
pub fn without_numbers(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::RANGE)?.to_str().ok()?;
    let (unit, spec) = value.split_once('=')?;
    let (first, last) = spec.trim().split_once('-')?;
    let is_format = |part: &str| {
        let conversion = part.trim_start_matches('%').trim_start_matches(['l', 'h', 'j', 'z', 't', 'q', 'L']);
        matches!(conversion, "u" | "d" | "i" | "x")
    };
    (unit.trim().eq_ignore_ascii_case("bytes") && is_format(first) && is_format(last)).then_some(value)
}

/// One range is served; several, or what is no byte range, get the whole file (RFC 9110 §14.2 lets a server ignore
/// them, and no boot client sends them).
fn part(range: &str, size: u64) -> Selection {
    let Some((unit, spec)) = range.split_once('=') else { return Selection::Whole };
    let Some((first, last)) = spec.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes")) else {
        return Selection::Whole;
    };
    let (Some(first), Some(last)) = (position(first), position(last)) else { return Selection::Whole };
    let (start, end) = match (first, last) {
        (Some(first), Some(last)) if first > last => return Selection::Whole,
        (Some(first), Some(last)) => (first, last.saturating_add(1).min(size)),
        (Some(first), None) => (first, size),
        (None, Some(suffix)) => (size.saturating_sub(suffix), size),
        (None, None) => return Selection::Whole,
    };
    if start < end { Selection::Part { start, length: end - start } } else { Selection::Unsatisfiable }
}

/// A number of a range, `Some(None)` where it is left out, `None` where it is none. One that is too large is behind the end
/// of every file.
fn position(text: &str) -> Option<Option<u64>> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| (!text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const PART: Selection = Selection::Part { start: 2, length: 3 };

    /// Long after [`MODIFIED`].
    fn later() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000)
    }

    fn selected(headers: &[(HeaderName, &str)]) -> Selection {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(name, value.parse().expect("a value"));
        }
        let modified = httpdate::parse_http_date(MODIFIED).expect("a date") + Duration::from_millis(700);
        select(&all, Version { etag: "\"v1\"", modified, size: 10, now: later })
    }

    #[test]
    fn one_range_is_a_part_and_whatever_else_the_whole() {
        let range = |value| selected(&[(header::RANGE, value)]);
        let part = |start, length| Selection::Part { start, length };
        assert_eq!(selected(&[]), Selection::Whole);
        assert_eq!(range("bytes=2-4"), PART);
        assert_eq!(range("Bytes=0-0"), part(0, 1));
        assert_eq!(range("bytes=2-"), part(2, 8));
        assert_eq!(range("bytes=-3"), part(7, 3));
        assert_eq!(range("bytes=-30"), part(0, 10));
        assert_eq!(range("bytes=5-99999999999999999999"), part(5, 5));
        assert_eq!(range("bytes=-99999999999999999999"), part(0, 10));
        for unsatisfiable in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(range(unsatisfiable), Selection::Unsatisfiable, "{unsatisfiable}");
        }
        for whole in [
            "bytes=0-1,4-5",
            "bytes=4-2",
            "bytes=99999999999999999999-5",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "lines=1-2",
            "bytes",
            "",
        ] {
            assert_eq!(range(whole), Selection::Whole, "{whole}");
        }
    }

    #[test]
    fn letters_of_a_format_in_place_of_numbers_are_told_from_what_is_no_range() {
        let is_format = |value: &str| {
            let headers = HeaderMap::from_iter([(header::RANGE, value.parse().expect("a value"))]);
            without_numbers(&headers).is_some()
        };
        for format in ["bytes=u-u", "bytes=lu-lu", "bytes=llu-llu", "bytes=%llu-%llu", "Bytes = zd-zd", "bytes=x-x"] {
            assert!(is_format(format), "{format}");
        }
        for other in
            ["bytes=0-1", "bytes=-", "bytes=a-b", "bytes=0-u", "lines=u-u", "bytes=u", "bytes=l-l", "bytes=uu-uu"]
        {
            assert!(!is_format(other), "{other}");
        }
    }

    #[test]
    fn conditions_go_before_ranges_in_the_order_of_the_rfc() {
        use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
        let range = (RANGE, "bytes=2-4");
        let with = |name: HeaderName, value| selected(&[(name, value), range.clone()]);
        assert_eq!(with(IF_MATCH, "\"v0\", \"v1\""), PART);
        assert_eq!(with(IF_MATCH, "*"), PART);
        let lines = |name: HeaderName| selected(&[(name.clone(), "\"v0\""), (name, "\"v1\""), range.clone()]);
        assert_eq!((lines(IF_MATCH), lines(IF_NONE_MATCH)), (PART, Selection::NotModified), "a list in two lines");
        assert_eq!(with(IF_MATCH, "\"v0\""), Selection::PreconditionFailed);
        assert_eq!(with(IF_MATCH, "W/\"v1\""), Selection::PreconditionFailed, "a weak tag matches nothing here");
        assert_eq!(with(IF_UNMODIFIED_SINCE, MODIFIED), PART);
        assert_eq!(with(IF_UNMODIFIED_SINCE, EARLIER), Selection::PreconditionFailed);
        assert_eq!(with(IF_NONE_MATCH, "W/\"v1\""), Selection::NotModified);
        assert_eq!(with(IF_NONE_MATCH, "\"v0\""), PART);
        assert_eq!(with(IF_MODIFIED_SINCE, MODIFIED), Selection::NotModified);
        assert_eq!(with(IF_MODIFIED_SINCE, EARLIER), PART);
        assert_eq!(with(IF_MODIFIED_SINCE, "yesterday"), PART);
        assert_eq!(with(IF_RANGE, "\"v1\""), PART);
        assert_eq!(with(IF_RANGE, MODIFIED), PART);
        for stale in ["\"v0\"", "W/\"v1\"", EARLIER, LATER, "x"] {
            assert_eq!(with(IF_RANGE, stale), Selection::Whole, "{stale}: never two versions in one file");
        }
        // Within the second of a change, a date names two versions.
        let modified = later();
        let headers = [(RANGE, "bytes=2-4".to_owned()), (IF_RANGE, httpdate::fmt_http_date(modified))];
        let headers = headers.into_iter().map(|(name, value)| (name, value.parse().expect("a value")));
        let version = Version { etag: "\"v1\"", modified, size: 10, now: later };
        assert_eq!(select(&headers.collect(), version), Selection::Whole);
        // No text, and no reason to take the header for missing.
        let garbage = |name: HeaderName| {
            let value = |bytes| http::HeaderValue::from_bytes(bytes).expect("a value");
            let headers = HeaderMap::from_iter([(RANGE, value(b"bytes=2-4")), (name, value(b"\"v1\xff\""))]);
            select(&headers, Version { etag: "\"v1\"", modified: SystemTime::UNIX_EPOCH, size: 10, now: later })
        };
        assert_eq!(garbage(IF_RANGE), Selection::Whole);
        assert_eq!(garbage(IF_MATCH), Selection::PreconditionFailed);
        assert_eq!(
            (garbage(IF_NONE_MATCH), garbage(IF_UNMODIFIED_SINCE), garbage(IF_MODIFIED_SINCE)),
            (PART, PART, PART)
        );
        // A tag goes before a date.
        assert_eq!(selected(&[(IF_MATCH, "\"v1\""), (IF_UNMODIFIED_SINCE, EARLIER)]), Selection::Whole);
        assert_eq!(selected(&[(IF_NONE_MATCH, "\"v0\""), (IF_MODIFIED_SINCE, LATER)]), Selection::Whole);
    }

    /// Values as clients send them, and what is near to them.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            "(bytes=)?[0-9]{0,3}[-,][0-9]{0,3}",
            prop::sample::select(vec!["\"v1\"", "W/\"v1\"", "\"v0\"", "\"v0\", \"v1\"", "*", "", "x"])
                .prop_map(String::from),
            prop::sample::select(vec![MODIFIED, EARLIER, LATER]).prop_map(String::from),
            "[ -~]{0,20}",
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_asked_two_versions_are_never_spliced(
            names in proptest::collection::vec((0usize..6, value()), 0..6)
        ) {
            use header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
            let all = [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE];
            // As with a request, the first of a name counts.
            let mut headers: Vec<(HeaderName, &str)> = Vec::new();
            for (index, value) in &names {
                if headers.iter().all(|(name, _)| name != all[*index]) {
                    headers.push((all[*index].clone(), value.trim()));
                }
            }
            let value = |name: HeaderName| headers.iter().find_map(|(other, value)| (*other == name).then_some(*value));
            let is_this = |validator: &str| validator == "\"v1\"" || validator == MODIFIED;
            let without_range: Vec<_> = headers.iter().filter(|(name, _)| *name != RANGE).cloned().collect();
            match selected(&headers) {
                Selection::Part { start, length } => {
                    prop_assert!(length > 0 && start + length <= 10);
                    prop_assert!(value(IF_RANGE).is_none_or(is_this), "{headers:?}");
                    prop_assert_eq!(selected(&without_range), Selection::Whole);
                }
                Selection::Unsatisfiable => prop_assert_eq!(selected(&without_range), Selection::Whole),
                Selection::Whole => {}
                // A condition that fails does so with any range.
                failed => prop_assert_eq!(selected(&without_range), failed),
            }
        }

        #[test]
        fn a_part_is_never_outside_of_the_file(range in "(bytes=)?[0-9]{0,20}[-,][0-9]{0,20}", size in 0u64..1000) {
            if let Selection::Part { start, length } = part(&range, size) {
                prop_assert!(length >= 1 && start + length <= size);
            }
        }
    }
}
