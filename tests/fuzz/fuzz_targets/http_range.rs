//! Any Range and conditional headers on a file of any size: what is sent lies in the file, and never is one version
//! spliced to another. The first eight bytes are the file's size, then comes a header to a line: a letter for its name,
//! and its value.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run http_range --fuzz-dir tests/fuzz tests/fuzz/seeds/http_range -- -max_len=1500`

#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use netbootd::http::range::{Selection, Version, select};

fuzz_target!(|data: &[u8]| {
    let Some((size, lines)) = data.split_first_chunk() else { return };
    let size = u64::from_be_bytes(*size);
    let headers: HeaderMap = lines.split(|byte| *byte == b'\n').filter_map(header_of).collect();
    let has = |name: HeaderName| headers.contains_key(name);
    let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_700);
    match select(&headers, Version { etag: ETAG, modified, size, now: SystemTime::now }) {
        Selection::Whole => {}
        Selection::Part { start, length } => {
            assert!(has(header::RANGE) && length > 0 && start.checked_add(length).is_some_and(|end| end <= size));
            let validator = headers.get(header::IF_RANGE).map(|value| value.to_str().unwrap_or_default().trim());
            assert!(
                validator.is_none_or(|validator| validator == ETAG || httpdate::parse_http_date(validator).is_ok())
            );
        }
        Selection::NotModified => assert!(has(header::IF_NONE_MATCH) || has(header::IF_MODIFIED_SINCE)),
        Selection::PreconditionFailed => assert!(has(header::IF_MATCH) || has(header::IF_UNMODIFIED_SINCE)),
        Selection::Unsatisfiable => assert!(has(header::RANGE)),
    }
});

fn header_of(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let (letter, value) = line.split_first()?;
    let name = match letter {
        b'r' => header::RANGE,
        b'i' => header::IF_RANGE,
        b'm' => header::IF_MATCH,
        b'n' => header::IF_NONE_MATCH,
        b's' => header::IF_MODIFIED_SINCE,
        b'u' => header::IF_UNMODIFIED_SINCE,
        _ => return None,
    };
    Some((name, HeaderValue::from_bytes(value).ok()?))
}

const ETAG: &str = "\"v1\"";
