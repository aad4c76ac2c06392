//! An open file below the assets folder, or inside an image there.

use std::{
    collections::HashMap,
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, IoSliceMut, Read as _},
    num::NonZeroU64,
    ops::Range,
    os::fd::AsFd,
    os::unix::fs::FileExt as _,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rustix::{
    fs::{Advice, Stat, fadvise, fstat, fstatfs, major},
    io::{Errno, ReadWriteFlags, preadv2},
};
use sha2::{Digest as _, Sha256};

use crate::{
    boot::reason::Reason,
    iso::segments::{Piece, Segments},
};

/// An open file. It keeps its version when another file gets its name.
#[derive(Debug)]
pub struct Asset {
    /// The file, for reads at the positions of [`Asset::at`].
    pub file: File,
    /// The size in bytes.
    pub size: u64,
    /// Time of last modification.
    pub modified: SystemTime,
    /// Strong entity tag with its quotes (RFC 9110 §8.8.3). It is made of the size, the modification time in seconds, which
    /// every way of copying keeps, and samples of the content. So it is the same for all copies on all hosts.
    pub etag: String,
    /// The same of the whole `file`, where this is a file inside an image.
    pub(super) whole: String,
    pub(super) state: State,
    /// Its file system cannot say what of it is in memory (NFS, FUSE): to look at it may be to wait for another host.
    pub is_far: bool,
    /// All of it, once it was read, if it is small.
    pub(super) content: OnceLock<Bytes>,
    /// For a file inside an image: the position of its bytes in `file`.
    pub(super) layout: Option<Segments>,
}

/// Identifies a version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Version {
    device: u64,
    inode: u64,
    size: i64,
    modified: (i64, u64),
}

/// A version, and when something about it was changed (`st_ctime`, inode(7)): who may read it, its names, or its content
/// by a program that set the time of its modification back, as `cp -p` and `rsync --inplace -t` do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    version: Version,
    changed: (i64, u64),
}

impl State {
    pub(super) fn of(stat: &Stat) -> Self {
        Self { version: Version::of(stat), changed: (stat.st_ctime, stat.st_ctime_nsec) }
    }

    /// Of its file system.
    pub(super) fn device(&self) -> u64 {
        self.version.device
    }

    /// A number that other states hardly have.
    pub(super) fn number(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }

    /// The entity tag of the version. The samples are read once for each state.
    pub(super) fn etag(&self, file: &File) -> String {
        let known = || TAGS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tag) = known().get(self) {
            return tag.clone();
        }
        let Version { size, modified: (seconds, _), .. } = &self.version;
        let samples = samples(file, u64::try_from(*size).unwrap_or_default());
        let tag = format!("\"{size:x}-{seconds:x}-{samples}\"");
        let mut known = known();
        if known.len() >= MOST_TAGS {
            known.clear();
        }
        known.insert(*self, tag.clone());
        tag
    }

    /// Whether the last change was so long ago that another one would have another time.
    pub(super) fn is_settled(&self) -> bool {
        let changed = UNIX_EPOCH + Duration::from_secs(u64::try_from(self.changed.0).unwrap_or(0).min(END_OF_9999));
        SystemTime::now().duration_since(changed).unwrap_or_default() > SETTLED
    }
}

/// Whether the file system of an open file is on this host: it has a disk, or is one of those that need no single one
/// (statfs(2)). NFS, CIFS and FUSE have none, and the major number of their devices is 0 as well.
pub(super) fn is_local(file: impl AsFd, stat: &Stat) -> bool {
    /// tmpfs, ramfs, overlayfs, Btrfs, ZFS and bcachefs.
    const WITHOUT_A_DISK: [u32; 6] = [0x0102_1994, 0x8584_58f6, 0x794c_7630, 0x9123_683e, 0x2fc1_2fc1, 0xca45_1a4e];
    let kind = || u32::try_from(fstatfs(file).ok()?.f_type).ok();
    major(stat.st_dev) != 0 || kind().is_some_and(|kind| WITHOUT_A_DISK.contains(&kind))
}

impl Asset {
    /// A whole file.
    pub(super) fn new(file: File, stat: &Stat) -> Self {
        let state = State::of(stat);
        let etag = state.etag(&file);
        let in_memory = || preadv2(&file, &mut [IoSliceMut::new(&mut [0])], 0, ReadWriteFlags::NOWAIT);
        Self {
            is_far: !is_local(&file, stat) && in_memory() == Err(Errno::OPNOTSUPP),
            file,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: modified(stat),
            whole: etag.clone(),
            etag,
            state,
            content: OnceLock::new(),
            layout: None,
        }
    }

    /// Whether the file was not changed since it was opened. A file that was replaced by another one is unchanged.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn is_as_it_was(&self) -> io::Result<bool> {
        let now = State::of(&fstat(&self.file)?);
        // A name that was removed leaves another time of change, too. Then the content tells.
        Ok(now == self.state || now.version == self.state.version && now.etag(&self.file) == self.whole)
    }

    /// Whether both are one file, whatever its names.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        let of = |asset: &Self| (asset.state.version.device, asset.state.version.inode);
        of(self) == of(other)
    }

    /// Whether it can be kept in memory.
    pub(super) fn is_small(&self) -> bool {
        self.size <= SMALL && self.layout.is_none()
    }

    /// All of a small file, where it is in the page cache; it is kept with the version that it is of.
    #[must_use]
    pub fn small(&self) -> Option<Bytes> {
        if !self.is_small() {
            return None;
        }
        if let Some(content) = self.content.get() {
            return Some(content.clone());
        }
        // What was written just now can be written again without another time of modification.
        let age = SystemTime::now().duration_since(self.modified).unwrap_or_default();
        if age < SETTLED {
            return None;
        }
        let mut content = vec![0; usize::try_from(self.size).ok()?];
        let read = preadv2(&self.file, &mut [IoSliceMut::new(&mut content)], 0, ReadWriteFlags::NOWAIT).ok()?;
        let is_whole = read == content.len() && self.is_as_it_was().ok()?;
        is_whole.then(|| self.content.get_or_init(|| content.into()).clone())
    }

    /// The first bytes, at most `most`.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn head(&self, most: usize) -> io::Result<Vec<u8>> {
        if self.layout.is_some() {
            let mut head = vec![0; usize::try_from(self.size).unwrap_or(usize::MAX).min(most)];
            self.read_exact_at(&mut head, 0)?;
            return Ok(head);
        }
        let mut head = Vec::new();
        (&self.file).take(most as u64).read_to_end(&mut head)?;
        Ok(head)
    }

    /// The data at an offset: at most `most` contiguous bytes. `None` after the end.
    pub fn at(&self, offset: u64, most: u64) -> Option<Piece<'_>> {
        match &self.layout {
            Some(segments) => segments.at(offset, most),
            // The size is that at the time of opening. A read fails if the file became shorter.
            None => {
                let left = self.size.checked_sub(offset).filter(|left| *left > 0)?;
                Some(Piece::Image(offset, left.min(most)))
            }
        }
    }

    /// Fills the whole buffer.
    ///
    /// # Errors
    /// Those of read(2); `UnexpectedEof` if the file is too short.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            let piece = self.at(offset, buffer.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
            let length = usize::try_from(piece.length()).unwrap_or(usize::MAX).min(buffer.len());
            let (now, rest) = buffer.split_at_mut(length);
            match piece {
                Piece::Bytes(bytes) => now.copy_from_slice(bytes),
                Piece::Image(at, _) => self.file.read_exact_at(now, at)?,
                Piece::Zeros(_) => now.fill(0),
            }
            (buffer, offset) = (rest, offset + length as u64);
        }
        Ok(())
    }
}

/// Its time of last modification, within the years that HTTP can write.
pub(super) fn modified(stat: &Stat) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or(0).min(END_OF_9999))
}

/// The operating system would not give a file.
pub(super) fn unreadable(name: &str, errno: Errno) -> Reason {
    Reason::Unreadable { name: name.chars().take(200).collect(), error: io::Error::from(errno).to_string() }
}

impl Version {
    fn of(stat: &Stat) -> Self {
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        Self { device: stat.st_dev, inode: stat.st_ino, size: stat.st_size, modified }
    }
}

/// A digest of parts of a file: its beginning, its end, and blocks at equal distances between them. Of a small file, all.
/// Two versions of one size and one second differ in one of these, as far as they are kernels, archives or images.
fn samples(file: &File, size: u64) -> String {
    let (start, end, step) = (0..size.min(EDGE), size.saturating_sub(EDGE)..size, size / BLOCKS);
    let between = (1..BLOCKS).map(|block| block * step..(block * step + BLOCK).min(size));
    let is_whole = size <= 2 * EDGE + BLOCKS * BLOCK;
    let whole = std::iter::once(0..size);
    let parts: Box<dyn Iterator<Item = Range<u64>>> = match is_whole {
        true => Box::new(whole),
        false => Box::new([start, end].into_iter().chain(between)),
    };
    let mut digest = Sha256::new();
    for part in parts {
        let length = part.end - part.start;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let cached = preadv2(file, &mut [IoSliceMut::new(&mut bytes)], part.start, ReadWriteFlags::NOWAIT);
        let was_cached = cached.is_ok_and(|count| count == bytes.len());
        // What cannot be read cannot be served either, and is reported then.
        if was_cached || file.read_exact_at(&mut bytes, part.start).is_ok() {
            digest.update(&bytes);
        }
        // Where the kernel meets single pages of a file that it reads ahead, it reads the megabytes behind them page by
        // page (`page_cache_ra_order`, mm/readahead.c): the first client would wait for a file a third longer.
        if !was_cached && !is_whole {
            let _ = fadvise(file, part.start, NonZeroU64::new(length), Advice::DontNeed);
        }
    }
    digest.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// By the state on this host.
static TAGS: LazyLock<Mutex<HashMap<State, String>>> = LazyLock::new(Mutex::default);
const MOST_TAGS: usize = 16_384;
/// Bytes at the beginning and at the end. The descriptors of an image, with the time when it was made, begin after 32 KiB
/// (ECMA-119 §6.2.1).
const EDGE: u64 = 64 * 1024;
const BLOCK: u64 = 4 * 1024;
const BLOCKS: u64 = 16;

/// Bytes of a file that is kept in memory.
pub(super) const SMALL: u64 = 64 << 10;
/// Since its modification.
pub(super) const SETTLED: Duration = Duration::from_secs(2);
/// Seconds. If the clock was wrong, a file can have any time, but dates in HTTP have a year of four digits (RFC 9110
/// §5.6.7).
const END_OF_9999: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;

    #[test]
    fn a_disk_and_memory_are_on_this_host_and_what_has_no_disk_may_be_on_another() {
        let is_local = |path: &Path| {
            let file = File::open(path).expect("there");
            let stat = fstat(&file).expect("open");
            is_local(&file, &stat)
        };
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!([folder.path(), Path::new("/dev/shm"), Path::new("/proc")].map(is_local), [true, true, false]);
    }

    #[test]
    fn samples_leave_no_single_pages_of_a_file_that_comes_from_the_disk() {
        let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let build = env::var_os("CARGO_TARGET_DIR").map_or(build, Into::into);
        let folder = tempfile::tempdir_in(build).expect("a folder on a disk");
        let path = folder.path().join("image");
        fs::write(&path, vec![7; 8 << 20]).expect("written");
        let file = File::open(&path).expect("there");
        file.sync_all().expect("on the disk");
        let middle = 8 * (8 << 20) / BLOCKS;
        let is_cached = || preadv2(&file, &mut [IoSliceMut::new(&mut [0])], middle, ReadWriteFlags::NOWAIT).is_ok();
        let drop_all = || fadvise(&file, 0, None, Advice::DontNeed).expect("advised");
        // Asked without reading ahead, which the question itself does.
        fadvise(&file, 0, None, Advice::Random).expect("advised");

        // Memory that no disk is behind keeps all.
        if !is_on_disk(&file) {
            return;
        }
        // While a disk is busy, the kernel keeps a page now and then.
        let tag = samples(&file, 8 << 20);
        let leaves_none = || {
            drop_all();
            samples(&file, 8 << 20) == tag && !is_cached()
        };
        assert!((0..20).any(|_| leaves_none()), "a page of a sample is in the page cache");
        fs::read(&path).expect("read");
        assert_eq!(samples(&file, 8 << 20), tag);
        assert!(is_cached(), "what was there stays");
    }

    /// Whether the kernel can drop pages of a file.
    fn is_on_disk(file: &File) -> bool {
        const TMPFS_MAGIC: u64 = 0x0102_1994;
        let kind = rustix::fs::fstatfs(file).expect("told").f_type;
        u64::try_from(kind).ok() != Some(TMPFS_MAGIC)
    }
}
