//! Reads from an image. Each read is checked against its size, and all reads together are limited.

use std::{cell::Cell, io};

use super::fault::Fault;

/// An image, or another source of its bytes.
pub trait ReadAt {
    /// Its size in bytes.
    fn length(&self) -> u64;

    /// Fills the whole buffer from a position in the image.
    ///
    /// # Errors
    /// Those of the read; `UnexpectedEof` if the image ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let bytes = self.get(start..).and_then(|tail| tail.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn length(&self) -> u64 {
        self.as_slice().length()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, buffer)
    }
}

/// The image while its index is made. A hostile image cannot cause more reads than [`BUDGET`].
pub(super) struct Reader<'a> {
    image: &'a dyn ReadAt,
    left: Cell<u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(image: &'a dyn ReadAt) -> Self {
        Self { image, left: Cell::new(BUDGET) }
    }

    /// Bytes.
    pub(super) fn length(&self) -> u64 {
        self.image.length()
    }

    /// Whether a range is inside the image.
    pub(super) fn holds(&self, what: &str, offset: u64, size: u64) -> Result<(), Fault> {
        match offset.checked_add(size) {
            Some(end) if end <= self.length() => Ok(()),
            _ => Err(Fault::Outside { what: what.into(), offset, size, length: self.length() }),
        }
    }

    /// Reads a range. Memory is allocated only after the range was checked against the image and the budget.
    pub(super) fn bytes(&self, what: &str, offset: u64, size: u64) -> Result<Vec<u8>, Fault> {
        self.holds(what, offset, size)?;
        let too_much = Fault::TooMuch { what: "what describes the folders, in bytes,", limit: BUDGET };
        let cost = size.saturating_add(COST_OF_A_READ);
        self.left.set(self.left.get().checked_sub(cost).ok_or(too_much.clone())?);
        let mut bytes = vec![0; usize::try_from(size).map_err(|_| too_much)?];
        let read = self.image.read_at(offset, &mut bytes);
        read.map_err(|error| Fault::Read { offset, error: error.to_string() })?;
        Ok(bytes)
    }
}

/// The largest number of bytes that are read for an index. 500,000 entries need about a third of it.
const BUDGET: u64 = 256 << 20;
/// The extra cost of each read, so that a million tiny reads are limited too.
const COST_OF_A_READ: u64 = 128;

/// The bytes at a position, if there are enough.
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// 0 if the bytes end before.
pub(super) fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// Little-endian; 0 if the bytes end before.
pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    array(bytes, at).map_or(0, u16::from_le_bytes)
}

/// Little-endian; 0 if the bytes end before.
pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    array(bytes, at).map_or(0, u32::from_le_bytes)
}

/// Little-endian; 0 if the bytes end before.
pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    array(bytes, at).map_or(0, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_outside_the_image_or_over_the_budget_is_an_error_in_words() {
        let image = vec![7_u8; 100];
        let reader = Reader::new(&image);
        assert_eq!(reader.bytes("x", 90, 10), Ok(vec![7; 10]));
        let outside = reader.bytes("the root folder", 90, 11).expect_err("outside").to_string();
        assert_eq!(
            outside,
            "the root folder lies outside the file: bytes 90 to 101 of 100; the image is incomplete or damaged"
        );
        assert!(matches!(reader.bytes("x", u64::MAX, 2), Err(Fault::Outside { .. })));
        reader.left.set(COST_OF_A_READ + 9);
        assert!(matches!(reader.bytes("x", 0, 10), Err(Fault::TooMuch { .. })));
    }
}
