//! DHCP options of `lease.options`: names, and the bytes of their values (RFC 2132, RFC 3397, RFC 3442).

use std::{net::Ipv4Addr, ops::RangeInclusive};

use super::{meant, schema::OptionValue};

/// What is wrong with an option.
#[derive(Debug)]
pub(super) struct NotAnOption(pub(super) String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Of hosts.
    Addresses,
    /// Where machines send broadcasts.
    Broadcast,
    /// In ASCII, as all texts of RFC 2132.
    Text,
    /// The number of bytes, and the values.
    Number(usize, RangeInclusive<i64>),
    Switch,
    /// One name as a text.
    Domain,
    /// Names in labels.
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
            let words = format!(
                "unknown DHCP option {name:?}{meant}: use its number, or one of the names in leases.md of the documentation"
            );
            return Err(NotAnOption(words));
        }
    };
    if let Some((_, why)) = OURS.iter().find(|(codes, _)| codes.contains(&code)) {
        return Err(NotAnOption(format!("option {code} is set by netbootd itself: {why}")));
    }
    let form = known.map(|(_, _, form)| form);
    let data = bytes(form, value).map_err(|why| NotAnOption(format!("option {name}: {why}")))?;
    match data.len() {
        0 => Err(NotAnOption(format!("option {name} is empty: give it a value, or remove it"))),
        1..=255 => Ok((code, data)),
        length => Err(NotAnOption(format!("option {name} has {length} bytes: use 255 at most"))),
    }
}

fn bytes(form: Option<&Form>, value: &OptionValue) -> Result<Vec<u8>, String> {
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
        (Some(Form::Addresses), _) if !texts.is_empty() => hosts(&texts),
        (Some(Form::Broadcast), _) if texts.len() == 1 => {
            addresses(&texts).map_err(|text| format!("{text:?} is not an IPv4 address; example: \"192.0.2.255\""))
        }
        (Some(Form::Domain), OptionValue::Text(text)) => domain(text),
        (Some(Form::Domains), _) if !texts.is_empty() => {
            texts.iter().map(|text| labels(text)).collect::<Option<Vec<_>>>().map(|all| all.concat()).ok_or_else(|| {
                format!("{} is not a list of domain names; example: [\"lab.example\"]", texts.join(", "))
            })
        }
        (Some(Form::Text), OptionValue::Text(text)) => match text.chars().all(|c| matches!(c, ' '..='~')) {
            true => Ok(text.clone().into_bytes()),
            false => Err(format!("{text:?} has characters that are not ASCII: use letters, digits and punctuation")),
        },
        (None, OptionValue::Text(text)) => {
            // A number alone says nothing of its form; an address is an address.
            Ok(addresses(&texts).unwrap_or_else(|_| text.as_bytes().to_vec()))
        }
        (None, OptionValue::List(texts)) => {
            addresses(texts).map_err(|text| format!("{text:?} is not an IPv4 address: a list has addresses only"))
        }
        (Some(Form::Number(size, range)), OptionValue::Number(number)) => range
            .contains(number)
            .then(|| number.to_be_bytes().into_iter().skip(8 - size).collect())
            .ok_or_else(|| format!("{number} is out of range: use {} to {}", range.start(), range.end())),
        (Some(Form::Switch), OptionValue::Switch(switch)) => Ok(vec![u8::from(*switch)]),
        (Some(form), _) => Err(format!("expected {}", form.words())),
        (None, _) => Err("expected a text, addresses, or bytes such as \"hex:01ff\"".into()),
    }
}

impl Form {
    fn words(&self) -> &'static str {
        match self {
            Self::Addresses => "one or more IPv4 addresses",
            Self::Broadcast => "one IPv4 address",
            Self::Text => "a text",
            Self::Domain => "a domain name",
            Self::Number(..) => "a number without quotation marks",
            Self::Switch => "true or false",
            Self::Domains => "one or more domain names",
        }
    }
}

/// Addresses of hosts as the data of an option.
///
/// # Errors
/// What is wrong with which of them.
pub(super) fn hosts(texts: &[String]) -> Result<Vec<u8>, String> {
    let data = addresses(texts).map_err(|text| format!("{text:?} is not an IPv4 address; example: \"192.0.2.1\""))?;
    for (text, octets) in texts.iter().zip(data.as_chunks::<4>().0) {
        let address = Ipv4Addr::from(*octets);
        let why = match () {
            // RFC 1122 §3.2.1.3.
            () if octets[0] == 0 => "an address that means \"this network\"",
            () if address.is_loopback() => "an address of the machine itself",
            () if address.is_multicast() => "an address of a group",
            () if octets[0] >= 240 => "no address of a host",
            () => continue,
        };
        return Err(format!("{text} is {why}: use the address of a host, such as \"192.0.2.1\""));
    }
    Ok(data)
}

/// A domain name as the data of an option.
///
/// # Errors
/// That it is none.
pub(super) fn domain(name: &str) -> Result<Vec<u8>, String> {
    let is_good = name.len() <= 253 && labels(name).is_some();
    is_good.then(|| name.as_bytes().to_vec()).ok_or_else(|| {
        format!("{name:?} is not a domain name: use letters, digits and hyphens between dots; example: \"lab.example\"")
    })
}

/// Addresses as the data of an option. The error is the text that is none.
fn addresses(texts: &[String]) -> Result<Vec<u8>, String> {
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
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let is_good = label.as_bytes().iter().all(is_of_name) && !label.starts_with('-') && !label.ends_with('-');
        is_good.then_some(())?;
        bytes.push(u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    Some(bytes)
}

/// Number, name and form.
const KNOWN: &[(u8, &str, Form)] = &[
    (2, "time-offset", Form::Number(4, -43_200..=50_400)),
    (3, "router", Form::Addresses),
    (4, "time-server", Form::Addresses),
    (6, "dns-server", Form::Addresses),
    (7, "log-server", Form::Addresses),
    (9, "lpr-server", Form::Addresses),
    (12, "host-name", Form::Domain),
    (13, "boot-file-size", Form::Number(2, 1..=65_535)),
    (15, "domain-name", Form::Domain),
    (17, "root-path", Form::Text),
    (19, "ip-forwarding", Form::Switch),
    (23, "default-ttl", Form::Number(1, 1..=255)),
    (26, "mtu", Form::Number(2, 68..=65_535)),
    (28, "broadcast", Form::Broadcast),
    (40, "nis-domain", Form::Text),
    (41, "nis-server", Form::Addresses),
    (42, "ntp-server", Form::Addresses),
    (44, "netbios-server", Form::Addresses),
    (69, "smtp-server", Form::Addresses),
    (70, "pop3-server", Form::Addresses),
    (72, "www-server", Form::Addresses),
    (100, "posix-timezone", Form::Text),
    (101, "tzdb-timezone", Form::Text),
    (108, "ipv6-only", Form::Number(4, 0..=4_294_967_295)),
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
        assert_eq!(of("time-offset", OptionValue::Number(-3600)), Ok((2, vec![255, 255, 241, 240])));
        assert_eq!(of("broadcast", text("255.255.255.255")), Ok((28, vec![255; 4])));
        assert_eq!(of("domain-name", text("lab.example")), Ok((15, b"lab.example".to_vec())));
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
            ("mtu", OptionValue::Number(70_000), "option mtu: 70000 is out of range: use 68 to 65535"),
            ("mtu", OptionValue::Number(20), "option mtu: 20 is out of range: use 68 to 65535"),
            ("default-ttl", OptionValue::Number(0), "option default-ttl: 0 is out of range: use 1 to 255"),
            ("boot-file-size", OptionValue::Number(0), "option boot-file-size: 0 is out of range: use 1 to 65535"),
            (
                "time-offset",
                OptionValue::Number(90_000),
                "option time-offset: 90000 is out of range: use -43200 to 50400",
            ),
            ("router", text("0.0.0.0"), "option router: 0.0.0.0 is an address that means \"this network\": use"),
            ("dns-server", text("192.0.2.1, 127.0.0.1"), "option dns-server: 127.0.0.1 is an address of the machine"),
            ("ntp-server", text("224.0.1.1"), "option ntp-server: 224.0.1.1 is an address of a group"),
            ("log-server", text("255.255.255.255"), "option log-server: 255.255.255.255 is no address of a host"),
            ("broadcast", text("192.0.2.255, 192.0.2.1"), "option broadcast: expected one IPv4 address"),
            ("domain-name", text("lab..example"), "option domain-name: \"lab..example\" is not a domain name"),
            ("domain-name", text("läb.example"), "option domain-name: \"läb.example\" is not a domain name"),
            ("host-name", text("-a"), "option host-name: \"-a\" is not a domain name"),
            ("root-path", text("/läb"), "option root-path: \"/läb\" has characters that are not ASCII"),
            ("mtu", text("1400"), "option mtu: expected a number without quotation marks"),
            ("router", text("boot.lab"), "option router: \"boot.lab\" is not an IPv4 address"),
            ("domain-search", text("a..b"), "option domain-search: a..b is not a list of domain names"),
            ("224", OptionValue::Number(1), "option 224: expected a text, addresses, or bytes such as \"hex:01ff\""),
            ("224", text("hex:0g"), "option 224: \"hex:0g\" is not hexadecimal"),
            ("17", text(""), "option 17 is empty"),
            ("17", text(&"x".repeat(256)), "option 17 has 256 bytes: use 255 at most"),
        ] {
            let found = of(name, value.clone()).expect_err("a fault");
            assert!(found.starts_with(fault), "{name} {value:?}: {found}");
        }
        // The page has them all.
        let page = include_str!("../../packaging/docs/leases.md");
        assert!(KNOWN.iter().all(|(code, name, _)| page.contains(&format!("`{name}` ({code})"))));
    }
}
