//! Small images, made in memory for tests and fuzzing: ISO 9660 with Rock Ridge, and UDF.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::{source::ReadAt, udf_tag::crc};

/// The contents of an entry of a made image.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// A file with this content.
    Bytes(&'a [u8]),
    /// A file with this many zero bytes.
    Size(u64),
    /// A symbolic link with this target.
    Link(&'a str),
}

impl<'a> From<&'a str> for Of<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

impl From<u64> for Of<'_> {
    fn from(size: u64) -> Self {
        Self::Size(size)
    }
}

/// An image that ends with zeros, which are not stored.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its beginning.
    pub bytes: Vec<u8>,
    /// Its size in bytes.
    pub length: u64,
}

impl ReadAt for Made {
    fn length(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        let tail = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
        for (to, from) in buffer.iter_mut().zip(tail) {
            *to = *from;
        }
        Ok(())
    }
}

/// An ISO 9660 image with Rock Ridge names. Missing folders are created.
#[must_use]
pub fn iso(label: &str, entries: &[(&str, Of<'_>)]) -> Made {
    let mut folders = BTreeSet::from([""]);
    for (path, _) in entries {
        folders.extend(path.match_indices('/').filter_map(|(at, _)| path.get(..at)));
    }
    // The length of a folder does not depend on positions. So the first pass measures and the second one writes.
    let mut places = Places::new();
    let mut next = 20;
    for folder in &folders {
        let size = records(folder, &folders, entries, &Places::new()).len() as u64;
        places.insert((folder, true), (next, size));
        next += blocks(size);
    }
    let is_data = |of: &Of<'_>| matches!(of, Of::Bytes(_));
    let (data, zeros): (Vec<_>, Vec<_>) = entries.iter().partition(|(_, of)| is_data(of));
    for (path, of) in data.iter().chain(&zeros) {
        places.insert((path, false), (next, of.size()));
        next += blocks(of.size());
    }
    let root = places.get(&("", true)).copied().unwrap_or_default();
    let mut bytes = vec![0; 16 * BLOCK];
    bytes.extend(descriptor(1, label, next, root));
    bytes.extend(boot_record());
    bytes.extend(descriptor(255, "", 0, (0, 0)));
    bytes.extend(catalogue());
    for folder in &folders {
        bytes.extend(records(folder, &folders, entries, &places));
    }
    for (_, of) in data {
        if let Of::Bytes(content) = of {
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
    }
    Made { bytes, length: u64::from(next) * BLOCK as u64 }
}

impl Of<'_> {
    fn size(&self) -> u64 {
        match self {
            Self::Bytes(content) => content.len() as u64,
            Self::Size(size) => *size,
            Self::Link(_) => 0,
        }
    }
}

/// Path and whether it is a folder → block and size in bytes.
type Places<'a> = BTreeMap<(&'a str, bool), (u32, u64)>;

/// The records of a folder, in whole blocks.
fn records(folder: &str, folders: &BTreeSet<&str>, entries: &[(&str, Of<'_>)], places: &Places<'_>) -> Vec<u8> {
    let place = |path: &str, is_folder| {
        places.iter().find(|((p, f), _)| *p == path && *f == is_folder).map_or((0, 0), |(_, place)| *place)
    };
    let own = place(folder, true);
    let marked: &[u8] = if folder.is_empty() { b"SP\x07\x01\xbe\xef\x00" } else { b"" };
    let mut all = vec![record(own, 2, &[0], marked), record(own, 2, &[1], b"")];
    let below = folders.iter().filter_map(|path| Some((*path, name_below(folder, path)?)));
    for (number, (path, name)) in below.enumerate() {
        all.push(record(place(path, true), 2, format!("D{number:05}").as_bytes(), &named(name)));
    }
    let below = entries.iter().filter_map(|(path, of)| Some((*path, of, name_below(folder, path)?)));
    for (number, (path, of, name)) in below.enumerate() {
        let identifier = format!("F{number:05}.;1");
        let mut system_use = named(name);
        if let Of::Link(target) = of {
            system_use.extend(linked(target));
        }
        let (mut block, mut left) = place(path, false);
        while left > EXTENT {
            all.push(record((block, EXTENT), 0x80, identifier.as_bytes(), &system_use));
            (block, left) = (block + blocks(EXTENT), left - EXTENT);
        }
        all.push(record((block, left), 0, identifier.as_bytes(), &system_use));
    }
    let mut bytes: Vec<u8> = Vec::new();
    for record in all {
        if bytes.len() % BLOCK + record.len() > BLOCK {
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend(record);
    }
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn name_below<'a>(folder: &str, path: &'a str) -> Option<&'a str> {
    let rest = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix('/')? };
    (!rest.is_empty() && !rest.contains('/')).then_some(rest)
}

fn record((block, size): (u32, u64), flags: u8, name: &[u8], system_use: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both32(block));
    record.extend(both32(u32::try_from(size).unwrap_or(u32::MAX)));
    record.extend([125, 6, 15, 12, 30, 0, 0, flags, 0, 0, 1, 0, 0, 1, u8::try_from(name.len()).unwrap_or(0)]);
    record.extend(name);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    record.extend(system_use);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    let length = u8::try_from(record.len()).unwrap_or(0);
    put(&mut record, 0, &[length]);
    record
}

fn named(name: &str) -> Vec<u8> {
    entry(*b"NM", &[&[0], name.as_bytes()].concat())
}

fn linked(target: &str) -> Vec<u8> {
    let mut components = vec![0];
    for part in target.split('/') {
        match part {
            "" => components.extend([8, 0]),
            ".." => components.extend([4, 0]),
            "." => components.extend([2, 0]),
            part => components.extend([&[0, u8::try_from(part.len()).unwrap_or(0)], part.as_bytes()].concat()),
        }
    }
    entry(*b"SL", &components)
}

fn entry(name: [u8; 2], content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len() + 4).unwrap_or(0);
    [&name[..], &[length, 1], content].concat()
}

fn descriptor(kind: u8, label: &str, volume: u32, root: (u32, u64)) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    put(&mut bytes, 0, &[kind]);
    put(&mut bytes, 1, b"CD001\x01");
    put(&mut bytes, 8, &[b' '; 64]);
    put(&mut bytes, 40, label.as_bytes());
    put(&mut bytes, 80, &both32(volume));
    put(&mut bytes, 128, &[0, 8, 8, 0]);
    put(&mut bytes, 156, &record(root, 2, &[0], b""));
    bytes
}

/// El Torito's volume descriptor, which names the block of the catalogue.
fn boot_record() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    put(&mut bytes, 1, b"CD001\x01EL TORITO SPECIFICATION");
    put(&mut bytes, 71, &CATALOGUE.to_le_bytes());
    bytes
}

/// One boot image for a BIOS, and one for UEFI.
fn catalogue() -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    // The validation entry: the sum of its words is zero.
    put(&mut bytes, 0, &[1]);
    put(&mut bytes, 28, &[0xaa, 0x55, 0x55, 0xaa]);
    put(&mut bytes, 32, &[0x88, 0, 0, 0, 0, 0, 4, 0, 20]);
    put(&mut bytes, 64, &[0x91, 0xef, 1]);
    put(&mut bytes, 96, &[0x88, 0, 0, 0, 0, 0, 4, 0, 20]);
    bytes
}

/// Behind the volume descriptors.
const CATALOGUE: u32 = 19;

fn both32(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    put(&mut bytes, 0, &value.to_le_bytes());
    put(&mut bytes, 4, &value.to_be_bytes());
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn blocks(size: u64) -> u32 {
    u32::try_from(size.div_ceil(BLOCK as u64)).unwrap_or(u32::MAX)
}

const BLOCK: usize = 2048;
/// Bytes of one extent: the most that whole blocks of 32 bits hold.
const EXTENT: u64 = 0xffff_f800;

/// A UDF image with these files in its root, and one folder `sub` that holds the same again. The first file is embedded
/// in its control block, the second has short descriptors with a continuation, others long ones.
#[must_use]
pub fn udf(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut image = vec![0; (PARTITION + 64) * BLOCK];
    for (at, id) in [(16, b"BEA01"), (17, b"NSR02"), (18, b"TEA01")] {
        put(&mut image, at * BLOCK + 1, id);
    }
    let mut anchor = vec![0; 512];
    for at in [16, 24] {
        put(&mut anchor, at, &(4 * BLOCK as u32).to_le_bytes());
        put(&mut anchor, at + 4, &32_u32.to_le_bytes());
    }
    seal(&mut image, 256, 2, 256, anchor);
    let mut primary = vec![0; 512];
    put(&mut primary, 24, &[&[8], label.as_bytes()].concat());
    put(&mut primary, 55, &[u8::try_from(label.len() + 1).unwrap_or(0)]);
    seal(&mut image, 32, 1, 32, primary);
    let mut partition = vec![0; 512];
    put(&mut partition, 188, &(PARTITION as u32).to_le_bytes());
    put(&mut partition, 192, &64_u32.to_le_bytes());
    seal(&mut image, 33, 5, 33, partition);
    let mut logical = vec![0; 446];
    put(&mut logical, 212, &(BLOCK as u32).to_le_bytes());
    put(&mut logical, 248, &long(0, BLOCK as u32));
    put(&mut logical, 264, &6_u32.to_le_bytes());
    put(&mut logical, 268, &1_u32.to_le_bytes());
    put(&mut logical, 440, &[1, 6, 1, 0, 0, 0]);
    seal(&mut image, 34, 6, 34, logical);
    seal(&mut image, 35, 8, 35, vec![0; 512]);
    let mut set = vec![0; 512];
    put(&mut set, 400, &long(1, BLOCK as u32));
    seal(&mut image, PARTITION, 256, 0, set);
    let mut next = 3;
    let mut identifiers = identifier("", 1, 0b1010);
    for (number, (name, content)) in files.iter().enumerate() {
        identifiers.extend(identifier(name, next, 0));
        next = udf_file(&mut image, next, number, content);
    }
    let inner = identifiers.clone();
    identifiers.extend(identifier("sub", 2, 0b10));
    for (block, content) in [(1, identifiers), (2, inner)] {
        let entry = file_entry(4, 3, content.len() as u64, &content);
        seal(&mut image, PARTITION + block, 261, block, entry);
    }
    image
}

/// Writes a file and returns the next free block.
fn udf_file(image: &mut [u8], block: usize, number: usize, content: &[u8]) -> usize {
    let size = content.len() as u64;
    let (entry, next) = match number {
        0 => (file_entry(5, 3, size, content), block + 1),
        1 => {
            let half = BLOCK.min(content.len());
            let first = [&(half as u32).to_le_bytes()[..], &(block as u32 + 2).to_le_bytes()].concat();
            let on = [&((BLOCK as u32) | 3 << 30).to_le_bytes()[..], &(block as u32 + 1).to_le_bytes()].concat();
            let mut more = vec![0; 24];
            put(&mut more, 20, &8_u32.to_le_bytes());
            more.extend(
                [&((content.len() - half) as u32).to_le_bytes()[..], &(block as u32 + 3).to_le_bytes()].concat(),
            );
            seal(image, PARTITION + block + 1, 258, block + 1, more);
            (file_entry(5, 0, size, &[first, on].concat()), block + 3 + blocks(size) as usize)
        }
        _ => (file_entry(5, 1, size, &long(block as u32 + 1, size as u32)), block + 1 + blocks(size) as usize),
    };
    let data = if number == 1 { block + 2 } else { block + 1 };
    if number > 0 {
        put(image, (PARTITION + data) * BLOCK, content);
    }
    seal(image, PARTITION + block, 261, block, entry);
    next
}

fn file_entry(kind: u8, descriptors: u8, size: u64, area: &[u8]) -> Vec<u8> {
    let mut entry = vec![0; 176];
    put(&mut entry, 27, &[kind]);
    put(&mut entry, 34, &[descriptors]);
    put(&mut entry, 56, &size.to_le_bytes());
    put(&mut entry, 84, &[0, 0x10, 0xe9, 0x07, 6, 15, 12, 30, 0, 0, 0, 0]);
    put(&mut entry, 172, &(area.len() as u32).to_le_bytes());
    entry.extend(area);
    entry
}

fn identifier(name: &str, block: usize, flags: u8) -> Vec<u8> {
    let text = if name.is_empty() { Vec::new() } else { [&[8], name.as_bytes()].concat() };
    let mut bytes = vec![0; 38];
    put(&mut bytes, 16, &[1, 0, flags, u8::try_from(text.len()).unwrap_or(0)]);
    put(&mut bytes, 20, &long(block as u32, BLOCK as u32));
    bytes.extend(text);
    let mut sealed = tagged(257, 0, bytes);
    sealed.resize(sealed.len().next_multiple_of(4), 0);
    sealed
}

fn long(block: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    put(&mut bytes, 0, &length.to_le_bytes());
    put(&mut bytes, 4, &block.to_le_bytes());
    bytes
}

fn seal(image: &mut [u8], sector: usize, tag: u16, location: usize, descriptor: Vec<u8>) {
    put(image, sector * BLOCK, &tagged(tag, location, descriptor));
}

/// With a tag whose checksums are right, over all of it.
fn tagged(tag: u16, location: usize, mut bytes: Vec<u8>) -> Vec<u8> {
    put(&mut bytes, 0, &tag.to_le_bytes());
    put(&mut bytes, 2, &[2, 0]);
    let covered = (bytes.len() - 16) as u16;
    put(&mut bytes, 10, &covered.to_le_bytes());
    put(&mut bytes, 12, &(location as u32).to_le_bytes());
    retag(&mut bytes);
    bytes
}

/// Makes the checksums of a tag right again, where it stands at the beginning of these bytes.
pub(super) fn retag(bytes: &mut [u8]) {
    let covered = bytes.get(10..12).map_or(0, |b| b.iter().rev().fold(0, |sum, b| sum << 8 | usize::from(*b)));
    let sum = crc(bytes.get(16..16 + covered).unwrap_or_default());
    put(bytes, 8, &sum.to_le_bytes());
    let head = bytes.get(..16).unwrap_or_default();
    let sum = head.iter().enumerate().filter(|(at, _)| *at != 4).fold(0_u8, |sum, (_, b)| sum.wrapping_add(*b));
    put(bytes, 4, &[sum]);
}

/// The partition's first sector.
const PARTITION: usize = 257;
