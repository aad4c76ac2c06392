//! UDF: one file or folder, from its information control block (ECMA-167 4/14).

use super::{
    extent::Extent,
    fault::Fault,
    source::{array, byte, le16, le32, le64},
    tree::{Raw, What},
    udf_tag::{Block, Icb, Tagged, tag, text},
    udf_volume::Udf,
    when::Date,
};

/// A file entry or extended file entry (ECMA-167 4/14.9, 14.17).
pub(super) struct File {
    entry: Tagged,
    block: Block,
    /// The end of the extended attributes and start of the allocation descriptors, in the entry.
    descriptors: usize,
    /// The length of the descriptors in bytes.
    length: usize,
}

/// ECMA-167 4/14.6.6.
const FOLDER: u8 = 4;
const FILE: u8 = 5;
const LINK: u8 = 12;
const REAL_TIME_FILE: u8 = 249;

impl Udf<'_> {
    /// The control block at an address.
    pub(super) fn file(&self, block: Block) -> Result<File, Fault> {
        let entry = self.descriptor("a UDF file entry", block, 216)?;
        let (attributes, descriptors, fixed) = match entry.tag {
            261 => (le32(&entry.bytes, 168), le32(&entry.bytes, 172), 176),
            266 => (le32(&entry.bytes, 208), le32(&entry.bytes, 212), 216),
            _ => return Err(Fault::damaged("a UDF file entry", "it is another descriptor")),
        };
        let room = entry.bytes.len().saturating_sub(fixed);
        let (attributes, length) = (attributes as usize, descriptors as usize);
        if attributes > room || length > room - attributes {
            return Err(Fault::damaged("a UDF file entry", "its parts are longer than its block"));
        }
        Ok(File { entry, block, descriptors: fixed + attributes, length })
    }
}

impl File {
    fn size(&self) -> u64 {
        le64(&self.entry.bytes, 56)
    }

    fn kind(&self) -> u8 {
        byte(&self.entry.bytes, 27)
    }

    /// ECMA-167 1/7.3.
    fn modified(&self) -> Option<i64> {
        let at = if self.entry.tag == 266 { 92 } else { 84 };
        let stamp = array::<12>(&self.entry.bytes, at)?;
        let zone = le16(&stamp, 0);
        // 12 bits with a sign; -2047 means that it is not known.
        let east = i64::from((zone << 4).cast_signed() >> 4);
        let field = |at: usize| i64::from(byte(&stamp, at));
        let date = Date {
            year: i64::from(le16(&stamp, 2)),
            month: field(4),
            day: field(5),
            hour: field(6),
            minute: field(7),
            second: field(8),
            east: if zone >> 12 == 1 && east != -2047 { east } else { 0 },
        };
        date.seconds()
    }

    /// The position of its bytes.
    pub(super) fn extents(&self, udf: &Udf<'_>) -> Result<Vec<Extent>, Fault> {
        let size = self.size();
        // Bits 0 to 2 of the flags are the format of the descriptors (ECMA-167 4/14.6.8).
        let kind = le16(&self.entry.bytes, 34) & 7;
        let mut area =
            self.entry.bytes.get(self.descriptors..self.descriptors + self.length).unwrap_or_default().to_vec();
        if kind == 3 {
            return match size <= area.len() as u64 {
                true => Ok(vec![Extent::data(self.entry.offset + self.descriptors as u64, size)]),
                false => Err(Fault::damaged("a UDF file entry", "its size is larger than its contents")),
            };
        }
        let step = match kind {
            0 => 8,
            1 => 16,
            _ => {
                return Err(Fault::NotRead(
                    "its UDF allocation descriptors are of the extended type, which is not supported",
                ));
            }
        };
        let (mut extents, mut left, mut continuations) = (Vec::new(), size, 0);
        'areas: loop {
            for descriptor in area.chunks_exact(step) {
                let (length, state) = (le32(descriptor, 0) & 0x3fff_ffff, le32(descriptor, 0) >> 30);
                let partition = if kind == 0 { self.block.partition } else { le16(descriptor, 8) };
                let block = Block { partition, number: le32(descriptor, 4) };
                if length == 0 {
                    break 'areas;
                }
                if state == 3 {
                    continuations += 1;
                    if continuations > CONTINUATIONS {
                        return Err(Fault::damaged("a UDF file entry", "its allocation descriptors have no end"));
                    }
                    area = continued(udf, block)?;
                    continue 'areas;
                }
                let taken = u64::from(length).min(left);
                left -= taken;
                if state == 0 {
                    let offset = udf.offset(block)?;
                    udf.reader().holds("a part of a file", offset, taken)?;
                    extents.push(Extent::data(offset, taken));
                } else {
                    extents.push(Extent::zeros(taken));
                }
                if left == 0 {
                    break 'areas;
                }
                if extents.len() > EXTENTS {
                    return Err(Fault::TooMuch { what: "the number of a file's pieces", limit: EXTENTS as u64 });
                }
            }
            break;
        }
        // Bytes without a descriptor are zeros, as in a file that was extended (ECMA-167 4/12.1).
        if left > 0 {
            extents.push(Extent::zeros(left));
        }
        Ok(extents)
    }

    /// Its bytes, for structures that are read here.
    fn content(&self, udf: &Udf<'_>, most: u64) -> Result<Vec<u8>, Fault> {
        if self.size() > most {
            return Err(Fault::TooMuch { what: "the size of a folder, in bytes,", limit: most });
        }
        let mut content = Vec::new();
        for extent in self.extents(udf)? {
            match extent.offset {
                Some(offset) => content.extend(udf.reader().bytes("a folder", offset, extent.length)?),
                None => return Err(Fault::damaged("a folder", "a part of it was never written")),
            }
        }
        Ok(content)
    }

    /// Its file identifier descriptors (ECMA-167 4/14.4).
    pub(super) fn folder(&self, udf: &Udf<'_>) -> Result<Vec<Raw<Icb>>, Fault> {
        if self.kind() != FOLDER {
            return Err(Fault::damaged("a folder", "it is a file"));
        }
        let content = self.content(udf, LARGEST_FOLDER)?;
        let mut rest = content.as_slice();
        let mut raws = Vec::new();
        while rest.len() >= 38 {
            let (name, own) = (usize::from(byte(rest, 19)), usize::from(le16(rest, 36)));
            // The checksums of some writers include the padding.
            let Some(identifier) = rest.get(..38 + own + name).filter(|_| tag(rest) == Some(257)) else {
                return Err(Fault::damaged("a folder", "one of its entries has a wrong checksum"));
            };
            // Deleted entries and the parent (ECMA-167 4/14.4.3).
            if byte(identifier, 18) & 0b1100 == 0 {
                let name = text(identifier.get(38 + own..).unwrap_or_default());
                raws.push(raw(udf, name, Icb::long(identifier, 20))?);
            }
            rest = rest.get(identifier.len().next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(raws)
    }

    /// ECMA-167 4/14.16: the path of a symbolic link.
    fn target(&self, udf: &Udf<'_>) -> Result<String, Fault> {
        let content = self.content(udf, LONGEST_LINK)?;
        let (mut rest, mut parts, mut is_absolute) = (content.as_slice(), Vec::new(), false);
        while let Some([kind, length]) = array::<2>(rest, 0) {
            let Some(name) = rest.get(4..4 + usize::from(length)) else { break };
            match kind {
                1 | 2 => {
                    is_absolute = true;
                    parts.clear();
                }
                3 => parts.push("..".to_owned()),
                4 => parts.push(".".to_owned()),
                5 => parts.push(text(name)),
                _ => return Err(Fault::damaged("a symbolic link", "a part of it is of an unknown kind")),
            }
            rest = rest.get(4 + usize::from(length)..).unwrap_or_default();
        }
        Ok(format!("{}{}", if is_absolute { "/" } else { "" }, parts.join("/")))
    }
}

/// The target of a name. A fault of one file is not a fault of its folder.
fn raw(udf: &Udf<'_>, name: String, icb: Icb) -> Result<Raw<Icb>, Fault> {
    let file = match udf.file(icb.block) {
        Ok(file) => file,
        Err(fault @ Fault::TooMuch { .. }) => return Err(fault),
        Err(fault) => return Ok(Raw { name, modified: None, what: What::Unreadable { size: 0, fault } }),
    };
    let size = file.size();
    let what = match file.kind() {
        FOLDER => Ok(What::Folder(icb)),
        FILE | REAL_TIME_FILE => file.extents(udf).map(|extents| What::File { extents, size }),
        LINK => file.target(udf).map(What::Link),
        _ => Ok(What::Special),
    };
    let what = what.unwrap_or_else(|fault| What::Unreadable { size, fault });
    Ok(Raw { name, modified: file.modified(), what })
}

/// The allocation descriptors of an allocation extent descriptor (ECMA-167 4/14.5).
fn continued(udf: &Udf<'_>, block: Block) -> Result<Vec<u8>, Fault> {
    let extent = udf.descriptor("a UDF allocation extent", block, 24)?;
    let length = le32(&extent.bytes, 20) as usize;
    let area = extent.bytes.get(24..).and_then(|rest| rest.get(..length)).filter(|_| extent.tag == 258);
    area.map(<[u8]>::to_vec).ok_or_else(|| Fault::damaged("a UDF allocation extent", "it is longer than its block"))
}

/// Each holds a hundred descriptors of up to 1 GiB.
const CONTINUATIONS: u32 = 4096;
/// A file of 8 GiB in blocks of 32 KiB.
const EXTENTS: usize = 1 << 18;
/// Bytes.
const LARGEST_FOLDER: u64 = 64 << 20;
/// Bytes.
const LONGEST_LINK: u64 = 16 << 10;
