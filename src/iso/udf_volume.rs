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
    /// The size of the volume in bytes, as the descriptor says.
    pub(super) stated: u64,
}

/// The position of a partition's blocks.
#[derive(Debug)]
pub(super) enum Partition {
    /// Contiguous, from an offset in bytes.
    Physical(u64),
    /// In the extents of the metadata file (UDF 2.50 §2.2.10).
    Metadata(Vec<Extent>),
    /// An unsupported kind, with the reason.
    NotRead(&'static str),
}

impl<'a> Udf<'a> {
    /// The volume's name.
    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The size of the volume in bytes, as the descriptor says.
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

    /// The position of a block in bytes. Metadata is read block by block, because its extents may not be contiguous.
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
                Err(Fault::damaged("the UDF volume", "a block is outside its metadata"))
            }
            Some(Partition::NotRead(why)) => Err(Fault::NotRead(why)),
            None => Err(Fault::damaged("the UDF volume", "a block is in a partition that does not exist")),
        }
    }

    /// A tagged descriptor with at least this many bytes.
    pub(super) fn descriptor(&self, what: &str, block: Block, least: usize) -> Result<Tagged, Fault> {
        let offset = self.offset(block)?;
        let tagged = Tagged::new(self.reader.bytes(what, offset, self.block_size)?, offset);
        let tagged = tagged.filter(|tagged| tagged.bytes.len() >= least);
        tagged.ok_or_else(|| Fault::damaged(what, "its UDF descriptor has a wrong checksum"))
    }
}
