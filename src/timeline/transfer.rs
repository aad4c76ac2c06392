//! What the stages see of a transfer, while it runs and when it has ended.

use std::time::Duration;

use super::peer::Silence;
use crate::boot::over::{Of, Over};

/// A transfer that lacks nothing but acknowledgements: iPXE on UEFI now and then starts its kernel without the last ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    /// The file.
    pub name: String,
    /// Bytes that were sent and not acknowledged.
    pub unacknowledged: u64,
    /// Since the last acknowledgement.
    pub since: Duration,
}

/// A transfer on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What kind of file.
    pub of: Of,
    /// Its name: a loader's, or a path below the assets folder.
    pub name: String,
    /// Bytes that the client has acknowledged.
    pub acked: u64,
    /// Bytes to send.
    pub size: u64,
    /// Since the request.
    pub took: Duration,
    /// Bytes per second, since the report before.
    pub rate: u64,
    /// Bytes that were acknowledged since the report before: these and the last ones of [`Transfer`] are all of them.
    pub fresh: u64,
    /// By which protocol.
    pub over: Over,
}

/// A transfer whose client takes nothing for a while, and lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pace {
    /// What kind of file.
    pub of: Of,
    /// Its name.
    pub name: String,
    /// Bytes that the client has acknowledged.
    pub acked: u64,
    /// Bytes in all.
    pub size: u64,
    /// What it is at.
    pub at: At,
}

/// What a transfer is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// It pauses.
    Paused(Pause),
    /// It goes on.
    GoesOn {
        /// How long it had paused.
        paused: Duration,
    },
}

/// A pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// So far.
    pub lasted: Duration,
    /// The client asked for it, by closing its window.
    pub window_closed: bool,
}

/// A file's transfer, when it has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// What kind of file.
    pub of: Of,
    /// Its name: a loader's, or a path below the assets folder.
    pub name: String,
    /// Bytes that the client has acknowledged.
    pub sent: u64,
    /// Bytes that were to be sent.
    pub size: u64,
    /// From the request to the last acknowledgement.
    pub took: Duration,
    /// Why it stopped short; `None` where it did not.
    pub failure: Option<Failure>,
    /// Bytes of those that were acknowledged since the report before.
    pub fresh: u64,
    /// By which protocol.
    pub over: Over,
}

/// Which part of a file a transfer carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// In bytes, from the beginning of the file.
    pub start: u64,
    /// Bytes of the whole file.
    pub whole: u64,
    /// Nobody boots by it: a browser, or a program that is no boot client.
    pub is_look: bool,
}

/// Why a transfer stopped short.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// TCP: the client said goodbye, or reset the connection.
    #[error("the client closed the connection")]
    Closed,
    /// TCP: nothing is heard of it any more.
    #[error("{silence}{}", if *.may_have_started { "; it may have started what it loaded" } else { "" })]
    Dead {
        /// The evidence.
        silence: Silence,
        /// All that it asked for was in the kernel's hands.
        may_have_started: bool,
    },
    /// TFTP: it acknowledges no more, or never did; the words say which.
    #[error("{0}")]
    Silent(String),
    /// TFTP: the client sent ERROR.
    #[error("the client aborted the transfer (TFTP error {0} {1:?})")]
    Ended(u16, String),
    /// TFTP: the client asked again from the same port.
    #[error("the client started again")]
    Anew,
    /// The file was changed while it was sent.
    #[error("{0}")]
    Changed(String),
    /// It is no fault of the client's: a file that cannot be read, a server that stops.
    #[error("{0}")]
    Ours(String),
}

impl Failure {
    /// A short fixed name for logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed_by_client",
            Self::Dead { .. } => "dead",
            Self::Silent(_) => "silent",
            // RFC 1350 §5: "Disk full or allocation exceeded". Firmware has no disk.
            Self::Ended(3, _) => "no_memory",
            Self::Ended(..) => "ended_by_client",
            Self::Anew => "began_anew",
            Self::Changed(_) => "changed",
            Self::Ours(_) => "server",
        }
    }

    /// The words for a file that is another one than at the beginning of its transfer.
    pub const CHANGED: &str = "the file changed during the transfer; write the new version beside it, then rename it";
    /// The words for a file that ends too early.
    pub const CUT_SHORT: &str = "the file became shorter during the transfer";

    /// A failure of this server, or of the file that it sends.
    #[must_use]
    pub fn ours(words: String) -> Self {
        if [Self::CHANGED, Self::CUT_SHORT].contains(&words.as_str()) {
            Self::Changed(words)
        } else {
            Self::Ours(words)
        }
    }
}

/// A number of bytes in decimal units, as network and disk makers count.
#[must_use]
pub fn bytes(count: u64) -> String {
    let count_f = count as f64;
    match count {
        0..10_000 => format!("{count} B"),
        10_000..1_000_000 => format!("{:.1} kB", count_f / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count_f / 1e6),
        _ => format!("{:.2} GB", count_f / 1e9),
    }
}
