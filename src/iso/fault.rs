//! What can be wrong with an image, in words for people.

use thiserror::Error;

/// Why an image, or a part of it, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// It is not a CD or DVD image.
    #[error("it is not a CD or DVD image: {0}")]
    NoImage(&'static str),
    /// The image ends too early.
    #[error("{what} lies outside the file: bytes {offset} to {} of {length}; the image is incomplete or damaged", offset.saturating_add(*size))]
    Outside {
        /// The part that was read.
        what: String,
        /// Its start in bytes.
        offset: u64,
        /// Its size in bytes.
        size: u64,
        /// The image's size in bytes.
        length: u64,
    },
    /// A structure with invalid contents.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// The structure.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A folder that appears twice.
    #[error("a folder appears twice: the folders of this image form a loop")]
    Circle,
    /// More than is read.
    #[error("{what} is larger than the limit of {limit}")]
    TooMuch {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A valid feature that netbootd does not support.
    #[error("{0}")]
    NotRead(&'static str),
    /// There is no file with this name.
    #[error("the image does not contain {0}")]
    NotFound(String),
    /// A chain of symbolic links without an end.
    #[error("{0} is a symbolic link without an end: more than 40 links in a row")]
    Links(String),
    /// A read failed.
    #[error("cannot read the image at byte {offset}: {error}")]
    Read {
        /// The position in bytes.
        offset: u64,
        /// The error of the operating system.
        error: String,
    },
}

impl Fault {
    pub(super) fn damaged(what: impl Into<String>, why: &'static str) -> Self {
        Self::Damaged { what: what.into(), why }
    }
}
