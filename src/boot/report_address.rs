//! The addresses at which a machine reports, as templates name them.

use minijinja::Value;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What an address for reports is signed for. No answer file has such a name, so no address of one is good for it.
#[must_use]
pub fn scope(decides: bool) -> &'static str {
    if decides { "/report/installed" } else { "/report/any" }
}

/// The function `report("EVENT")`, or `report("EVENT", "MESSAGE")`, of templates: the address that says so of a machine.
pub(super) fn function(base: &str, mac: &str, token: Option<String>) -> Value {
    let address = match token {
        Some(token) => format!("{base}/report/s/{token}?event="),
        None => format!("{base}/report?mac={mac}&event="),
    };
    Value::from_function(move |event: String, message: Option<String>| {
        let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let message = message.map_or_else(String::new, |message| format!("&message={}", escaped(&message)));
        format!("{address}{}{message}", escaped(&event))
    })
}

/// Unreserved characters of RFC 3986 §2.3.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use minijinja::{Environment, context};

    use super::*;
    use crate::boot::mac::MacAddr;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    #[test]
    fn a_template_names_the_address_whole() {
        let report = function("http://192.0.2.10:8080", &MAC.to_string(), None);
        let context = context! { report };
        let rendered = |template| Environment::new().render_str(template, &context).expect("rendered");
        let address = "http://192.0.2.10:8080/report?mac=52:54:00:12:34:56&event=";
        assert_eq!(rendered("{{ report('installed') }}"), format!("{address}installed"));
        let said = rendered("{{ report('failed', 'no disk & \"more\"') }}");
        assert_eq!(said, format!("{address}failed&message=no%20disk%20%26%20%22more%22"));
    }
}
