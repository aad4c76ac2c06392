//! Where the bytes of a file are in its image.

/// A run of a file's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the image, in bytes; none: zeros, which the image does not hold.
    pub offset: Option<u64>,
    /// Bytes.
    pub length: u64,
}

impl Extent {
    pub(super) fn data(offset: u64, length: u64) -> Self {
        Self { offset: Some(offset), length }
    }

    pub(super) fn zeros(length: u64) -> Self {
        Self { offset: None, length }
    }

    /// Whether another one is the same run continued.
    pub(super) fn is_followed_by(&self, next: &Self) -> bool {
        match (self.offset, next.offset) {
            (Some(offset), Some(next)) => offset.checked_add(self.length) == Some(next),
            (None, None) => true,
            _ => false,
        }
    }
}
