//! DHCP options of `lease.options`: names, and the bytes of their values (RFC 2132, RFC 3397, RFC 3442).

use std::net::Ipv4Addr;

use super::{meant, schema::OptionValue};

/// What is wrong with an option.
#[derive(Debug)]
pub(super) struct NotAnOption(pub(super) String);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Addresses,
    Text,
    Number(usize),
    Switch,
    Domains,
}

/// The code and the bytes of an option.
///
/// # Errors
/// [`NotAnOption`].
pub(super) fn encode(name: &str, value: &OptionValue) -> Result<(u8, Vec<u8>), NotAnOption> {
    let by_number = name.parse::<u16>().ok();
    let known = KNOWN.iter().find(|(code, known, _)| *known == name || by_number == Some(u16::from(*code)));
    let code = match (known, by_number) {
        (Some((code, ..)), _) => *code,
        (None, Some(number)) => u8::try_from(number)
            .ok()
            .filter(|code| (1..=254).contains(code))
            .ok_or_else(|| NotAnOption(format!("there is no DHCP option {number}: use a number from 1 to 254")))?,
        (None, None) => {
            let meant = meant(name, KNOWN.iter().map(|(_, known, _)| *known));
            let words =
                format!("unknown DHCP option {name:?}{meant}: use its number, or one of the names in leases.md");
            return Err(NotAnOption(words));
        }
    };
    if let Some((_, why)) = OURS.iter().find(|(codes, _)| codes.contains(&code)) {
        return Err(NotAnOption(format!("option {code} is set by netbootd itself: {why}")));
    }
    let form = known.map(|(_, _, form)| *form);
    let data = bytes(form, value).map_err(|why| NotAnOption(format!("option {name}: {why}")))?;
    match data.len() {
        0 => Err(NotAnOption(format!("option {name} is empty: give it a value, or remove it"))),
        1..=255 => Ok((code, data)),
        length => Err(NotAnOption(format!("option {name} has {length} bytes: use 255 at most"))),
    }
}

fn bytes(form: Option<Form>, value: &OptionValue) -> Result<Vec<u8>, String> {
    if let OptionValue::Text(text) = value
        && let Some(digits) = text.strip_prefix("hex:")
    {
        return hex(digits).ok_or_else(|| format!("{text:?} is not hexadecimal; example: \"hex:01ff\""));
    }
    let texts = match value {
        OptionValue::Text(text) => text.split(',').map(|text| text.trim().to_owned()).collect(),
        OptionValue::List(texts) => texts.clone(),
        OptionValue::Number(_) | OptionValue::Switch(_) => Vec::new(),
    };
    match (form, value) {
        (Some(Form::Addresses), _) if !texts.is_empty() => {
            addresses(&texts).map_err(|text| format!("{text:?} is not an IPv4 address; example: \"192.0.2.1\""))
        }
        (Some(Form::Domains), _) if !texts.is_empty() => {
            texts.iter().map(|text| labels(text)).collect::<Option<Vec<_>>>().map(|all| all.concat()).ok_or_else(|| {
                format!("{} is not a list of domain names; example: [\"lab.example\"]", texts.join(", "))
            })
        }
        (Some(Form::Text) | None, OptionValue::Text(text)) => {
            // A number alone says nothing of its form; an address is an address.
            let address = (form.is_none()).then(|| addresses(&texts).ok()).flatten();
            Ok(address.unwrap_or_else(|| text.as_bytes().to_vec()))
        }
        (None, OptionValue::List(texts)) => {
            addresses(texts).map_err(|text| format!("{text:?} is not an IPv4 address: a list has addresses only"))
        }
        (Some(Form::Number(size)), OptionValue::Number(number)) => {
            let most = (1_i64 << (8 * size)) - 1;
            let is_good = (0..=most).contains(number);
            is_good
                .then(|| number.to_be_bytes().into_iter().skip(8 - size).collect())
                .ok_or_else(|| format!("{number} is out of range: use 0 to {most}"))
        }
        (Some(Form::Switch), OptionValue::Switch(switch)) => Ok(vec![u8::from(*switch)]),
        (Some(form), _) => Err(format!("expected {}", form.words())),
        (None, _) => Err("expected a text, addresses, or bytes such as \"hex:01ff\"".into()),
    }
}

impl Form {
    fn words(self) -> &'static str {
        match self {
            Self::Addresses => "one or more IPv4 addresses",
            Self::Text => "a text",
            Self::Number(_) => "a number without quotation marks",
            Self::Switch => "true or false",
            Self::Domains => "one or more domain names",
        }
    }
}

/// Addresses as the data of an option.
///
/// # Errors
/// The text that is none.
pub(super) fn addresses(texts: &[String]) -> Result<Vec<u8>, String> {
    let parsed = texts.iter().map(|text| text.trim().parse::<Ipv4Addr>().map_err(|_| text.clone()));
    Ok(parsed.collect::<Result<Vec<_>, _>>()?.iter().flat_map(Ipv4Addr::octets).collect())
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        digits.chars().filter(|c| !matches!(c, ':' | ' ')).map(|c| c.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    let byte = |[high, low]: &[u32; 2]| u8::try_from(high << 4 | low).ok();
    rest.is_empty().then(|| pairs.iter().map(byte).collect()).flatten()
}

/// A domain name in labels (RFC 1035 §3.1), not compressed.
fn labels(name: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    Some(bytes)
}

/// Number, name and form.
const KNOWN: &[(u8, &str, Form)] = &[
    (2, "time-offset", Form::Number(4)),
    (3, "router", Form::Addresses),
    (4, "time-server", Form::Addresses),
    (6, "dns-server", Form::Addresses),
    (7, "log-server", Form::Addresses),
    (9, "lpr-server", Form::Addresses),
    (12, "host-name", Form::Text),
    (13, "boot-file-size", Form::Number(2)),
    (15, "domain-name", Form::Text),
    (17, "root-path", Form::Text),
    (19, "ip-forwarding", Form::Switch),
    (23, "default-ttl", Form::Number(1)),
    (26, "mtu", Form::Number(2)),
    (28, "broadcast", Form::Addresses),
    (40, "nis-domain", Form::Text),
    (41, "nis-server", Form::Addresses),
    (42, "ntp-server", Form::Addresses),
    (44, "netbios-server", Form::Addresses),
    (69, "smtp-server", Form::Addresses),
    (70, "pop3-server", Form::Addresses),
    (72, "www-server", Form::Addresses),
    (100, "posix-timezone", Form::Text),
    (101, "tzdb-timezone", Form::Text),
    (108, "ipv6-only", Form::Number(4)),
    (114, "captive-portal", Form::Text),
    (119, "domain-search", Form::Domains),
    (252, "wpad", Form::Text),
];

/// Options that netbootd sets.
const OURS: &[(&[u8], &str)] = &[
    (&[1], "the netmask is that of the interface"),
    (&[51, 58, 59], "set lease.time"),
    (&[43, 60, 66, 67, 97, 175, 209, 210], "it is a part of the boot"),
    (&[50, 52, 53, 54, 55, 56, 57, 61, 82, 93, 94], "it is a part of the protocol"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> OptionValue {
        OptionValue::Text(text.into())
    }

    #[test]
    fn options_are_bytes_by_name_and_by_number() {
        let of = |name: &str, value: OptionValue| encode(name, &value).map_err(|NotAnOption(why)| why);
        let ntp = vec![192, 0, 2, 1, 192, 0, 2, 2];
        assert_eq!(of("ntp-server", text("192.0.2.1, 192.0.2.2")), Ok((42, ntp.clone())));
        assert_eq!(of("42", OptionValue::List(vec!["192.0.2.1".into(), "192.0.2.2".into()])), Ok((42, ntp)));
        assert_eq!(of("mtu", OptionValue::Number(1400)), Ok((26, vec![5, 120])));
        assert_eq!(of("ip-forwarding", OptionValue::Switch(true)), Ok((19, vec![1])));
        assert_eq!(of("root-path", text("a, b")), Ok((17, b"a, b".to_vec())));
        assert_eq!(of("domain-search", text("lab.example")), Ok((119, b"\x03lab\x07example\0".to_vec())));
        assert_eq!(of("224", text("hex:01:ff")), Ok((224, vec![1, 255])));
        assert_eq!(of("224", text("192.0.2.1")), Ok((224, vec![192, 0, 2, 1])));
        assert_eq!(of("224", text("words")), Ok((224, b"words".to_vec())));
        for (name, value, fault) in [
            ("nttp-server", text("x"), "unknown DHCP option \"nttp-server\" (did you mean \"ntp-server\"?)"),
            ("0", text("x"), "there is no DHCP option 0"),
            ("300", text("x"), "there is no DHCP option 300"),
            ("51", text("x"), "option 51 is set by netbootd itself: set lease.time"),
            ("mtu", OptionValue::Number(70_000), "option mtu: 70000 is out of range: use 0 to 65535"),
            ("mtu", text("1400"), "option mtu: expected a number without quotation marks"),
            ("router", text("boot.lab"), "option router: \"boot.lab\" is not an IPv4 address"),
            ("domain-search", text("a..b"), "option domain-search: a..b is not a list of domain names"),
            ("224", OptionValue::Number(1), "option 224: expected a text, addresses, or bytes such as \"hex:01ff\""),
            ("224", text("hex:0g"), "option 224: \"hex:0g\" is not hexadecimal"),
            ("12", text(""), "option 12 is empty"),
            ("12", text(&"x".repeat(256)), "option 12 has 256 bytes: use 255 at most"),
        ] {
            let found = of(name, value.clone()).expect_err("a fault");
            assert!(found.starts_with(fault), "{name} {value:?}: {found}");
        }
        // The page has them all.
        let page = include_str!("../../packaging/docs/leases.md");
        assert!(KNOWN.iter().all(|(code, name, _)| page.contains(&format!("`{name}` ({code})"))));
    }
}
