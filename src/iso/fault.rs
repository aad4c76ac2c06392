//! What can be wrong with an image, in words for people.

use thiserror::Error;

/// Why an image, or something in it, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Not a CD or DVD image at all.
    #[error("it is no CD or DVD image: {0}")]
    NoImage(&'static str),
    /// The image ends before what is to be read.
    #[error("{what} lies outside the file: bytes {offset} to {} of {length}; the image is cut short or damaged", offset.saturating_add(*size))]
    Outside {
        /// What was to be read.
        what: String,
        /// Where it begins, in bytes.
        offset: u64,
        /// Its size in bytes.
        size: u64,
        /// The image's size in bytes.
        length: u64,
    },
    /// A structure that makes no sense.
    #[error("{what} is damaged: {why}")]
    Damaged {
        /// What it is.
        what: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A folder that is reached twice.
    #[error("a folder is reached twice: the folders of this image go round in a circle")]
    Circle,
    /// More than is read.
    #[error("{what} is more than the {limit} that are read")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Something that is right and that is not read here.
    #[error("{0}")]
    NotRead(&'static str),
    /// There is nothing of this name.
    #[error("the image holds no {0}")]
    NotFound(String),
    /// A chain of symbolic links has no end.
    #[error("{0} is a symbolic link that leads nowhere: more than 40 links in a row")]
    Links(String),
    /// The operating system refused a read.
    #[error("the image cannot be read at byte {offset}: {error}")]
    Read {
        /// Where, in bytes.
        offset: u64,
        /// The system's words.
        error: String,
    },
}

impl Fault {
    pub(super) fn damaged(what: impl Into<String>, why: &'static str) -> Self {
        Self::Damaged { what: what.into(), why }
    }
}
