//! How long a kernel or an EFI program has to be, by its own header: a download that was cut off is shorter.

use super::image::{Image, takes_any_file};

/// What is wrong with a file of this size that begins with these bytes, for a sentence that begins with its name. Of
/// `head`, [`super::image::HEAD`] bytes are needed.
///
/// # Errors
/// That it is shorter than its header says.
pub fn check(head: &[u8], size: u64) -> Result<(), String> {
    match shortest(head) {
        Some(whole) if size < whole => Err(format!(
            "is cut off: it has {size} bytes, and its header says at least {whole}: copy or download it again"
        )),
        _ => Ok(()),
    }
}

/// The smallest size in bytes that the header allows; `None` where it does not say.
#[must_use]
pub fn shortest(head: &[u8]) -> Option<u64> {
    let linux = (Image::of(head) == Image::X86Kernel).then(|| linux(head)).flatten();
    linux.max(pe(head))
}

/// Documentation/arch/x86/boot.rst, "Details of Header Fields": the setup, and the part in protected mode. wimboot and
/// memdisk only look like Linux.
fn linux(head: &[u8]) -> Option<u64> {
    if takes_any_file(head) || word(head, 0x206)? < 0x0204 {
        return None;
    }
    // For old kernels, 0 means 4.
    let setup = match *head.get(0x1f1)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    // In paragraphs of 16 bytes; iPXE and memtest86+ count one that is not full. No kernel has none.
    let rest = u64::from(long(head, 0x1f4)?);
    (rest > 0).then_some((setup + 1) * 512 + rest * 16 - 15)
}

/// Microsoft PE/COFF specification: headers, the sections with contents in the file, and the signatures.
fn pe(head: &[u8]) -> Option<u64> {
    head.starts_with(b"MZ").then_some(())?;
    let coff = usize::try_from(long(head, 0x3c)?).ok()?;
    let coff = head.get(coff..)?.strip_prefix(b"PE\0\0")?;
    let sections = usize::from(word(coff, 2)?);
    let optional_size = usize::from(word(coff, 16)?);
    let optional = coff.get(20..)?;
    let directories = match word(optional, 0) {
        Some(0x10b) => Some(96),
        Some(0x20b) => Some(112),
        _ => None,
    };
    // The fifth one is the certificate table. Its address is a place in the file.
    let signatures = directories.filter(|at| at + 40 <= optional_size).and_then(|at| {
        let count = long(optional, at - 4)?;
        let (at, size) = (long(optional, at + 32)?, long(optional, at + 36)?);
        (count > 4 && at > 0).then_some(u64::from(at) + u64::from(size))
    });
    // A section without initialised data has no place in the file.
    let table = optional.get(optional_size..)?.chunks_exact(40).take(sections);
    let ends = table.filter_map(|section| {
        let (size, at) = (long(section, 16)?, long(section, 20)?);
        (at > 0 && size > 0).then_some(u64::from(at) + u64::from(size))
    });
    ends.chain(signatures).max()
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::boot::image::HEAD;

    /// The beginning of a kernel with these fields.
    fn kernel(protocol: u16, setup: u8, paragraphs: u32) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[0x1f1] = setup;
        head[0x1f4..0x1f8].copy_from_slice(&paragraphs.to_le_bytes());
        head[0x202..0x206].copy_from_slice(b"HdrS");
        head[0x206..0x208].copy_from_slice(&protocol.to_le_bytes());
        head
    }

    /// The beginning of a 64-bit program with these sections (place, size) and these signatures.
    fn program(sections: &[(u32, u32)], signatures: (u32, u32)) -> Vec<u8> {
        let mut head = vec![0; HEAD];
        head[..2].copy_from_slice(b"MZ");
        head[0x3c] = 0x80;
        head[0x80..0x84].copy_from_slice(b"PE\0\0");
        head[0x84..0x86].copy_from_slice(&0x8664_u16.to_le_bytes());
        head[0x86..0x88].copy_from_slice(&u16::try_from(sections.len()).expect("few").to_le_bytes());
        head[0x94..0x96].copy_from_slice(&240_u16.to_le_bytes());
        let optional = 0x98;
        head[optional..optional + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
        head[optional + 108] = 16;
        head[optional + 144..optional + 148].copy_from_slice(&signatures.0.to_le_bytes());
        head[optional + 148..optional + 152].copy_from_slice(&signatures.1.to_le_bytes());
        for (number, (at, size)) in sections.iter().enumerate() {
            let section = optional + 240 + number * 40;
            head[section + 16..section + 20].copy_from_slice(&size.to_le_bytes());
            head[section + 20..section + 24].copy_from_slice(&at.to_le_bytes());
        }
        head
    }

    #[test]
    fn headers_say_how_long_a_file_has_to_be() {
        // Debian's 6.1.0-13-amd64: 31 sectors of setup, and 0x7dad6 paragraphs.
        assert_eq!(shortest(&kernel(0x020f, 31, 0x7_dad6)), Some(32 * 512 + 0x7d_ad51));
        assert_eq!(shortest(&kernel(0x020f, 0, 1)), Some(5 * 512 + 1));
        // Before 2.04, the upper half of the field is something else.
        assert_eq!(shortest(&kernel(0x0203, 4, 9)), None);
        assert_eq!(shortest(&program(&[(0x200, 0x1000), (0x1200, 0x800)], (0, 0))), Some(0x1a00));
        assert_eq!(shortest(&program(&[(0x200, 0x1000), (0, 0x9000), (0x9000, 0)], (0x1200, 0x600))), Some(0x1800));
        let mut wimboot = kernel(0x020f, 4, 0xffff);
        wimboot[0x20e..0x210].copy_from_slice(&[0, 1]);
        wimboot[0x300..0x307].copy_from_slice(b"wimboot");
        for other in [&wimboot[..], b"", b"MZ", b"\x1f\x8b", b"\x7fELF", &program(&[], (0, 0))] {
            assert_eq!(shortest(other), None);
        }
        let words = check(&kernel(0x020f, 4, 100), 4000).expect_err("it is too short");
        assert_eq!(
            words,
            "is cut off: it has 4000 bytes, and its header says at least 4145: copy or download it again"
        );
    }

    proptest! {
        #[test]
        fn a_kernel_is_cut_off_exactly_where_bytes_are_missing(setup: u8, paragraphs in 1..0x10_0000_u32, missing in 1..4096_u64, more: u16) {
            let head = kernel(0x020f, setup, paragraphs);
            let whole = shortest(&head).expect("a kernel says it");
            prop_assert_eq!(check(&head, whole + u64::from(more)), Ok(()));
            prop_assert!(check(&head, whole.saturating_sub(missing)).is_err());
        }

        #[test]
        fn a_program_is_cut_off_exactly_where_bytes_are_missing(
            sections in prop::collection::vec((1..u32::MAX, 1..u32::MAX), 1..20), at: u32, size: u32, missing in 1..4096_u64
        ) {
            let head = program(&sections, (at, size));
            let whole = shortest(&head).expect("a program says it");
            prop_assert!(sections.iter().all(|(at, size)| u64::from(*at) + u64::from(*size) <= whole));
            prop_assert_eq!(check(&head, whole), Ok(()));
            prop_assert!(check(&head, whole.saturating_sub(missing)).is_err());
        }

        #[test]
        fn any_bytes_are_read(mut bytes in prop::collection::vec(any::<u8>(), 0..2000), place in 0..256_u32, is_program: bool) {
            if is_program && bytes.len() > 0x40 {
                bytes[..2].copy_from_slice(b"MZ");
                bytes[0x3c..0x40].copy_from_slice(&place.to_le_bytes());
                let place = usize::try_from(place).expect("small");
                if let Some(magic) = bytes.get_mut(place.max(0x40)..).and_then(|rest| rest.get_mut(..4)) {
                    magic.copy_from_slice(b"PE\0\0");
                }
            }
            // No size is smaller than what a header asks for, if it asks.
            prop_assert_eq!(check(&bytes, u64::MAX), Ok(()));
            prop_assert_eq!(check(&bytes, 0).is_err(), shortest(&bytes).is_some_and(|whole| whole > 0));
        }
    }
}
