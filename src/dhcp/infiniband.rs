//! InfiniBand cards. Their hardware address does not fit into a DHCP header, so their GUID identifies them.

use crate::boot::mac::MacAddr;

/// The GUID of a card: the last eight bytes of its client identifier (option 61).
///
/// A ROM sends 255 (RFC 4361), twelve bytes of its vendor and its GUID. Older ROMs send 32 and their whole link
/// address, which also ends with the GUID.
#[must_use]
pub fn guid(client_id: &[u8]) -> Option<[u8; 8]> {
    match client_id {
        [0xff | 0x20, rest @ ..] => rest.last_chunk().copied(),
        _ => None,
    }
}

/// The Ethernet address that iPXE makes of a GUID (drivers/net/ipoib.c, `ipoib_init_addr`): all of it except the two
/// middle bytes.
#[must_use]
pub fn mac([a, b, c, _, _, d, e, f]: [u8; 8]) -> MacAddr {
    MacAddr([a, b, c, d, e, f])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_known_by_the_address_that_ipxe_makes_of_its_guid() {
        let flexboot = b"\xff\0\0\0\0\0\x02\0\0\x02\xc9\0\0\x02\xc9\x03\0\xa1\xb2\xc3";
        let gpxe = b"\x20\0\x55\x04\x01\xfe\x80\0\0\0\0\0\0\0\x02\xc9\x03\0\xa1\xb2\xc3";
        let duid_ll = b"\xff\0\0\0\x01\0\x03\0\x20\0\x02\xc9\x03\0\xa1\xb2\xc3";
        for client_id in [&flexboot[..], gpxe, duid_ll] {
            let mac = guid(client_id).map(mac).map(|mac| mac.to_string());
            assert_eq!(mac.as_deref(), Some("00:02:c9:a1:b2:c3"), "{client_id:?}");
        }
        for client_id in [&b""[..], b"\xff", b"\xff\x02\xc9\x03\0\xa1\xb2\xc3", b"\x01\0\x02\xc9\x03\0\xa1\xb2\xc3"] {
            assert_eq!(guid(client_id), None, "{client_id:?}");
        }
    }
}
