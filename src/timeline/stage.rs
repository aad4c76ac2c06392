//! The stages of a boot, and the files that a machine's script has it wait for.

use std::mem;

use serde::{Deserialize, Serialize};

use super::handover::{Bytes, Got};
use crate::{boot::over::Of, spelling::plain_path};

/// The stages of a boot, in order.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The machine asked.
    #[default]
    Discover,
    /// It was offered a boot file.
    Offer,
    /// It was offered it again on port 4011.
    BootServer,
    /// It fetched iPXE.
    Loader,
    /// It fetched its script.
    Script,
    /// It fetched the kernel.
    Kernel,
    /// It fetched an initial RAM disk.
    Initrd,
    /// It fetched some other file.
    File,
    /// It has everything that its script names.
    HandedOver,
    /// What it booted fetched an answer file.
    Answer,
    /// What it booted said how far it is.
    Reported,
    /// It was refused.
    Refused,
    /// It sent a line by syslog.
    Syslog,
}

impl Stage {
    /// The stage's name in lines, JSON and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Discover => "discover",
            Self::Offer => "offer",
            Self::BootServer => "boot_server",
            Self::Loader => "loader",
            Self::Script => "script",
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
            Self::File => "file",
            Self::HandedOver => "handed_over",
            Self::Answer => "answer",
            Self::Reported => "reported",
            Self::Refused => "refused",
            Self::Syslog => "syslog",
        }
    }
}

/// Files that a script named and that have not been sent whole. Their names are in the spelling of [`plain_path`]: a profile
/// may say `/debian/vmlinuz`, and a proxy on the way may shorten what it was asked for. A machine fetches them one after the other, and starts
/// the first when it has the last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Awaited {
    files: Vec<(Stage, String)>,
    /// The last one, of which an acknowledgement is missing and nothing else.
    unacknowledged: Option<(Stage, String)>,
    #[serde(default)]
    pub(super) got: Got,
}

impl Awaited {
    /// The kernel, or what stands for it, goes first.
    pub(super) fn new(files: Vec<String>) -> Self {
        let stages = [Stage::Kernel].into_iter().chain(std::iter::repeat(Stage::Initrd));
        let files = files.into_iter().map(|file| plain_path(&file).into_owned());
        Self { files: stages.zip(files).collect(), unacknowledged: None, got: Got::default() }
    }

    /// Whether there is a file, or more of a disk, that counts.
    pub(super) fn waits(&self) -> bool {
        !self.files.is_empty() || self.got != Got::default()
    }

    /// Their names.
    pub(super) fn names(&self) -> Vec<&str> {
        self.files.iter().map(|(_, path)| path.as_str()).collect()
    }

    /// Whether there are some of a stage.
    pub(super) fn has(&self, stage: Stage) -> bool {
        self.files.iter().any(|(of, _)| *of == stage)
    }

    /// The stage that a file belongs to.
    pub(super) fn stage(&self, of: Of, name: &str) -> Stage {
        let name = &*plain_path(name);
        let known = self.files.iter().chain(&self.unacknowledged).find(|(_, path)| path == name);
        match (of, known) {
            (Of::Loader, _) => Stage::Loader,
            (Of::Asset, Some((stage, _))) => *stage,
            (Of::Asset, None) if self.got.is_disk(name) => Stage::Kernel,
            (Of::Asset, None) => Stage::File,
        }
    }

    /// With what counts where no files are named, or not by themselves.
    pub(super) fn with(self, got: Got) -> Self {
        Self { got, ..self }
    }

    /// What the machine has acknowledged of a file; whether it has all that its script names now.
    pub(super) fn got(&mut self, name: &str, bytes: Bytes) -> bool {
        let name = &*plain_path(name);
        if !self.got.covers(name, bytes) {
            return false;
        }
        if self.files.is_empty() && self.got.take_any() {
            return true;
        }
        let before = self.files.len();
        // A profile may name a file twice.
        self.files.retain(|(_, path)| path != name);
        self.files.is_empty() && before > 0
    }

    /// A disk image is not waited for any more: it is there.
    pub(super) fn is_read(&mut self) {
        self.files.clear();
    }

    /// The machine was sent all of a file, and is silent since; whether that leaves nothing that it would wait for. By
    /// TFTP it may go on with its next file then.
    pub(super) fn is_silent_at_the_end_of(&mut self, name: &str) -> bool {
        let name = &*plain_path(name);
        let (lacks_its_end, left): (Vec<_>, Vec<_>) =
            mem::take(&mut self.files).into_iter().partition(|(_, path)| path == name);
        self.files = left;
        let is_awaited = !lacks_its_end.is_empty();
        self.unacknowledged = lacks_its_end.into_iter().next().or(self.unacknowledged.take());
        is_awaited && self.files.is_empty()
    }

    /// Whether the machine has most likely started what it loaded, without the last acknowledgement of this file.
    pub(super) fn is_likely_started(&self, name: &str) -> bool {
        self.unacknowledged.as_ref().is_some_and(|(_, path)| *path == plain_path(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Bytes = Bytes { from: 0, to: 9, whole: 9 };

    #[test]
    fn a_file_is_the_same_in_every_spelling_of_its_path() {
        for (named, fetched) in [
            ("/debian/vmlinuz", "debian/vmlinuz"),
            ("debian//vmlinuz", "debian/vmlinuz"),
            ("debian//vmlinuz", "debian//vmlinuz"),
            ("./debian/vmlinuz", "debian/vmlinuz"),
            ("debian/old/../vmlinuz", "debian/vmlinuz"),
            ("debian/vmlinuz", "debian/./vmlinuz"),
        ] {
            let mut awaited = Awaited::new(vec![named.into(), "initrd.img".into()]);
            assert_eq!(awaited.stage(Of::Asset, fetched), Stage::Kernel, "{named}, {fetched}");
            assert!(!awaited.got("initrd.img", WHOLE) && awaited.got(fetched, WHOLE), "{named}, {fetched}");
        }
        let disk = Got::of_disk("/images//disk.img".into(), super::super::moment::Moment::default());
        assert!(disk.is_disk("images/disk.img") && !disk.is_disk("images/other.img"));
    }

    #[test]
    fn a_file_that_a_profile_names_twice_is_there_when_it_was_fetched() {
        let mut awaited = Awaited::new(vec!["k".into(), "i".into(), "i".into()]);
        assert!(!awaited.got("k", WHOLE) && awaited.got("i", WHOLE) && !awaited.got("i", WHOLE));
    }
}
