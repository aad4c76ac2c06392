//! Links of the page.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A text as part of a link.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// As they stand in MAC addresses, IP addresses and names.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b':').remove(b'.').remove(b'-').remove(b'_');
