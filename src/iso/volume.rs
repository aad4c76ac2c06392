//! What an image says of itself in its descriptors.

use super::{
    el_torito::{self, BootEntry},
    fault::Fault,
    iso9660::Descriptors,
    source::Reader,
    udf_volume::Udf,
};

/// The data in an image's descriptors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// The file system that is used.
    pub side: Side,
    /// The volume's name.
    pub label: String,
    /// The system that it is for (system identifier of ISO 9660).
    pub system: String,
    /// The publisher.
    pub publisher: String,
    /// The program that wrote it.
    pub application: String,
    /// A field for the writer's own use. isomd5sum puts a checksum there.
    pub application_use: String,
    /// The size of the file in bytes.
    pub length: u64,
    /// The size in bytes in the volume descriptor. A smaller file is incomplete.
    pub stated: u64,
    /// The boot images for firmware.
    pub boot_entries: Vec<BootEntry>,
    /// Why the other file system of the image was not used, if it has a fault.
    pub passed_over: Option<Fault>,
}

/// The file system that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// ISO 9660 with Rock Ridge.
    RockRidge,
    /// ISO 9660 with Joliet.
    Joliet,
    /// ISO 9660 alone.
    Plain,
    /// UDF.
    Udf,
}

impl Side {
    /// The name for users.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::RockRidge => "ISO 9660 with Rock Ridge",
            Self::Joliet => "ISO 9660 with Joliet",
            Self::Plain => "ISO 9660",
            Self::Udf => "UDF",
        }
    }
}

impl Volume {
    pub(super) fn of_iso(reader: &Reader<'_>, all: Descriptors, side: Side) -> Self {
        let primary = &all.primary;
        Self {
            side,
            label: primary.text(40, 32),
            system: primary.text(8, 32),
            publisher: primary.text(318, 128),
            application: primary.text(574, 128),
            application_use: primary.text(883, 512),
            length: reader.length(),
            stated: primary.volume_size(),
            boot_entries: all.catalogue.map(|block| el_torito::entries(reader, block)).unwrap_or_default(),
            passed_over: None,
        }
    }

    pub(super) fn of_udf(udf: &Udf<'_>) -> Self {
        Self {
            side: Side::Udf,
            label: udf.label().to_owned(),
            system: String::new(),
            publisher: String::new(),
            application: String::new(),
            application_use: String::new(),
            length: udf.reader().length(),
            stated: udf.stated(),
            boot_entries: Vec::new(),
            passed_over: None,
        }
    }
}
