//! The bytes of a body, sent from the page cache to the socket without a copy.
//!
//! hyper keeps the protocol, but the bytes of a file never enter this process. The body hands hyper slices of
//! [`HOLE`], memory that is never read, and notes in [`Promised`] which [`Piece`] each one stands for. [`Io`](super::io::Io) recognises
//! a write out of the hole by its address and sends the piece by `sendfile` instead; any other write is an ordinary one.
//! No file is mapped, so one that is truncated meanwhile is a short `sendfile` and no SIGBUS. That hyper's place in the
//! hole and ours in the piece agree is checked at each write, and a difference ends the connection: a client never gets
//! the hole's bytes.

use std::{
    collections::VecDeque,
    io,
    os::unix::fs::FileExt,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use rustix::{fs::sendfile, io::Errno};
use tokio::net::TcpStream;

use crate::{files::Asset, iso::segments::Piece as Place};

/// What a body is made of.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Memory(Bytes),
    File(Arc<Asset>),
}

/// Part of a body: what a slice of the hole stands for.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) source: Source,
    /// In the source.
    pub(super) offset: u64,
    pub(super) length: usize,
}

/// Pieces that hyper has slices for and that were not written, oldest first.
#[derive(Debug, Default)]
pub(super) struct Promised(Mutex<VecDeque<Piece>>);

impl Promised {
    /// The next bytes of the body, for which hyper gets the returned slice of the hole.
    pub(super) fn add(&self, piece: Piece) -> Bytes {
        let start = in_hole(piece.offset);
        let slice = HOLE.get(start..start + piece.length).unwrap_or_default();
        debug_assert_eq!(slice.len(), piece.length);
        self.pieces().push_back(piece);
        Bytes::from_static(slice)
    }

    /// Sends what a slice of the hole stands for, or the beginning of it; 0 where the file has no more.
    pub(super) fn send(&self, slice: &[u8], stream: &TcpStream) -> io::Result<usize> {
        let mut pieces = self.pieces();
        let place = place_in_hole(slice);
        let Some(piece) = pieces.front_mut().filter(|piece| place == Some(in_hole(piece.offset))) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the body is not where hyper takes it to be"));
        };
        let count = piece.send(stream, slice.len())?;
        drop(pieces);
        self.sent(count);
        Ok(count)
    }

    /// The bytes that a slice of the hole stands for, where they are in memory.
    pub(super) fn in_memory(&self, slice: &[u8]) -> Option<Bytes> {
        let pieces = self.pieces();
        let place = place_in_hole(slice);
        let piece = pieces.front().filter(|piece| place == Some(in_hole(piece.offset)))?;
        let Source::Memory(bytes) = &piece.source else { return None };
        let start = usize::try_from(piece.offset).ok()?;
        let end = start + piece.length.min(slice.len());
        (end <= bytes.len()).then(|| bytes.slice(start..end))
    }

    /// The first bytes of the oldest piece were sent.
    pub(super) fn sent(&self, count: usize) {
        let mut pieces = self.pieces();
        if let Some(piece) = pieces.front_mut() {
            piece.offset += count as u64;
            piece.length = piece.length.saturating_sub(count);
            if piece.length == 0 {
                pieces.pop_front();
            }
        }
    }

    fn pieces(&self) -> MutexGuard<'_, VecDeque<Piece>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Piece {
    /// Sends at most `most` of its bytes; 0 where the file has no more.
    fn send(&self, stream: &TcpStream, most: usize) -> io::Result<usize> {
        let length = self.length.min(most);
        let start = usize::try_from(self.offset).unwrap_or(usize::MAX);
        match &self.source {
            Source::Memory(bytes) => stream.try_write(bytes.get(start..start + length).unwrap_or_default()),
            Source::File(asset) => match asset.at(self.offset, length as u64) {
                None => Ok(0),
                Some(Place::Bytes(bytes)) => stream.try_write(bytes),
                Some(Place::Zeros(count)) => {
                    let count = usize::try_from(count).unwrap_or(usize::MAX).min(HOLE.len());
                    stream.try_write(HOLE.get(..count).unwrap_or_default())
                }
                Some(Place::Image(at, count)) => {
                    let length = usize::try_from(count).unwrap_or(usize::MAX);
                    let mut offset = at;
                    match sendfile(stream, &asset.file, Some(&mut offset), length) {
                        // A file system that cannot: a few kinds of FUSE and network ones.
                        Err(Errno::INVAL | Errno::NOSYS) => {
                            let mut buffer = vec![0; length.min(COPIED)];
                            let count = asset.file.read_at(&mut buffer, at)?;
                            stream.try_write(buffer.get(..count).unwrap_or_default())
                        }
                        sent => Ok(sent?),
                    }
                }
            },
        }
    }
}

/// Where in the hole the byte at an offset of a source stands.
pub(super) fn in_hole(offset: u64) -> usize {
    // The remainder is below a usize.
    (offset % HOLE_SIZE as u64) as usize
}

/// Where in the hole a slice begins; `None` for one that is elsewhere.
pub(super) fn place_in_hole(slice: &[u8]) -> Option<usize> {
    let place = slice.as_ptr().addr().checked_sub(HOLE.as_ptr().addr())?;
    (place < HOLE_SIZE).then_some(place)
}

/// Addresses to name parts of a file by. It is never read, so the kernel gives it no memory. A constant would be 4 MiB of
/// zeros in the program file. The longest slice of it is what hyper asks for at once.
pub(super) static HOLE: LazyLock<&'static [u8]> = LazyLock::new(|| vec![0; HOLE_SIZE].leak());
/// Bytes.
const HOLE_SIZE: usize = 4 << 20;
/// Bytes, where the file system knows no `sendfile`.
const COPIED: usize = 64 << 10;
