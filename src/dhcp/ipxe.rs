//! Detects iPXE by its user class (option 77) and its features (option 175).

use super::sub_options::encapsulated;
use crate::boot::client::Speaks;

/// The iPXE that sent these options; `None` for firmware.
///
/// The user class of iPXE is `iPXE`. Some builds send another one or none: FlexBoot of Mellanox, xNBA of xCAT. All of
/// them send their features, and a build with HTTP can run netbootd's script. gPXE, the predecessor of iPXE, sends
/// features too, but does not know `#!ipxe`. So it counts as firmware.
#[must_use]
pub fn speaks(user_class: &[u8], features: &[u8]) -> Option<Speaks> {
    let is_named = |name: &[u8]| !user_class.is_empty() && classes(user_class).any(|class| class == name);
    if is_named(b"gPXE") {
        return None;
    }
    let http = has_feature(features, FEATURE_HTTP);
    (http || is_named(b"iPXE")).then_some(Speaks::Ipxe { http })
}

/// The user classes of option 77: a list with a length byte before each (RFC 3004 §4), or plain text as iPXE sends it
/// (net/udp/dhcp.c). Zeros at the end are ignored.
fn classes(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    let is_list = lists(data);
    std::iter::from_fn(move || {
        if !is_list {
            return Some(std::mem::take(&mut rest)).filter(|class| !class.is_empty());
        }
        let [length, behind @ ..] = rest else { return None };
        let (class, behind) = behind.split_at_checked(usize::from(*length))?;
        rest = behind;
        Some(class)
    })
    .map(without_nuls)
}

/// Whether the length bytes lead exactly to the end. An item of length 0 is padding.
fn lists(mut data: &[u8]) -> bool {
    while let [length, behind @ ..] = data {
        match behind.get(usize::from(*length)..) {
            Some(rest) => data = rest,
            None => return false,
        }
    }
    true
}

fn without_nuls(class: &[u8]) -> &[u8] {
    let end = class.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    class.get(..end).unwrap_or_default()
}

/// Whether option 175 contains this tag with a value other than zero.
fn has_feature(features: &[u8], tag: u8) -> bool {
    encapsulated(features).any(|(code, value)| code == tag && value.iter().any(|byte| *byte != 0))
}

/// iPXE feature tag "HTTP protocol" (include/ipxe/features.h, `DHCP_EB_FEATURE_HTTP`).
const FEATURE_HTTP: u8 = 0x13;
/// The features of an iPXE with HTTP, as far as netbootd reads them.
pub const HTTP: &[u8] = &[FEATURE_HTTP, 1, 1];

#[cfg(test)]
mod tests {
    use super::*;

    const TFTP: &[u8] = b"\x15\x01\x01";

    #[test]
    fn an_ipxe_is_detected_by_its_features_with_any_user_class() {
        let strong = Some(Speaks::Ipxe { http: true });
        let flexboot = b"\xb1\x05\x01\x15\xb3\x10\x13\x13\x01\x01\x24\x01\x01";
        for class in [&b""[..], b"xNBA", b"iPXE", b"\x04xNBA", b"\x07lab-one\x03two", b"Etherboot", b"\0", b"\x04"] {
            assert_eq!(speaks(class, flexboot), strong, "{class:?}");
        }
        // Padding and the end mark of vendor options.
        assert_eq!(speaks(b"", b"\0\0\x15\x01\x01\0\x13\x01\x01\xff"), strong);
        assert_eq!(speaks(b"", b"\x15\x01\x01\xff\x13\x01\x01"), None, "behind the end");
        // An iPXE without HTTP counts as a ROM: it has to load netbootd's iPXE first.
        for features in [&b""[..], TFTP, b"\x13\x01\x00", b"\x13\x00", b"\x13\x09\x01", b"\x13"] {
            assert_eq!(speaks(b"", features), None, "{features:?}");
            assert_eq!(speaks(b"xNBA", features), None, "{features:?}");
            assert_eq!(speaks(b"iPXE", features), Some(Speaks::Ipxe { http: false }), "{features:?}");
        }
    }

    #[test]
    fn user_classes_are_bare_or_a_list_with_or_without_zeros_behind_them() {
        let weak = Some(Speaks::Ipxe { http: false });
        for class in [
            &b"iPXE"[..],
            b"iPXE\0",
            b"iPXE\0\0\0\0",
            b"\x04iPXE",
            b"\x04iPXE\0",
            b"\x05iPXE\0",
            b"\x08site-lab\x04iPXE",
            b"\x04iPXE\x08site-lab\0\0",
            b"\0\x04iPXE",
        ] {
            assert_eq!(speaks(class, TFTP), weak, "{class:?}");
        }
        for class in [&b"iPXE2"[..], b"ipxe", b"\x03iPXE", b"\x05iPXE", b"\x08iPXE-lab", b"\0", b"\0\0", b""] {
            assert_eq!(speaks(class, TFTP), None, "{class:?}");
        }
    }

    #[test]
    fn gpxe_is_firmware_though_it_has_http() {
        for class in [&b"gPXE"[..], b"gPXE\0", b"\x04gPXE", b"\x05gPXE\0", b"\x04iPXE\x04gPXE"] {
            assert_eq!(speaks(class, HTTP), None, "{class:?}");
        }
    }
}
