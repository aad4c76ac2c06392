//! The options of a relay in option 82 (RFC 3046).

use std::net::Ipv4Addr;

use super::sub_options::of_relay;

/// Whether the relay listens on the port that it sent from, instead of 67 (sub-option 19, RFC 8357 §4.1).
#[must_use]
pub fn has_own_port(option: &[u8]) -> bool {
    of_relay(option).any(|(code, _)| code == 19)
}

/// The address that clients should use as the server's, so that their renewals go through the relay (sub-option 11, RFC
/// 5107 §4).
#[must_use]
pub fn server_id(option: &[u8]) -> Option<Ipv4Addr> {
    let (_, value) = of_relay(option).find(|(code, _)| *code == 11)?;
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?);
    (!address.is_unspecified()).then_some(address)
}

/// The network of the client, if it is not that of the relay's address (sub-option 5, RFC 3527).
#[must_use]
pub fn link(option: &[u8]) -> Option<Ipv4Addr> {
    let (_, value) = of_relay(option).find(|(code, _)| *code == 5)?;
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?);
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sub_options_are_found_in_any_place_and_whatever_their_lengths() {
        for option in [&b"\x13\0"[..], b"\x01\x04eth7\x13\0", b"\x13\x02\x1f\x90\x01\x01x"] {
            assert!(has_own_port(option), "{option:?}");
        }
        for option in [&b""[..], b"\x01\x04eth7", b"\x01\x02\x13\0", b"\x13", b"\x01\x09\x13\0"] {
            assert!(!has_own_port(option), "{option:?}");
        }
        let relay = Some(Ipv4Addr::new(198, 51, 100, 1));
        assert_eq!(server_id(b"\x0b\x04\xc6\x33\x64\x01"), relay);
        assert_eq!(server_id(b"\x01\x01x\x05\x04\x0a\0\0\0\x0b\x04\xc6\x33\x64\x01\x13\0"), relay);
        for option in [&b""[..], b"\x0b\x03\xc6\x33\x64", b"\x0b\x04\0\0\0\0", b"\x0b\x05\xc6\x33\x64\x01\0"] {
            assert_eq!(server_id(option), None, "{option:?}");
        }
    }
}
