//! What a script does.

use std::time::Duration;

use super::{mac::MacAddr, machine::By, reason::Reason};

/// What a script does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Come back and say who you are.
    Bootstrap,
    /// The same for a GRUB, which has just started.
    Grub,
    /// Something that a machine was chosen for.
    Chosen {
        /// The machine's card.
        mac: MacAddr,
        /// The profile's name.
        profile: String,
        /// Who chose it.
        by: By,
        /// Whether it is a one-time profile.
        once: bool,
        /// Once in this sense: it is served until the machine reports that it is installed.
        until_installed: bool,
        /// What it boots reports within this time of its hand-over.
        report_within: Option<Duration>,
        /// What that comes to.
        way: Way,
    },
    /// Say why not, and offer a way on.
    Refused(Option<MacAddr>, Reason),
}

impl Outcome {
    /// Whether a machine begins a one-time profile with it.
    #[must_use]
    pub fn is_once(&self) -> bool {
        matches!(self, Self::Chosen { once: true, .. })
    }
}

/// Where a chosen profile leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// To a boot. These files, paths below the assets folder, are fetched before it; the first is the kernel, or what
    /// stands for it. Of a script of the user's own nothing is known.
    Boot(Vec<String>),
    /// To a boot of files on another server, at least of some: nobody here sees when the machine has them all.
    Elsewhere,
    /// To a CD or disk image, a path below the assets folder, that is read over the network while it runs.
    Disk(String),
    /// To the menu of profiles.
    Menu,
    /// To the local disk.
    Local,
    /// To iPXE's shell.
    Shell,
}
