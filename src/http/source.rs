//! The bytes of a body, sent from the page cache to the socket without a copy (`sendfile`), where they are in a file.
//!
//! No file is mapped, so one that is truncated meanwhile is a short `sendfile` and no SIGBUS.

use std::{
    io::{self, IoSliceMut},
    os::unix::fs::FileExt,
    sync::{Arc, LazyLock},
};

use bytes::{Buf as _, Bytes};
use rustix::{
    fs::sendfile,
    io::{Errno, ReadWriteFlags, preadv2},
};
use tokio::{net::TcpStream, task::spawn_blocking};

use crate::{files::Asset, iso::segments::Piece, timeline::transfer::Failure};

/// What a body is made of.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Memory(Bytes),
    File(Arc<Asset>),
}

/// The bytes of a source that are not sent yet. That is all that is held for a client, however long it pauses.
#[derive(Debug)]
pub(super) struct Rest {
    source: Source,
    offset: u64,
    length: u64,
    /// How many of the next bytes are in memory, when last looked at.
    ready: u64,
    /// Some of it was not in the page cache.
    is_cold: bool,
    /// The next bytes of a file that is far away, as they were read.
    read: Option<Box<Bytes>>,
}

impl Source {
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(asset) => asset.size,
        }
    }
}

impl Rest {
    pub(super) fn new(source: Source, offset: u64, length: u64) -> Self {
        Self { source, offset, length, ready: 0, is_cold: false, read: None }
    }

    /// Bytes that are not sent yet.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// All of it, where that is in memory.
    pub(super) fn in_memory(&self) -> Option<&[u8]> {
        let Source::Memory(bytes) = &self.source else { return None };
        let start = usize::try_from(self.offset).ok()?;
        bytes.get(start..)?.get(..usize::try_from(self.length).ok()?)
    }

    /// So many of its bytes are sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.offset += count as u64;
        self.length = self.length.saturating_sub(count as u64);
        self.ready = self.ready.saturating_sub(count as u64);
        if let Some(read) = &mut self.read {
            read.advance(count.min(read.len()));
        }
    }

    /// A client is never sent two versions of a file as one: while it pauses, the file can be written into.
    ///
    /// # Errors
    /// The file was changed.
    pub(super) fn look_again(&self) -> io::Result<()> {
        match &self.source {
            // What was read is of the right version.
            Source::File(asset) if asset.is_far => Ok(()),
            Source::File(asset) if !asset.is_as_it_was()? => Err(io::Error::other(Failure::CHANGED)),
            _ => Ok(()),
        }
    }

    /// Waits, where it has to, until the next bytes are in the page cache: `sendfile` would keep the thread waiting, and with
    /// it every other client that it serves.
    ///
    /// # Errors
    /// The file was changed, or cannot be read.
    pub(super) async fn prepare(&mut self) -> io::Result<()> {
        if self.ready > 0 {
            return Ok(());
        }
        let length = self.length.min(LOOKED_AT_ONCE);
        let Source::File(asset) = &self.source else {
            self.ready = length;
            return Ok(());
        };
        if asset.is_far {
            let (asset, offset, length) = (Arc::clone(asset), self.offset, length.min(READ_AT_ONCE));
            let read = spawn_blocking(move || read_far(&asset, offset, length)).await;
            self.read = Some(Box::new(read.map_err(io::Error::other).flatten()?));
            self.ready = length;
            return Ok(());
        }
        self.look_again()?;
        let place = asset.at(self.offset, length);
        // A file inside an image may be in several runs.
        let length = place.as_ref().map_or(length, Piece::length);
        let Some(Piece::Image(offset, _)) = place else {
            self.ready = length;
            return Ok(());
        };
        let most = if self.is_cold { COLD } else { length };
        for length in [length.min(most), length.min(READ_AT_ONCE)] {
            if is_cached(asset, offset, length)? {
                self.ready = length;
                return Ok(());
            }
            self.is_cold = true;
        }
        let (asset, length) = (Arc::clone(asset), length.min(READ_AT_ONCE));
        spawn_blocking(move || read(&asset, offset, length)).await.map_err(io::Error::other).flatten()?;
        self.ready = length;
        Ok(())
    }

    /// Sends what of it is in memory, or the beginning of that; 0 where the file has no more.
    ///
    /// # Errors
    /// Those of the socket and of the file.
    pub(super) fn send(&self, stream: &TcpStream) -> io::Result<usize> {
        let asset = match &self.source {
            Source::Memory(_) => return stream.try_write(self.in_memory().unwrap_or_default()),
            Source::File(asset) => asset,
        };
        if let Some(read) = &self.read {
            return stream.try_write(read);
        }
        let some = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        match asset.at(self.offset, self.ready) {
            None => Ok(0),
            Some(Piece::Bytes(bytes)) => stream.try_write(bytes),
            Some(Piece::Zeros(count)) => stream.try_write(ZEROS.get(..some(count).min(COPIED)).unwrap_or_default()),
            Some(Piece::Image(at, count)) => {
                let mut offset = at;
                match sendfile(stream, &asset.file, Some(&mut offset), some(count)) {
                    // A file system that cannot: a few kinds of FUSE and network ones.
                    Err(Errno::INVAL | Errno::NOSYS) => {
                        let mut buffer = vec![0; some(count).min(COPIED)];
                        let count = asset.file.read_at(&mut buffer, at)?;
                        stream.try_write(buffer.get(..count).unwrap_or_default())
                    }
                    sent => Ok(sent?),
                }
            }
        }
    }
}

/// Whether both ends of a range are in the page cache, which the kernel fills in runs (`RWF_NOWAIT`, preadv2(2)).
fn is_cached(asset: &Asset, offset: u64, length: u64) -> io::Result<bool> {
    let last = offset + length.saturating_sub(1);
    for at in [offset, last] {
        match preadv2(&asset.file, &mut [IoSliceMut::new(&mut [0])], at, ReadWriteFlags::NOWAIT) {
            Ok(_) => {}
            Err(Errno::AGAIN | Errno::OPNOTSUPP) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}

/// Reads a range into the page cache. The kernel takes it for a program that reads the file in order, as what `sendfile`
/// reads next looks to it, and reads ahead of both, by the setting of the disk (`read_ahead_kb`).
fn read(asset: &Asset, offset: u64, length: u64) -> io::Result<()> {
    // Short enough to stay in the CPU's cache.
    let mut buffer = [0; COPIED];
    let (mut at, end) = (offset, offset + length);
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        match asset.file.read_at(buffer.get_mut(..left).unwrap_or_default(), at)? {
            0 => break,
            count => at += count as u64,
        }
    }
    Ok(())
}

/// Reads a range of a file that is far away. Whatever looks at it may wait.
fn read_far(asset: &Asset, offset: u64, length: u64) -> io::Result<Bytes> {
    if !asset.is_as_it_was()? {
        return Err(io::Error::other(Failure::CHANGED));
    }
    let mut buffer = vec![0; usize::try_from(length).unwrap_or_default()];
    asset.read_exact_at(&mut buffer, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::other(Failure::CUT_SHORT),
        _ => error,
    })?;
    Ok(buffer.into())
}

/// What an image has where nothing was written. A constant would stand in the program file.
static ZEROS: LazyLock<Vec<u8>> = LazyLock::new(|| vec![0; COPIED]);
/// Bytes, where the file system knows no `sendfile`.
const COPIED: usize = 64 << 10;
/// Bytes that are looked for in the page cache at once.
const LOOKED_AT_ONCE: u64 = 4 << 20;
/// Bytes of a file that comes from the disk which are sent at once. To look far ahead for what is there misleads the
/// kernel about what is read next.
const COLD: u64 = 1 << 20;
/// Bytes that are waited for, where that much is not there yet.
const READ_AT_ONCE: u64 = 128 << 10;
