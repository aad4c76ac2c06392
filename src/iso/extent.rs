//! Where the bytes of a file are in its image.

/// A contiguous range of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its start in the image, in bytes; none: zeros that are not stored in the image.
    pub offset: Option<u64>,
    /// Its size in bytes.
    pub length: u64,
}

impl Extent {
    pub(super) fn data(offset: u64, length: u64) -> Self {
        Self { offset: Some(offset), length }
    }

    pub(super) fn zeros(length: u64) -> Self {
        Self { offset: None, length }
    }

    /// Whether another range continues this one.
    pub(super) fn is_followed_by(&self, next: &Self) -> bool {
        match (self.offset, next.offset) {
            (Some(offset), Some(next)) => offset.checked_add(self.length) == Some(next),
            (None, None) => true,
            _ => false,
        }
    }
}
