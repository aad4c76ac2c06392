//! A syslog datagram → a line of text. Pure.
//!
//! All programs send the priority at the start, but the rest differs. netbootd already knows what some of them add
//! (time, host). So this removes what netbootd knows and shows the rest.
//!
//! | who | sends |
//! |---|---|
//! | iPXE (net/udp/syslog.c) | `<6>ipxe: message`, `<6>host.domain ipxe: message` |
//! | busybox and Debian's installer | `<13>Nov 22 23:58:22 tag: message`, a host before the tag in newer ones |
//! | logger, systemd (RFC 5424 §6) | `<13>1 2026-11-22T23:58:22.1+00:00 host tag 812 - [data] message` |
//! | rsyslog, in anaconda (its forward format) | `<13>2026-11-22T23:58:22.1+00:00 host tag[812]: message` |

use crate::boot::text::is_unseen;

/// The contents of the datagram: the name of the program and its message, in one line of at most [`LONGEST`]
/// characters, without control characters. `None` if it is empty.
#[must_use]
pub fn read(datagram: &[u8]) -> Option<String> {
    // Bytes that cannot be shown are not read.
    let text = String::from_utf8_lossy(datagram.get(..LOOKED_AT).unwrap_or(datagram));
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    let said = match after_priority(text) {
        None => text.to_owned(),
        Some(rest) => modern(rest).unwrap_or_else(|| without_host(without_time(rest)).to_owned()),
    };
    let line = on_one_line(&said);
    (!line.is_empty()).then_some(line)
}

/// `<13>` (RFC 3164 §4.1.1: up to three digits).
fn after_priority(text: &str) -> Option<&str> {
    let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
    let is_number = (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then_some(rest)
}

/// RFC 5424 §6: `1 TIME HOST APP PROCID MSGID DATA MESSAGE`, where `-` is nothing.
fn modern(text: &str) -> Option<String> {
    let (version, rest) = text.split_once(' ')?;
    let mut parts = rest.splitn(6, ' ');
    let (time, _host, app) = (parts.next()?, parts.next()?, parts.next()?);
    let (_process, _message_id, rest) = (parts.next()?, parts.next()?, parts.next()?);
    if version != "1" || !(time == "-" || is_rfc3339(time)) {
        return None;
    }
    let message = after_data(rest).trim_start_matches('\u{feff}');
    let app = if app == "-" { String::new() } else { format!("{app}: ") };
    Some(format!("{app}{message}"))
}

/// Skips structured data (RFC 5424 §6.3): `-`, or elements in brackets. A bracket inside a quoted value does not end an
/// element.
fn after_data(text: &str) -> &str {
    if let Some(rest) = text.strip_prefix('-') {
        return rest.trim_start();
    }
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' if !quoted => depth += 1,
            ']' if !quoted => depth -= 1,
            _ if depth == 0 => return text.get(at..).unwrap_or_default().trim_start(),
            _ => {}
        }
    }
    // If there are only elements, or an element without an end, they are shown.
    if depth == 0 { "" } else { text }
}

/// `Nov 22 23:58:22 ` (RFC 3164 §4.1.2), with a year after the day as Cisco sends it, or RFC 3339.
fn without_time(text: &str) -> &str {
    if let Some((time, rest)) = text.split_once(' ')
        && is_rfc3339(time)
    {
        return rest.trim_start();
    }
    let mut words = text.split_ascii_whitespace();
    let is_month = words.next().is_some_and(|word| MONTHS.contains(&word));
    let is_day = words.next().is_some_and(|word| word.len() <= 2 && word.bytes().all(|b| b.is_ascii_digit()));
    let clock = words.find(|word| !(word.len() == 4 && word.bytes().all(|b| b.is_ascii_digit())));
    match clock.filter(|clock| is_month && is_day && is_clock(clock)) {
        // It is part of the text.
        Some(clock) => text.split_once(clock).map_or(text, |(_, rest)| rest.trim_start()),
        None => text,
    }
}

/// `k8s08 kernel: message` → `kernel: message`. Without a tag, the first word can be part of the message, and stays.
fn without_host(text: &str) -> &str {
    let Some((first, rest)) = text.split_once(' ') else { return text };
    let rest = rest.trim_start();
    let is_tag = |word: &str| word.len() > 1 && word.ends_with(':');
    let second = rest.split(' ').next().unwrap_or_default();
    if is_tag(second) && !is_tag(first) { rest } else { text }
}

fn is_clock(text: &str) -> bool {
    let text = text.trim_end_matches(':').split('.').next().unwrap_or_default();
    text.len() == 8 && text.char_indices().all(|(at, c)| if at == 2 || at == 5 { c == ':' } else { c.is_ascii_digit() })
}

fn is_rfc3339(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let is_date = date.len() == 10
        && date.char_indices().all(|(at, c)| if at == 4 || at == 7 { c == '-' } else { c.is_ascii_digit() });
    is_date && time.get(..8).is_some_and(is_clock)
}

/// Colours and other controls of a terminal (ECMA-48 §5.4) are removed, line ends become spaces.
fn on_one_line(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' if chars.next_if_eq(&'[').is_some() => {
                while chars.next_if(|c| ('\x20'..='\x3f').contains(c)).is_some() {}
                chars.next_if(|c| ('\x40'..='\x7e').contains(c));
            }
            c if is_unseen(c) || c.is_whitespace() => plain.push(' '),
            c => plain.push(c),
        }
    }
    let words: Vec<&str> = plain.split_ascii_whitespace().collect();
    let line: String = words.join(" ").chars().take(LONGEST).collect();
    line.trim_end().to_owned()
}

/// The largest number of characters that are kept.
pub const LONGEST: usize = 400;
/// Bytes: RFC 5424 §6.1 has receivers take 2048.
const LOOKED_AT: usize = 2048;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_name_and_the_message_of_each_program_are_read() {
        let rows = [
            (
                "<6>ipxe: Could not start download: Operation not supported",
                "ipxe: Could not start download: Operation not supported",
            ),
            ("<7>k8s08.lab ipxe: net0: link up", "ipxe: net0: link up"),
            ("<13>Nov 22 23:58:22 root: hello", "root: hello"),
            (
                "<30>Nov  2 23:58:22 k8s08 udhcpc[812]: lease of 192.0.2.77 obtained",
                "udhcpc[812]: lease of 192.0.2.77 obtained",
            ),
            ("<189>Nov 22 2026 23:58:22: %LINK-3-UPDOWN: up", "%LINK-3-UPDOWN: up"),
            ("<34>1 2026-11-22T22:14:15.003Z host su - ID47 - \u{feff}'su root' failed", "su: 'su root' failed"),
            (
                "<13>1 2026-11-22T23:58:22.1+00:00 h root 81 - [timeQuality tzKnown=\"1\" x=\"a]\\\"b\"][y z=\"1\"] hello",
                "root: hello",
            ),
            ("<13>1 - - - - - - hello", "hello"),
            ("<13>2026-11-22T23:58:22.123+00:00 host anaconda[1]: Running kickstart", "anaconda[1]: Running kickstart"),
            // Other texts.
            ("<13>1 2026-11-22T23:58:22Z h a - - [x", "a: [x"),
            ("hello, no priority", "hello, no priority"),
            ("<13>Nov 22 hello", "Nov 22 hello"),
            ("<13>\x1b[1;31mred\x1b[0m\r\n  and\tmore\x07\0", "red and more"),
            ("<9999>x", "<9999>x"),
            ("<13>two words", "two words"),
        ];
        for (datagram, line) in rows {
            assert_eq!(read(datagram.as_bytes()).as_deref(), Some(line), "{datagram:?}");
        }
        for nothing in [&b""[..], b"<13>", b"\0\n ", b"<13>1 - - - - - -", b"\x1b[0m"] {
            assert_eq!(read(nothing), None, "{nothing:?}");
        }
        assert_eq!(read(b"<13>\xff\xfe x").as_deref(), Some("\u{fffd}\u{fffd} x"));
        let long = read(format!("<13>tag: {}", "ä".repeat(3000)).as_bytes()).expect("a line");
        assert_eq!(long.chars().count(), LONGEST);
        assert_eq!(read(format!("{} x", "y".repeat(LONGEST - 1)).as_bytes()), Some("y".repeat(LONGEST - 1)));
    }

    proptest! {
        #[test]
        fn any_datagram_becomes_a_short_printable_line(
            priority in prop::option::of("<[0-9]{1,4}>"),
            head in prop::option::of("1 |Nov 22 23:58:22 |1 2026-11-22T23:58:22Z [a-z]* [a-z]* - - |\\[[a-z=\"\\\\\\]]{0,20}"),
            bytes in prop::collection::vec(any::<u8>(), 0..3000),
        ) {
            let datagram = [priority.unwrap_or_default().into_bytes(), head.unwrap_or_default().into_bytes(), bytes].concat();
            if let Some(line) = read(&datagram) {
                prop_assert!(!line.is_empty() && line.chars().count() <= LONGEST);
                prop_assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
                prop_assert_eq!(line.trim(), &line);
            }
        }

        #[test]
        fn a_message_behind_a_header_is_shown_whole(words in "[a-z]{1,9}( [a-z0-9.,/=-]{1,9}){0,20}", pid in 1u16..) {
            for head in ["<13>Nov 22 23:58:22 ", "<13>Nov 22 23:58:22 host ", "<13>2026-11-22T23:58:22Z host ", "<13>", "<6>a.b "] {
                let line = read(format!("{head}tag[{pid}]: {words}").as_bytes());
                prop_assert_eq!(line, Some(format!("tag[{pid}]: {words}")));
            }
            let modern = read(format!("<13>1 2026-11-22T23:58:22Z host tag {pid} - - {words}").as_bytes());
            prop_assert_eq!(modern, Some(format!("tag: {words}")));
        }
    }
}
