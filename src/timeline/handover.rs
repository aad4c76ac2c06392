//! When a machine has what it was to boot: which bytes of which files it has acknowledged.
//!
//! A file counts when ranges of it that the machine acknowledged cover it. A disk image is read for as long as the machine
//! runs, so it counts by how much was read and for how long. A script of the user's own names nothing that is known here:
//! the first file that the machine fetches whole counts.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::moment::Moment;
use crate::spelling::plain_path;

/// What a boot still waits for, beside the names of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Got {
    /// Acknowledged ranges of files: from, to.
    ranges: BTreeMap<String, Vec<(u64, u64)>>,
    /// The first whole file counts, whichever it is.
    any: bool,
    disk: Option<Disk>,
}

/// A disk image that is read over the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Disk {
    name: String,
    since: Moment,
    /// In bytes, what was read again too.
    read: u64,
    size: u64,
}

/// A part of a file that a machine has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bytes {
    pub(super) from: u64,
    pub(super) to: u64,
    /// Bytes of the whole file.
    pub(super) whole: u64,
}

impl Got {
    pub(super) fn of_any() -> Self {
        Self { any: true, ..Self::default() }
    }

    pub(super) fn of_disk(name: String, since: Moment) -> Self {
        let name = plain_path(&name).into_owned();
        Self { disk: Some(Disk { name, since, ..Disk::default() }), ..Self::default() }
    }

    /// Whether the machine has all of a file now.
    pub(super) fn covers(&mut self, name: &str, Bytes { from, to, whole }: Bytes) -> bool {
        let is_known = self.ranges.contains_key(name) || self.ranges.len() < FILES;
        if !is_known {
            return from == 0 && to >= whole;
        }
        let ranges = self.ranges.entry(name.to_owned()).or_default();
        ranges.push((from, to.max(from)));
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (from, to) in ranges.drain(..) {
            match joined.last_mut() {
                Some((_, end)) if *end >= from => *end = to.max(*end),
                _ => joined.push((from, to)),
            }
        }
        joined.truncate(RANGES);
        let is_whole = matches!(joined.as_slice(), [(0, end)] if *end >= whole);
        *ranges = joined;
        if is_whole {
            self.ranges.remove(name);
        }
        is_whole
    }

    /// Whether the first whole file is what counts; asked once, when there is one.
    pub(super) fn take_any(&mut self) -> bool {
        std::mem::take(&mut self.any)
    }

    pub(super) fn is_disk(&self, name: &str) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.name == plain_path(name))
    }

    /// Whether this is the first of a disk that is read.
    pub(super) fn read(&mut self, Bytes { from, to, whole }: Bytes) -> bool {
        let Some(disk) = &mut self.disk else { return false };
        let is_first = disk.read == 0;
        (disk.read, disk.size) = (disk.read.saturating_add(to.saturating_sub(from)), whole);
        is_first && disk.read > 0
    }

    /// Bytes that were read of a disk, and for how long, where that is what a machine does that runs from it.
    pub(super) fn runs(&self, now: Moment) -> Option<(u64, Duration)> {
        let disk = self.disk.as_ref()?;
        let lasted = now.since(disk.since);
        let is_enough = disk.read > 0 && disk.read >= READ.min(disk.size);
        (is_enough && lasted >= LASTED).then_some((disk.read, lasted))
    }

    pub(super) fn end_disk(&mut self) {
        self.disk = None;
    }
}

/// Files of a boot whose ranges are remembered.
const FILES: usize = 64;
/// Ranges of a file that do not touch each other, at most.
const RANGES: usize = 64;
/// Bytes that a firmware's look at a disk, or a boot loader on it, does not read; of a smaller image all of it.
const READ: u64 = 16 << 20;
/// A boot that fails falls back within this time.
const LASTED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(from: u64, to: u64) -> Bytes {
        Bytes { from, to, whole: 100 }
    }

    #[test]
    fn a_file_counts_when_ranges_cover_it() {
        let mut got = Got::default();
        assert!(!got.covers("k", bytes(0, 10)) && !got.covers("k", bytes(50, 100)) && !got.covers("k", bytes(11, 50)));
        assert!(!got.covers("other", bytes(10, 11)));
        assert!(got.covers("k", bytes(10, 11)));
        assert!(got.covers("k", bytes(0, 100)), "again, whole");
        assert!(Got::default().covers("empty", Bytes { from: 0, to: 0, whole: 0 }));
        let mut scattered = Got::default();
        assert!((0..10_000).all(|at| !scattered.covers("k", Bytes { from: 2 * at, to: 2 * at + 1, whole: 30_000 })));
    }

    #[test]
    fn a_disk_counts_when_a_machine_runs_from_it() {
        let at = |seconds: u64| Moment::from_secs(1000 + seconds);
        let mut got = Got::of_disk("d".into(), at(0));
        let whole = 1 << 30;
        assert!(got.read(Bytes { from: 0, to: 512, whole }) && !got.read(Bytes { from: 0, to: 512, whole }));
        assert_eq!(got.runs(at(600)), None, "a firmware's look at it");
        got.read(Bytes { from: 512, to: READ, whole });
        assert_eq!(got.runs(at(59)), None, "a boot that fails reads as much");
        assert_eq!(got.runs(at(60)), Some((READ + 512, LASTED)));
        let mut small = Got::of_disk("d".into(), at(0));
        small.read(Bytes { from: 0, to: 1000, whole: 1000 });
        assert!(small.runs(at(60)).is_some(), "all of a floppy");
    }
}
