//! Texts for people who are not to know everything: without passwords, keys, and half of each IP address.

use std::net::Ipv4Addr;

/// A text without what looks like a secret or an address: `root_password=…`, `http://…@mirror.lab/`, `192.0.x.x`.
#[must_use]
pub(super) fn masked(text: &str) -> String {
    without_addresses(&without_secrets(&without_users(text)))
}

/// `http://user:password@host/` → `http://…@host/`
fn without_users(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("://") {
        result.extend([before, "://"]);
        let end = behind.find(|c: char| c.is_whitespace() || "/\"'<>".contains(c)).unwrap_or(behind.len());
        // A password may have an @ that is not escaped.
        let host = behind.get(..end).and_then(|authority| authority.rfind('@'));
        if host.is_some() {
            result.push('…');
        }
        rest = behind.get(host.unwrap_or_default()..).unwrap_or_default();
    }
    result + rest
}

/// `root_password="a b"` → `root_password=…`
fn without_secrets(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut quote = None;
    let mut at = 0;
    while let Some((offset, c)) = text.get(at..).and_then(|rest| rest.char_indices().find(|(_, c)| "=\"'".contains(*c)))
    {
        let (start, end) = (at + offset, at + offset + c.len_utf8());
        result.push_str(text.get(at..end).unwrap_or_default());
        at = end;
        if c != '=' {
            // An apostrophe within a word opens nothing.
            let is_apostrophe = quote.is_none() && c == '\'' && ends_in_a_letter(text.get(..start).unwrap_or_default());
            quote = match quote {
                None if !is_apostrophe => Some(c),
                Some(open) if open == c => None,
                quote => quote,
            };
            continue;
        }
        let before = text.get(..start).unwrap_or_default();
        let key = before.rsplit(|c: char| c.is_whitespace() || "\"'=?&,;({[".contains(c)).next().unwrap_or_default();
        let in_query = before.get(..before.len() - key.len()).is_some_and(|front| front.ends_with(['?', '&']));
        let length = length(text.get(at..).unwrap_or_default(), quote, in_query);
        let key = key.to_lowercase();
        if length > 0 && SECRET.iter().any(|part| key.contains(part)) {
            result.push('…');
            at += length;
        }
    }
    result + text.get(at..).unwrap_or_default()
}

/// The bytes of a value: to the quote that ends it, or to the next space; in a query, to the next `&`.
fn length(value: &str, quote: Option<char>, in_query: bool) -> usize {
    if let Some(quote) = quote {
        let end = |c: char| c == quote || in_query && c == '&';
        return value.find(end).unwrap_or(value.len());
    }
    let mut quote: Option<&str> = None;
    for (at, c) in value.char_indices() {
        let rest = value.get(at..).unwrap_or_default();
        match quote {
            Some(end) if rest.starts_with(end) => quote = None,
            Some(_) => {}
            // A template's own spaces end nothing.
            None if rest.starts_with("{{") => quote = Some("}}"),
            None if c == '"' => quote = Some("\""),
            None if c == '\'' => quote = Some("'"),
            None if c.is_whitespace() || in_query && c == '&' => return at,
            None => {}
        }
    }
    value.len()
}

fn ends_in_a_letter(text: &str) -> bool {
    text.ends_with(char::is_alphanumeric)
}

/// `192.0.2.10` → `192.0.x.x`. What names no host stays: 0.0.0.0, masks, broadcasts and this host itself.
fn without_addresses(text: &str) -> String {
    let is_part = |c: char| c.is_ascii_digit() || c == '.';
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, behind) = rest.split_at(start);
        let end = behind.find(|c: char| !is_part(c)).unwrap_or(behind.len());
        let (word, behind) = behind.split_at(end);
        let number = word.trim_end_matches('.');
        result.push_str(before);
        match number.parse::<Ipv4Addr>() {
            Ok(address) if names_a_host(address) => {
                let [a, b, ..] = address.octets();
                result.push_str(&format!("{a}.{b}.x.x{}", word.get(number.len()..).unwrap_or_default()));
            }
            _ => result.push_str(word),
        }
        rest = behind;
    }
    result + rest
}

fn names_a_host(address: Ipv4Addr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && address.octets().first() != Some(&255)
}

/// What is in the names of things that are secret.
const SECRET: [&str; 7] = ["pass", "secret", "token", "key", "auth", "credential", "psk"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_to_their_ends() {
        for (text, shown) in [
            ("console=ttyS0 root_password=hunter2 API-TOKEN=x key=", "console=ttyS0 root_password=… API-TOKEN=… key="),
            ("wifi.psk=\"CMD SECRET3\" quiet", "wifi.psk=… quiet"),
            ("wifi.psk='CMD SECRET3' quiet", "wifi.psk=… quiet"),
            ("wifi.psk=\"CMD SECRET3", "wifi.psk=…"),
            ("\"wifi.psk=CMD SECRET3\" quiet", "\"wifi.psk=…\" quiet"),
            ("psk=a\"b c\"d e", "psk=… e"),
            ("psk={{ vars.psk }} quiet", "psk=… quiet"),
            ("user.passwd=a,b;c=d&e quiet", "user.passwd=… quiet"),
            ("x=http://h/?a=1&token=abc&b=2 y", "x=http://h/?a=1&token=…&b=2 y"),
            ("it isn't there, password=a b", "it isn't there, password=… b"),
            ("a=1,auth=b c", "a=1,auth=… c"),
            ("a=b c=\"d e\"", "a=b c=\"d e\""),
            ("ks=http://user:URLSECRET@host/x ftp://t@h", "ks=http://…@host/x ftp://…@h"),
            ("http://u:p@ss@host:80/x?mail=a@b", "http://…@host:80/x?mail=a@b"),
            ("http://host/a@b", "http://host/a@b"),
        ] {
            assert_eq!(masked(text), shown, "{text}");
        }
    }

    #[test]
    fn half_of_each_ip_address_is_masked() {
        for (text, shown) in [
            ("http://10.66.0.2:8080/x from 192.168.7.7.", "http://10.66.x.x:8080/x from 192.168.x.x."),
            ("0.0.0.0 127.0.0.1 255.255.255.0", "0.0.0.0 127.0.0.1 255.255.255.0"),
            ("netbootd 0.1.0, 1.2.3.4.5, 300.1.1.1, 7 B", "netbootd 0.1.0, 1.2.3.4.5, 300.1.1.1, 7 B"),
        ] {
            assert_eq!(masked(text), shown, "{text}");
        }
    }
}
