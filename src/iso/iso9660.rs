//! ISO 9660 (ECMA-119) with Rock Ridge or Joliet names.

use super::{
    extent::Extent,
    fault::Fault,
    rock_ridge::{self, SystemUse},
    source::{Reader, array, byte, le16, le32},
    tree::{Format, Raw, What},
    when::Date,
};

/// The data of the volume descriptors.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) primary: Descriptor,
    pub(super) joliet: Option<Descriptor>,
    /// The block of the El Torito catalogue.
    pub(super) catalogue: Option<u32>,
}

/// A primary or supplementary volume descriptor (ECMA-119 §8.4, §8.5).
#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) bytes: Vec<u8>,
    pub(super) block_size: u64,
}

impl Descriptor {
    fn new(bytes: Vec<u8>) -> Result<Self, Fault> {
        let block_size = u64::from(le16(&bytes, 128));
        match block_size {
            512 | 1024 | 2048 => Ok(Self { bytes, block_size }),
            _ => Err(Fault::damaged("the volume descriptor", "its blocks are neither 512, 1024 nor 2048 bytes")),
        }
    }

    /// The size of the volume in bytes. A complete image is not smaller.
    pub(super) fn volume_size(&self) -> u64 {
        u64::from(le32(&self.bytes, 80)) * self.block_size
    }

    /// A field of text.
    pub(super) fn text(&self, at: usize, length: usize) -> String {
        let bytes = self.bytes.get(at..at + length).unwrap_or_default();
        String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']).to_owned()
    }

    fn root(&self) -> Result<Folder, Fault> {
        let record = self.bytes.get(156..190).and_then(Record::parse);
        let record = record.ok_or_else(|| Fault::damaged("the volume descriptor", "it names no root folder"))?;
        Ok(Folder { offset: record.offset(self.block_size), size: u64::from(record.size) })
    }
}

/// Reads the descriptors, starting at sector 16; `None` if there are none.
///
/// # Errors
/// The fault of the primary descriptor.
pub(super) fn descriptors(reader: &Reader<'_>) -> Result<Option<Descriptors>, Fault> {
    let (mut primary, mut joliet, mut catalogue) = (None, None, None);
    for sector in 16..16 + DESCRIPTORS {
        let Ok(bytes) = reader.bytes("a volume descriptor", sector * 2048, 2048) else { break };
        if array(&bytes, 1) != Some(*b"CD001") {
            break;
        }
        match byte(&bytes, 0) {
            0 if bytes.get(7..).is_some_and(|id| id.starts_with(b"EL TORITO SPECIFICATION")) => {
                catalogue = catalogue.or(Some(le32(&bytes, 71)));
            }
            1 if primary.is_none() => primary = Some(Descriptor::new(bytes)?),
            // The three levels of UCS-2 (Joliet specification, "SVD Escape Sequences Field").
            2 if matches!(array(&bytes, 88), Some([b'%', b'/', b'@' | b'C' | b'E'])) => {
                joliet = joliet.or(Descriptor::new(bytes).ok());
            }
            255 => break,
            _ => {}
        }
    }
    Ok(primary.map(|primary| Descriptors { primary, joliet, catalogue }))
}

/// Real media have five.
const DESCRIPTORS: u64 = 32;

/// The format of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    /// Skips this many bytes at the start of each system use area.
    RockRidge(usize),
    Joliet,
    Plain,
}

/// The tree of one descriptor.
pub(super) struct Iso<'a> {
    reader: &'a Reader<'a>,
    block_size: u64,
    pub(super) names: Names,
}

/// The start of a folder in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Folder {
    offset: u64,
    size: u64,
}

impl<'a> Iso<'a> {
    /// The tree with the best names, and its root: Rock Ridge, then Joliet, then plain names, as Linux does it.
    pub(super) fn new(reader: &'a Reader<'a>, all: &Descriptors) -> Result<(Self, Folder), Fault> {
        let root = all.primary.root()?;
        let iso = |descriptor: &Descriptor, names| Self { reader, block_size: descriptor.block_size, names };
        let first = reader.bytes("the root folder", root.offset, root.size.min(2048))?;
        let skip = Record::parse(&first).and_then(|own| rock_ridge::skip(own.system_use));
        match (skip, &all.joliet) {
            (Some(skip), _) => Ok((iso(&all.primary, Names::RockRidge(skip)), root)),
            (None, Some(joliet)) => Ok((iso(joliet, Names::Joliet), joliet.root()?)),
            (None, None) => Ok((iso(&all.primary, Names::Plain), root)),
        }
    }

    fn raw(&self, record: &Record<'_>) -> Result<Option<Raw<Folder>>, Fault> {
        let said = match self.names {
            Names::RockRidge(skip) => rock_ridge::system_use(self.reader, record.system_use, skip, self.block_size)?,
            Names::Joliet | Names::Plain => SystemUse::default(),
        };
        if said.is_moved {
            return Ok(None);
        }
        let name = said.name.clone().unwrap_or_else(|| self.name(record.name));
        let what = self.what(record, said, &name)?;
        Ok(Some(Raw { name, modified: record.modified(), what }))
    }

    fn what(&self, record: &Record<'_>, said: SystemUse, name: &str) -> Result<What<Folder>, Fault> {
        let size = u64::from(record.size);
        let unreadable = |fault| Ok(What::Unreadable { size, fault });
        if let Some(block) = said.moved_from {
            return self.moved(block).map(What::Folder);
        }
        if let Some(target) = said.link {
            return Ok(What::Link(target));
        }
        if said.is_special {
            return Ok(What::Special);
        }
        let offset = record.offset(self.block_size);
        if record.flags & FOLDER != 0 {
            return Ok(What::Folder(Folder { offset, size }));
        }
        if let Some(size) = said.compressed {
            let why = "it is compressed with zisofs, which is not supported: make the image without zisofs";
            return Ok(What::Unreadable { size, fault: Fault::NotRead(why) });
        }
        if record.is_interleaved {
            return unreadable(Fault::NotRead("its data is interleaved with another file, which is not supported"));
        }
        match self.reader.holds(name, if size == 0 { 0 } else { offset }, size) {
            Ok(()) => Ok(What::File { extents: vec![Extent::data(offset, size)], size }),
            Err(fault) => unreadable(fault),
        }
    }

    /// A folder that CL points to. Its size is in its own first record.
    fn moved(&self, block: u32) -> Result<Folder, Fault> {
        let offset = u64::from(block) * self.block_size;
        let bytes = self.reader.bytes("a moved folder", offset, 34)?;
        // Only the fixed part of the record is needed. The record can be longer than the bytes that were read.
        let size = Some(le32(&bytes, 10)).filter(|_| byte(&bytes, 0) >= 34);
        let size = size.ok_or_else(|| Fault::damaged("a moved folder", "it does not begin with its own record"))?;
        Ok(Folder { offset, size: u64::from(size) })
    }

    /// The identifier of a record, without the version and without the dot of an empty extension.
    fn name(&self, identifier: &[u8]) -> String {
        let name = match self.names {
            Names::Joliet => {
                let units = identifier.as_chunks::<2>().0.iter().map(|unit| u16::from_be_bytes(*unit));
                char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
            }
            Names::RockRidge(_) | Names::Plain => String::from_utf8_lossy(identifier).into_owned(),
        };
        let name = match name.rsplit_once(';') {
            Some((name, version)) if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => &name,
        };
        name.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(name).to_owned()
    }
}

impl Format for Iso<'_> {
    type Folder = Folder;

    fn key(&self, folder: &Folder) -> u64 {
        folder.offset
    }

    fn entries(&self, folder: &Folder) -> Result<Vec<Raw<Folder>>, Fault> {
        if folder.size > LARGEST_FOLDER {
            return Err(Fault::TooMuch { what: "the size of a folder, in bytes,", limit: LARGEST_FOLDER });
        }
        let bytes = self.reader.bytes("a folder", folder.offset, folder.size)?;
        let mut raws: Vec<Raw<Folder>> = Vec::new();
        // The identifier of a file whose next extent is in the next record (ECMA-119 §9.1.6).
        let mut unfinished: Option<&[u8]> = None;
        for record in (Records { bytes: &bytes, at: 0 }) {
            let record = record?;
            if matches!(record.name, [0 | 1]) || record.flags & ASSOCIATED != 0 {
                continue;
            }
            let goes_on = record.flags & GOES_ON != 0;
            if unfinished.is_some_and(|name| name == record.name) {
                self.append(raws.last_mut(), &record);
            } else {
                end_early(unfinished, &mut raws);
                match self.raw(&record) {
                    Ok(Some(raw)) => raws.push(raw),
                    Ok(None) => continue,
                    Err(fault @ Fault::TooMuch { .. }) => return Err(fault),
                    Err(fault) => {
                        let what = What::Unreadable { size: u64::from(record.size), fault };
                        raws.push(Raw { name: self.name(record.name), modified: record.modified(), what });
                    }
                }
            }
            unfinished = goes_on.then_some(record.name);
        }
        end_early(unfinished, &mut raws);
        Ok(raws)
    }
}

impl Iso<'_> {
    /// Another extent of the previous file.
    fn append(&self, last: Option<&mut Raw<Folder>>, record: &Record<'_>) {
        let Some(raw) = last else { return };
        let more = u64::from(record.size);
        let offset = record.offset(self.block_size);
        match &mut raw.what {
            What::File { extents, size } => match self.reader.holds(&raw.name, offset, more) {
                Ok(()) => {
                    extents.push(Extent::data(offset, more));
                    *size += more;
                }
                Err(fault) => raw.what = What::Unreadable { size: *size + more, fault },
            },
            What::Unreadable { size, .. } => *size += more,
            What::Folder(_) | What::Link(_) | What::Special => {}
        }
    }
}

/// The previous file should have another extent.
fn end_early(unfinished: Option<&[u8]>, raws: &mut [Raw<Folder>]) {
    if let (Some(_), Some(Raw { name, what, .. })) = (unfinished, raws.last_mut())
        && let What::File { size, .. } = what
    {
        *what = What::Unreadable { size: *size, fault: Fault::damaged(name.as_str(), "its last extent is missing") };
    }
}

/// A directory record (ECMA-119 §9.1).
#[derive(Debug)]
struct Record<'a> {
    location: u32,
    /// The number of blocks before the data.
    attributes: u8,
    size: u32,
    date: &'a [u8],
    flags: u8,
    is_interleaved: bool,
    name: &'a [u8],
    system_use: &'a [u8],
}

impl<'a> Record<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let record = bytes.get(..usize::from(byte(bytes, 0)))?;
        let length = usize::from(*record.get(32)?);
        let name = record.get(33..33 + length).filter(|name| !name.is_empty())?;
        // A padding byte makes the length even.
        let system_use = record.get(33 + length + usize::from(length.is_multiple_of(2))..).unwrap_or_default();
        Some(Self {
            location: le32(record, 2),
            attributes: byte(record, 1),
            size: le32(record, 10),
            date: record.get(18..25)?,
            flags: byte(record, 25),
            is_interleaved: byte(record, 26) != 0 || byte(record, 27) != 0,
            name,
            system_use,
        })
    }

    /// The start of its data in bytes.
    fn offset(&self, block_size: u64) -> u64 {
        (u64::from(self.location) + u64::from(self.attributes)) * block_size
    }

    /// ECMA-119 §9.1.5. The time zone is in quarters of an hour.
    fn modified(&self) -> Option<i64> {
        let at = |index| i64::from(byte(self.date, index));
        let date = Date {
            year: 1900 + at(0),
            month: at(1),
            day: at(2),
            hour: at(3),
            minute: at(4),
            second: at(5),
            east: i64::from(byte(self.date, 6).cast_signed()) * 15,
        };
        date.seconds()
    }
}

/// The records of a folder. No record crosses the end of a sector.
struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        while *self.bytes.get(self.at)? == 0 {
            self.at = (self.at / 2048 + 1) * 2048;
        }
        let rest = self.bytes.get(self.at..)?;
        let record = Record::parse(rest);
        self.at = match record {
            Some(_) => self.at + usize::from(byte(rest, 0)),
            None => usize::MAX,
        };
        Some(record.ok_or_else(|| Fault::damaged("a folder", "one of its records is too short")))
    }
}

/// File flags (ECMA-119 §9.1.6).
const FOLDER: u8 = 0x02;
const ASSOCIATED: u8 = 0x04;
const GOES_ON: u8 = 0x80;
/// In bytes: 300,000 files with names of 100 characters.
const LARGEST_FOLDER: u64 = 64 << 20;
