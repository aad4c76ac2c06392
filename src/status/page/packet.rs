//! A DHCP request as it came, for people who compare it with their firmware's papers.

use std::{fmt::Write as _, net::Ipv4Addr};

use serde::Serialize;

use super::time::Time;
use crate::timeline::machines::Packet;

/// See the module.
#[derive(Clone, Debug, Serialize)]
pub(super) struct PacketShown {
    at: Time,
    port: u16,
    length: usize,
    /// Name and value.
    fields: Vec<(String, String)>,
    hex: String,
}

impl PacketShown {
    pub(super) fn new(Packet { at, port, bytes }: &Packet) -> Self {
        Self { at: Time::new(*at), port: *port, length: bytes.len(), fields: fields(bytes), hex: hex(bytes) }
    }
}

/// Those of RFC 2131 §2, then the options of RFC 2132 §2 as far as they are whole. What is wrong with a packet may be
/// what keeps its machine from booting: nothing is taken for granted here.
fn fields(bytes: &[u8]) -> Vec<(String, String)> {
    let part = |from: usize, length: usize| bytes.get(from..from + length);
    let address = |from| part(from, 4).map(ipv4);
    let named = [
        ("transaction", part(4, 4).map(compact)),
        ("secs", part(8, 2).map(number)),
        ("flags", part(10, 2).map(compact)),
        ("ciaddr", address(12)),
        ("giaddr", address(24)),
        ("chaddr", part(28, 6).map(compact)),
    ];
    let named = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let mut fields: Vec<_> = named.collect();
    let mut rest = match part(236, 4) {
        Some([99, 130, 83, 99]) => bytes.get(240..).unwrap_or_default(),
        _ => &[],
    };
    loop {
        rest = match rest {
            [0, rest @ ..] => rest,
            [code, length, rest @ ..] if *code != 255 => {
                let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
                fields.push(option(*code, value));
                rest
            }
            _ => break,
        };
    }
    fields
}

fn option(code: u8, value: &[u8]) -> (String, String) {
    let is_text = !value.is_empty() && value.iter().all(|byte| matches!(byte, 0x20..0x7f));
    let (name, shown) = match (code, value) {
        (12, _) => ("host name", None),
        (50, [_, _, _, _]) => ("requested address", Some(ipv4(value))),
        (53, [kind]) => ("message", Some(message(*kind))),
        (54, [_, _, _, _]) => ("server", Some(ipv4(value))),
        (55, _) => ("asks for", Some(list(value, 1))),
        (57, [_, _]) => ("largest message", Some(number(value))),
        (60, _) => ("vendor class", None),
        (61, _) => ("client identifier", Some(compact(value))),
        (77, _) => ("user class", None),
        (93, _) => ("architecture", Some(list(value, 2))),
        (94, [_, major, minor]) => ("UNDI", Some(format!("{major}.{minor}"))),
        (97, _) => ("client UUID", Some(compact(value))),
        (175, _) => ("iPXE", Some(compact(value))),
        _ => ("", None),
    };
    let shown = shown.unwrap_or_else(|| match is_text {
        true => String::from_utf8_lossy(value).into_owned(),
        false => compact(value),
    });
    (format!("{code} {name}").trim_end().to_owned(), shown)
}

/// RFC 2132 §9.6.
fn message(kind: u8) -> String {
    let names = ["DISCOVER", "OFFER", "REQUEST", "DECLINE", "ACK", "NAK", "RELEASE", "INFORM"];
    let name = usize::from(kind).checked_sub(1).and_then(|kind| names.get(kind));
    name.map_or_else(|| kind.to_string(), |name| (*name).to_owned())
}

fn list(value: &[u8], width: usize) -> String {
    value.chunks(width).map(number).collect::<Vec<_>>().join(" ")
}

fn number(value: &[u8]) -> String {
    value.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)).to_string()
}

fn ipv4(value: &[u8]) -> String {
    <[u8; 4]>::try_from(value).map_or_else(|_| compact(value), |octets| Ipv4Addr::from(octets).to_string())
}

fn compact(value: &[u8]) -> String {
    value.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Sixteen bytes a line, as `hexdump -C` has them.
fn hex(bytes: &[u8]) -> String {
    let mut dump = String::new();
    for (i, line) in bytes.chunks(16).enumerate() {
        let _ = write!(dump, "{:04x} ", i * 16);
        for (i, byte) in line.iter().enumerate() {
            let _ = write!(dump, "{}{byte:02x}", if i == 8 { "  " } else { " " });
        }
        let gap = 3 * (16 - line.len()) + usize::from(line.len() <= 8) + 2;
        let text = line.iter().map(|byte| if matches!(byte, 0x20..0x7f) { char::from(*byte) } else { '.' });
        let _ = writeln!(dump, "{:gap$}{}", "", text.collect::<String>());
    }
    dump
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_field_by_field_as_far_as_it_is_whole() {
        let mut packet = vec![0; 236];
        packet[4..8].copy_from_slice(&[0xde, 0xad, 0xbe, 0xef]);
        packet[9] = 4;
        packet[28..34].copy_from_slice(&[0x52, 0x54, 0, 1, 2, 3]);
        packet.extend([99, 130, 83, 99, 53, 1, 1, 0, 93, 2, 0, 7, 60, 3]);
        packet.extend(*b"<i>");
        packet.extend([55, 2, 1, 66, 50, 4, 192, 0, 2, 7, 97, 9, 1]);
        let told: Vec<String> = fields(&packet).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let expected = [
            "transaction: deadbeef",
            "secs: 4",
            "flags: 0000",
            "ciaddr: 0.0.0.0",
            "giaddr: 0.0.0.0",
            "chaddr: 525400010203",
            "53 message: DISCOVER",
            "93 architecture: 7",
            "60 vendor class: <i>",
            "55 asks for: 1 66",
            "50 requested address: 192.0.2.7",
        ];
        assert_eq!(told, expected);
        for cut in 0..packet.len() {
            fields(&packet[..cut]);
        }
    }

    #[test]
    fn bytes_are_dumped_in_columns() {
        let dump = hex(b"netbootd 0123456\x00\xffz");
        let expected = "0000  6e 65 74 62 6f 6f 74 64  20 30 31 32 33 34 35 36  netbootd 0123456\n\
                        0010  00 ff 7a                                          ..z\n";
        assert_eq!(dump, expected);
    }
}
