//! UDF: a volume that was found, and where its blocks are.

use super::{
    extent::Extent,
    fault::Fault,
    source::Reader,
    udf_tag::{Block, Icb, Tagged},
};

/// A UDF volume.
pub(super) struct Udf<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) block_size: u64,
    pub(super) label: String,
    pub(super) partitions: Vec<Partition>,
    pub(super) root: Icb,
    /// Bytes that the volume says it has.
    pub(super) stated: u64,
}

/// Where a partition's blocks are.
#[derive(Debug)]
pub(super) enum Partition {
    /// One run, from an offset in bytes.
    Physical(u64),
    /// In the extents of the metadata file (UDF 2.50 §2.2.10).
    Metadata(Vec<Extent>),
    /// Of a kind that is not read, and why.
    NotRead(&'static str),
}

impl<'a> Udf<'a> {
    /// The volume's name.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// Bytes that the volume says it has.
    pub(super) fn stated(&self) -> u64 {
        self.stated
    }

    pub(super) fn reader(&self) -> &'a Reader<'a> {
        self.reader
    }

    /// The root folder.
    pub(super) fn root(&self) -> Result<Icb, Fault> {
        Ok(self.root)
    }

    /// Where a block is, in bytes. Metadata are looked for block by block: their extents need not follow each other.
    pub(super) fn offset(&self, block: Block) -> Result<u64, Fault> {
        let at = u64::from(block.number) * self.block_size;
        match self.partitions.get(usize::from(block.partition)) {
            Some(Partition::Physical(start)) => Ok(start + at),
            Some(Partition::Metadata(extents)) => {
                let mut passed = 0;
                for extent in extents {
                    if at < passed + extent.length {
                        let offset = extent.offset.map(|offset| offset + (at - passed));
                        return offset.ok_or_else(|| Fault::damaged("the UDF volume", "its metadata has a hole"));
                    }
                    passed += extent.length;
                }
                Err(Fault::damaged("the UDF volume", "a block lies outside of its metadata"))
            }
            Some(Partition::NotRead(why)) => Err(Fault::NotRead(why)),
            None => Err(Fault::damaged("the UDF volume", "a block lies in a partition that it has not")),
        }
    }

    /// A tagged descriptor of at least so many bytes.
    pub(super) fn descriptor(&self, what: &str, block: Block, least: usize) -> Result<Tagged, Fault> {
        let offset = self.offset(block)?;
        let tagged = Tagged::new(self.reader.bytes(what, offset, self.block_size)?, offset);
        let tagged = tagged.filter(|tagged| tagged.bytes.len() >= least);
        tagged.ok_or_else(|| Fault::damaged(what, "its UDF descriptor has a wrong checksum"))
    }
}
