//! El Torito: the boot images for firmware ("El Torito" Bootable CD-ROM Format Specification 1.0, and UEFI 13.3.2.1 for
//! platform 0xEF).

use super::source::{Reader, array, byte, le16, le32};

/// A boot image for firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootEntry {
    /// The firmware that it is for.
    pub platform: Platform,
    /// Whether it is a floppy or hard disk image, which the BIOS shows as a drive.
    pub is_emulated: bool,
    /// Its start in bytes.
    pub offset: u64,
    /// Its size in bytes, as the catalogue says; for EFI the real size is often larger.
    pub size: u64,
}

/// The firmware of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// PC BIOS.
    Bios,
    /// UEFI.
    Efi,
    /// PowerPC, an old Mac, or a platform that is newer than the specification.
    Other(u8),
}

impl Platform {
    fn of(id: u8) -> Self {
        match id {
            0 => Self::Bios,
            0xef => Self::Efi,
            other => Self::Other(other),
        }
    }
}

/// The entries of the catalogue at a block of 2048 bytes. A damaged catalogue has none: nothing here depends on it.
pub(super) fn entries(reader: &Reader<'_>, block: u32) -> Vec<BootEntry> {
    let at = u64::from(block) * 2048;
    let size = reader.length().saturating_sub(at).min(CATALOGUE);
    let Ok(catalogue) = reader.bytes("the boot catalogue", at, size) else { return Vec::new() };
    let mut records = catalogue.as_chunks::<32>().0.iter();
    // The validation entry. The sum of its words is zero.
    let valid = |record: &&[u8; 32]| {
        let sum = record.as_chunks::<2>().0.iter().fold(0_u16, |sum, word| sum.wrapping_add(u16::from_le_bytes(*word)));
        byte(*record, 0) == 1 && sum == 0 && array(*record, 30) == Some([0x55, 0xaa])
    };
    let Some(validation) = records.next().filter(valid) else { return Vec::new() };
    let mut platform = Platform::of(byte(validation, 1));
    let mut found = Vec::new();
    for record in records {
        match byte(record, 0) {
            0x88 => found.extend(entry(record, platform)),
            0x90 | 0x91 => platform = Platform::of(byte(record, 1)),
            // Not bootable, or an extension of the entry before.
            0x00 if record.iter().any(|b| *b != 0) => {}
            0x44 => {}
            _ => break,
        }
    }
    found
}

fn entry(record: &[u8], platform: Platform) -> Option<BootEntry> {
    let offset = u64::from(le32(record, 8)) * 2048;
    let size = u64::from(le16(record, 6)) * 512;
    (offset > 0).then_some(BootEntry { platform, is_emulated: byte(record, 1) & 0xf != 0, offset, size })
}

/// In bytes: 64 entries. Real media have at most three.
const CATALOGUE: u64 = 2048;
