//! Reads the bytes of a transfer, and makes DATA packets with few system calls and copies.

use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;

use super::packet::data_header;
use crate::{files::Asset, timeline::transfer::Failure};

/// The contents of a transfer.
#[derive(Debug)]
pub enum Source {
    /// A loader, or a script.
    Memory(Bytes),
    /// A file of the assets folder.
    File(ReadAhead),
}

/// A file and the part of it that was read last.
#[derive(Debug)]
pub struct ReadAhead {
    from: Origin,
    size: u64,
    start: u64,
    piece: Vec<u8>,
}

#[derive(Debug)]
enum Origin {
    File(File),
    Asset(Arc<Asset>),
}

impl Origin {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.read_exact_at(buffer, offset),
            Self::Asset(asset) => read_unchanged(asset, buffer, offset),
        }
    }
}

/// Looked at after the read: a client is never sent two versions of a file as one.
fn read_unchanged(asset: &Asset, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    asset.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), Failure::CUT_SHORT),
        _ => error,
    })?;
    if asset.is_as_it_was()? { Ok(()) } else { Err(io::Error::other(Failure::CHANGED)) }
}

impl Source {
    /// A file of the assets folder, or inside an image there.
    #[must_use]
    pub fn asset(asset: Arc<Asset>) -> Self {
        let size = asset.size;
        Self::File(ReadAhead { from: Origin::Asset(asset), size, start: 0, piece: Vec::new() })
    }

    /// A file of a known size in bytes.
    #[must_use]
    pub fn file(file: File, size: u64) -> Self {
        Self::File(ReadAhead { from: Origin::File(file), size, start: 0, piece: Vec::new() })
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.size,
        }
    }

    /// Appends the DATA packets of these blocks (counted from 1) to `packets`.
    ///
    /// # Errors
    /// Those of the read; `UnexpectedEof` for a file that became shorter; a file that was written into.
    pub fn blocks(&mut self, first: u64, count: u64, block_size: u16, packets: &mut Vec<u8>) -> io::Result<()> {
        packets.clear();
        let offset = (first - 1) * u64::from(block_size);
        let wanted = (count * u64::from(block_size)).min(self.size().saturating_sub(offset));
        let wanted = usize::try_from(wanted).unwrap_or(0);
        match self {
            Self::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let data = bytes.get(start..start.saturating_add(wanted)).unwrap_or_default();
                put(first, count, block_size, data, packets);
            }
            Self::File(file) => put(first, count, block_size, file.at(offset, wanted)?, packets),
        }
        Ok(())
    }
}

impl ReadAhead {
    /// A read that waits for the disk delays all other transfers. That is acceptable: kernels and images usually use
    /// HTTP.
    fn at(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let within = |ahead: &Self| {
            let from = usize::try_from(offset.checked_sub(ahead.start)?).ok()?;
            (from + length <= ahead.piece.len()).then_some(from)
        };
        let from = match within(self) {
            Some(from) => from,
            None => {
                let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
                // After a failed read, the buffer must not look like part of the file.
                self.start = u64::MAX;
                self.piece.resize(PIECE.max(length).min(left), 0);
                self.from.read_exact_at(&mut self.piece, offset)?;
                self.start = offset;
                0
            }
        };
        Ok(self.piece.get(from..from + length).unwrap_or_default())
    }
}

fn put(first: u64, count: u64, block_size: u16, data: &[u8], packets: &mut Vec<u8>) {
    let block_size = usize::from(block_size);
    for (block, index) in (first..first + count).zip(0..) {
        data_header(block, packets);
        let start = data.len().min(index * block_size);
        let end = data.len().min(start + block_size);
        packets.extend_from_slice(data.get(start..end).unwrap_or_default());
    }
}

/// Bytes that are read ahead: eleven lock-step blocks on Ethernet with one read, and little memory for hundreds of
/// transfers.
const PIECE: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, time::SystemTime};

    use super::*;
    use crate::{files::AssetRoot, timeline::transfer::Failure};

    #[test]
    fn memory_and_files_give_the_same_packets_for_any_blocks() {
        let bytes: Vec<u8> = (0..100_001_u32).map(|i| (i % 251) as u8).collect();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(&bytes).expect("written");
        let mut sources = [Source::Memory(bytes.clone().into()), Source::file(file, bytes.len() as u64)];
        // In order, back again after a loss, a window across the end of the buffer, and the short last block.
        for (first, count) in [(1, 1), (2, 1), (12, 1), (11, 4), (1, 64), (66, 3), (69, 1)] {
            let mut expected = Vec::new();
            for block in first..first + count {
                data_header(block, &mut expected);
                let data = bytes.chunks(1468).nth(block as usize - 1).expect("there");
                expected.extend_from_slice(data);
            }
            for source in &mut sources {
                let mut packets = Vec::new();
                source.blocks(first, count, 1468, &mut packets).expect("read");
                assert!(packets == expected, "{first} {count}");
            }
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error_each_time() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(100).expect("made");
        let mut source = Source::file(file.try_clone().expect("cloned"), 1000);
        for _ in 0..2 {
            let error = source.blocks(1, 1, 512, &mut Vec::new()).expect_err("too short");
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn a_file_that_is_written_into_is_not_sent_as_a_mixture_of_two() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kernel");
        let assets = AssetRoot::open(folder.path()).expect("opened");
        for (length, words) in [(100_000, Failure::CHANGED), (5000, Failure::CUT_SHORT)] {
            fs::write(&path, [1; 100_000]).expect("written");
            let file = File::options().write(true).open(&path).expect("opened");
            file.set_modified(SystemTime::UNIX_EPOCH).expect("set");
            let mut source = Source::asset(assets.shared("kernel").expect("there"));
            source.blocks(1, 1, 1024, &mut Vec::new()).expect("read");
            file.set_len(length).and_then(|()| file.write_all_at(&[2; 5000], 0)).expect("changed");
            let error = source.blocks(50, 1, 1024, &mut Vec::new()).expect_err("another file by now");
            assert_eq!(error.to_string(), words);
        }
    }

    #[test]
    fn a_full_last_block_is_followed_by_an_empty_one() {
        let mut packets = Vec::new();
        Source::Memory(Bytes::from_static(b"12345678")).blocks(2, 1, 8, &mut packets).expect("read");
        assert_eq!(packets, b"\0\x03\0\x02");
    }
}
