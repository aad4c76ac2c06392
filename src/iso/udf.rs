//! UDF 1.02 to 2.01 (ECMA-167 and OSTA UDF), and the metadata partition of 2.50: from the descriptors to the tree.

use super::{
    fault::Fault,
    source::{Reader, array, le16, le32},
    tree::{Format, Raw},
    udf_tag::{Block, Icb, tag, text},
    udf_volume::{Partition, Udf},
};

/// The descriptors of the volume descriptor sequence that are used here.
#[derive(Default)]
struct Sequence {
    label: String,
    logical: Option<Vec<u8>>,
    /// Number, first sector and length in sectors.
    partitions: Vec<(u16, u32, u32)>,
}

impl<'a> Udf<'a> {
    /// Looks for a volume; `None` if there is none.
    ///
    /// # Errors
    /// The fault of an existing volume.
    pub(super) fn find(reader: &'a Reader<'a>) -> Result<Option<Self>, Fault> {
        if !is_recognised(reader) {
            return Ok(None);
        }
        let (sector, anchor) =
            anchor(reader).ok_or_else(|| Fault::damaged("the UDF volume", "its anchor is missing"))?;
        // Main, then reserve (ECMA-167 3/10.2).
        let sequence = sequence(reader, sector, le32(&anchor, 20), le32(&anchor, 16))
            .or_else(|_| sequence(reader, sector, le32(&anchor, 28), le32(&anchor, 24)))?;
        Self::new(reader, sector, sequence).map(Some)
    }

    fn new(reader: &'a Reader<'a>, sector: u64, sequence: Sequence) -> Result<Self, Fault> {
        let damaged = |why| Fault::damaged("the UDF volume", why);
        let logical = sequence.logical.ok_or_else(|| damaged("it has no logical volume descriptor"))?;
        let block_size = u64::from(le32(&logical, 212));
        if !matches!(block_size, 512 | 1024 | 2048 | 4096 | 8192 | 16384 | 32768) {
            return Err(damaged("its block size is not a power of two from 512 to 32768 bytes"));
        }
        let ends =
            sequence.partitions.iter().map(|(_, start, length)| (u64::from(*start) + u64::from(*length)) * sector);
        let mut udf = Self {
            reader,
            block_size,
            label: sequence.label,
            stated: ends.max().unwrap_or(0),
            partitions: Vec::new(),
            root: Icb::default(),
        };
        let start_of = |number: u16| {
            let found = sequence.partitions.iter().find(|(own, ..)| *own == number);
            found.map(|(_, start, _)| u64::from(*start) * sector)
        };
        let maps = logical.get(440..).unwrap_or_default();
        udf.map_partitions(maps.get(..le32(&logical, 264) as usize).unwrap_or(maps), start_of)?;
        // The file set descriptor has the root (ECMA-167 4/14.1).
        let at = Icb::long(&logical, 248);
        let set = udf.descriptor("the UDF file set", at.block, 256)?;
        if set.tag != 256 {
            return Err(damaged("it has no file set"));
        }
        udf.root = Icb::long(&set.bytes, 400);
        Ok(udf)
    }

    /// The partition maps (ECMA-167 3/10.7), in order. Block addresses use their numbers.
    fn map_partitions(&mut self, mut maps: &[u8], start_of: impl Fn(u16) -> Option<u64>) -> Result<(), Fault> {
        while let Some([kind, length]) = array::<2>(maps, 0) {
            let Some(map) = maps.get(..usize::from(length)).filter(|map| map.len() >= 6) else { break };
            if self.partitions.len() >= PARTITIONS {
                break;
            }
            let physical = |number| {
                let missing = || Fault::damaged("the UDF volume", "one of its partitions is missing");
                start_of(number).ok_or_else(missing)
            };
            let partition = match kind {
                1 => Partition::Physical(physical(le16(map, 4))?),
                2 if identifier(map) == b"*UDF Metadata Partition" => {
                    let base = physical(le16(map, 38))?;
                    self.metadata(base, le32(map, 40)).or_else(|_| self.metadata(base, le32(map, 44)))?
                }
                2 if identifier(map) == b"*UDF Virtual Partition" => {
                    Partition::NotRead("it is a multi-session UDF disc (virtual partition), which is not supported")
                }
                2 if identifier(map) == b"*UDF Sparable Partition" => {
                    Partition::NotRead("it is a rewritable UDF disc (sparable partition), which is not supported")
                }
                _ => Partition::NotRead("it has a UDF partition of an unknown kind"),
            };
            self.partitions.push(partition);
            maps = maps.get(map.len()..).unwrap_or_default();
        }
        Ok(())
    }

    /// The metadata file is a file in the physical partition.
    fn metadata(&mut self, base: u64, block: u32) -> Result<Partition, Fault> {
        let kept = std::mem::replace(&mut self.partitions, vec![Partition::Physical(base)]);
        let file = self.file(Block { partition: 0, number: block }).and_then(|file| file.extents(self));
        self.partitions = kept;
        Ok(Partition::Metadata(file?))
    }
}

impl Format for Udf<'_> {
    type Folder = Icb;

    fn key(&self, folder: &Icb) -> u64 {
        u64::from(folder.block.partition) << 32 | u64::from(folder.block.number)
    }

    fn entries(&self, folder: &Icb) -> Result<Vec<Raw<Icb>>, Fault> {
        self.file(folder.block)?.folder(self)
    }
}

/// Whether the volume recognition sequence names UDF (ECMA-167 2/8.3).
fn is_recognised(reader: &Reader<'_>) -> bool {
    // Structures have 2048 bytes, or a block if that is longer.
    let sequence = |step: u64| (0..RECOGNITION).map(move |n| 0x8000 + n * step);
    [2048, 4096, 8192, 16384, 32768].into_iter().flat_map(sequence).any(|at| {
        reader
            .bytes("the volume recognition sequence", at, 7)
            .is_ok_and(|b| matches!(b.get(1..6), Some(b"NSR02" | b"NSR03")))
    })
}

/// The anchor and the size of a sector, which is stored nowhere else (ECMA-167 3/8.4.2.1). The anchor is at sector 256,
/// at the last one, or 256 before the last one.
fn anchor(reader: &Reader<'_>) -> Option<(u64, Vec<u8>)> {
    [2048, 512, 1024, 4096, 8192, 16384, 32768].into_iter().find_map(|sector: u64| {
        let sectors = reader.length() / sector;
        let places = [Some(256), sectors.checked_sub(1), sectors.checked_sub(257)];
        places.into_iter().flatten().find_map(|at| {
            let bytes = reader.bytes("the UDF anchor", at * sector, 512).ok()?;
            (tag(&bytes) == Some(2) && u64::from(le32(&bytes, 12)) == at).then_some((sector, bytes))
        })
    })
}

/// Reads a volume descriptor sequence (ECMA-167 3/8.4.2).
fn sequence(reader: &Reader<'_>, sector: u64, first: u32, length: u32) -> Result<Sequence, Fault> {
    let mut found = Sequence::default();
    let sectors = (u64::from(length) / sector).min(SEQUENCE);
    for at in u64::from(first)..u64::from(first) + sectors {
        let bytes = reader.bytes("a UDF volume descriptor", at * sector, sector)?;
        match tag(&bytes) {
            Some(1) if found.label.is_empty() => found.label = dstring(bytes.get(24..56).unwrap_or_default()),
            Some(5) => found.partitions.push((le16(&bytes, 22), le32(&bytes, 188), le32(&bytes, 192))),
            Some(6) => found.logical = Some(bytes),
            Some(8) | None => break,
            Some(_) => {}
        }
    }
    match found.logical {
        Some(_) => Ok(found),
        None => Err(Fault::damaged("the UDF volume", "it has no logical volume descriptor")),
    }
}

/// A text field whose last byte is its length (ECMA-167 1/7.2.12).
fn dstring(field: &[u8]) -> String {
    let length = field.last().map_or(0, |length| usize::from(*length));
    text(field.get(..length).unwrap_or_default())
}

/// The identifier of a partition map of type 2.
fn identifier(map: &[u8]) -> &[u8] {
    let field = map.get(5..28).unwrap_or_default();
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// The number of structures. With both file systems, the ISO descriptors come first.
const RECOGNITION: u64 = 40;
/// Sectors; writers reserve 16.
const SEQUENCE: u64 = 64;
/// Real media have one or two.
const PARTITIONS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iso::udf_tag::crc;

    #[test]
    fn text_of_8_and_of_16_bits_is_read() {
        assert_eq!(text(b"\x08abc\xe9"), "abcé");
        assert_eq!(text(b"\x10\x20\xac\x00a"), "€a");
        assert_eq!((text(b""), text(b"\x07x")), (String::new(), String::new()));
        assert_eq!(dstring(b"\x08ab\0\0\x03"), "ab");
        assert_eq!(dstring(b"\x08ab\xff"), "");
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // The example of ECMA-167 3/7.2.6.
        assert_eq!(crc(&[0x70, 0x6a, 0x77]), 0x3299);
    }
}
