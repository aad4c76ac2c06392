//! ARP packets that find out whether an address is in use (RFC 826, RFC 5227). No socket.

use std::net::Ipv4Addr;

use super::frame::{BROADCAST, LinkAddress};

/// The frame that asks who has this address. The sender's address is zero, so that nobody's table changes (RFC 5227
/// §2.1.1).
#[must_use]
pub fn probe(from: LinkAddress, address: Ipv4Addr) -> [u8; 42] {
    let mut frame = [0; 42];
    // Ethernet and IPv4, and the lengths of their addresses, and a request.
    let fields: [(usize, &[u8]); 6] = [
        (0, &BROADCAST),
        (6, &from),
        (12, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]),
        (22, &from),
        (28, &[0; 4]),
        (38, &address.octets()),
    ];
    for (at, bytes) in fields {
        frame.iter_mut().skip(at).zip(bytes).for_each(|(to, byte)| *to = *byte);
    }
    frame
}

/// Who sent a frame: the address that it uses, and its card. None for a probe, which has no address yet.
#[must_use]
pub fn sender(frame: &[u8]) -> Option<(Ipv4Addr, LinkAddress)> {
    let (card, address, _) = fields(frame)?;
    (!address.is_unspecified()).then_some((address, card))
}

/// Who sent a probe: the address that it is about to use, and its card (RFC 5227 §2.1.1).
#[must_use]
pub fn prober(frame: &[u8]) -> Option<(Ipv4Addr, LinkAddress)> {
    let (card, address, wanted) = fields(frame)?;
    address.is_unspecified().then_some((wanted, card))
}

/// The card and the address of the sender, and the address that it asks or tells about.
fn fields(frame: &[u8]) -> Option<(LinkAddress, Ipv4Addr, Ipv4Addr)> {
    let packet = frame.get(12..)?.strip_prefix(&[0x08, 0x06, 0, 1, 0x08, 0, 6, 4])?;
    let address = |at| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?));
    Some((*packet.get(2..)?.first_chunk()?, address(8)?, address(18)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_these_bytes_and_an_answer_names_its_sender() {
        let (us, they) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
        let expected = [
            b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\x06\0\x01\x08\0\x06\x04\0\x01".as_slice(),
            b"\x02\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\xc0\0\x02\x64",
        ]
        .concat();
        let address = Ipv4Addr::new(192, 0, 2, 100);
        let probe = probe(us, address);
        assert_eq!(probe.as_slice(), expected);
        assert_eq!((sender(&probe), prober(&probe)), (None, Some((address, us))));
        let mut answer = probe;
        answer[21] = 2;
        answer[22..28].copy_from_slice(&they);
        answer[28..32].copy_from_slice(&address.octets());
        assert_eq!((sender(&answer), prober(&answer)), (Some((address, they)), None));
        answer[13] = 0;
        assert_eq!(sender(&answer), None);
        assert_eq!(sender(&probe[..30]), None);
    }
}
