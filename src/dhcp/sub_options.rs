//! Options as code, length and value: those of a message, and those inside option 43 (PXE), 82 (relay) and 175 (iPXE).

/// The options of a message, or vendor options: 0 is padding and 255 the end (RFC 2132 §2 and §8.4). An incomplete
/// option ends them.
pub fn encapsulated(data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || {
        while let [0, behind @ ..] = rest {
            rest = behind;
        }
        if rest.first() == Some(&255) {
            return None;
        }
        take(&mut rest)
    })
}

/// The sub-options of option 82. Here 0 and 255 are normal codes (RFC 3046 §2.0).
pub fn of_relay(data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = data;
    std::iter::from_fn(move || take(&mut rest))
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let [code, length, behind @ ..] = *rest else { return None };
    let (value, behind) = behind.split_at_checked(usize::from(*length))?;
    *rest = behind;
    Some((*code, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_options_have_padding_and_an_end_but_relay_options_have_not() {
        let all = |data| encapsulated(data).collect::<Vec<_>>();
        assert_eq!(all(b"\0\x13\x01\x01\0\0\x24\x00\xff\x15\x01\x01"), [(0x13, &[1][..]), (0x24, &[])]);
        assert_eq!(all(b"\x13\x02\x01"), [], "incomplete");
        assert_eq!(all(b"\x13"), []);
        assert_eq!(all(b"\0\0\0"), []);
        let relay: Vec<_> = of_relay(b"\x01\x01a\xff\x01b\0\x01c\x13\0").collect();
        assert_eq!(relay, [(1, &b"a"[..]), (255, b"b"), (0, b"c"), (19, b"")]);
    }
}
