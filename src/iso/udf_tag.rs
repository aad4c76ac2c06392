//! UDF: tagged descriptors, addresses and text (ECMA-167, OSTA UDF).

use super::source::{byte, le16, le32};

/// The address of a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// Index of the partition map.
    pub(super) partition: u16,
    /// The block within the partition.
    pub(super) number: u32,
}

/// The position of a file's control block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Icb {
    pub(super) block: Block,
}

impl Icb {
    /// From a long allocation descriptor (ECMA-167 4/14.14.2).
    pub(super) fn long(bytes: &[u8], at: usize) -> Self {
        Self { block: Block { number: le32(bytes, at + 4), partition: le16(bytes, at + 8) } }
    }
}

/// A descriptor with a valid tag (ECMA-167 3/7.2).
pub(super) struct Tagged {
    pub(super) tag: u16,
    pub(super) bytes: Vec<u8>,
    /// Its start in the image, in bytes.
    pub(super) offset: u64,
}

impl Tagged {
    pub(super) fn new(bytes: Vec<u8>, offset: u64) -> Option<Self> {
        let tag = tag(&bytes)?;
        Some(Self { tag, bytes, offset })
    }
}

/// The tag's identifier, if both of its checksums are correct.
pub(super) fn tag(bytes: &[u8]) -> Option<u16> {
    let head = bytes.get(..16)?;
    let sum = head.iter().enumerate().filter(|(at, _)| *at != 4).fold(0_u8, |sum, (_, b)| sum.wrapping_add(*b));
    let covered = bytes.get(16..16 + usize::from(le16(head, 10)))?;
    let tag = le16(head, 0);
    (sum == byte(head, 4) && crc(covered) == le16(head, 8) && tag != 0).then_some(tag)
}

/// CRC-16 with polynomial 0x1021, starting with zero (ECMA-167 3/7.2.6).
pub(super) fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, b| {
        (0..8).fold(crc ^ u16::from(*b) << 8, |crc: u16, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    })
}

/// OSTA compressed Unicode (UDF 2.1.1): 8 or 16 bits per character, depending on the first byte.
pub(super) fn text(bytes: &[u8]) -> String {
    match bytes.split_first() {
        Some((8 | 254, rest)) => rest.iter().map(|b| char::from(*b)).collect(),
        Some((16 | 255, rest)) => {
            let units = rest.as_chunks::<2>().0.iter().map(|unit| u16::from_be_bytes(*unit));
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        _ => String::new(),
    }
}
