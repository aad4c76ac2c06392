//! What kind of file a transfer carries, and by which protocol.

/// What carries a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// TFTP.
    Tftp,
    /// HTTP.
    Http,
}

impl Over {
    /// Its name for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Tftp => "tftp",
            Self::Http => "http",
        }
    }
}

/// What kind of file a transfer carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// An iPXE binary.
    Loader,
    /// Anything else that is served.
    Asset,
}
