//! Reads CD and DVD images without a mount, a copy or a system call.
//!
//! [`Index::open`] reads the whole folder tree once, by positional reads through [`ReadAt`]. After that,
//! [`Index::lookup`] and [`Index::list`] do not read the image: an [`Entry`] is a list of byte ranges of the image, so
//! it can be sent from the image itself. An index belongs to one version of an image.
//!
//! | step | file |
//! |---|---|
//! | Bounded, checked reads | [`source`] |
//! | ISO 9660: volume descriptors, directory records, Joliet | `iso9660` |
//! | … Rock Ridge: long names, links, moved folders | `rock_ridge` |
//! | … El Torito: what firmware would boot | [`el_torito`] |
//! | UDF: descriptors, allocation, folders | `udf`, `udf_tag`, `udf_volume`, `udf_file` |
//! | Both become one tree with limits | `tree` |
//! | … behind one type, which picks the side | [`index`], `volume` |
//! | What an image is, and how a machine boots it | [`recognise`], by the table in ★ [`families`] |
//! | … in a table's row, and in the result | [`family`], [`recognised`] |
//! | … what it says of itself, and what its own menus start | `facts`, [`menu`] with `grub_script`, [`kernel`] |
//! | Whether it is damaged, by the checksums that it carries | [`verify`] |
//! | Files that are made of pieces of it | [`segments`], [`unpacked`], [`esxi`] |
//!
//! # Why this is not a library
//!
//! The available crates were checked. `hadris-iso` and `hadris-udf` (MIT) have the features, but 2.5 has about twenty
//! `unsafe` blocks, and 3.0 is a release candidate with an unstable interface. Both return data through readers, not as
//! byte ranges, which `sendfile` needs. `isomage` (MIT) cuts files over 4 GiB and does not follow Rock Ridge's
//! continuation areas. `cdfs` and the four crates named after `iso9660` do not support files with several extents. None
//! has a fuzz target, or a limit for what a hostile image makes it read.
#![forbid(unsafe_code)]

pub mod el_torito;
pub mod esxi;
mod extent;
mod facts;
pub mod families;
#[cfg(test)]
mod families_tests;
pub mod family;
pub mod fault;
mod grub_script;
pub mod index;
mod iso9660;
pub mod kernel;
#[cfg(any(test, fuzzing))]
pub mod made;
pub mod menu;
pub mod name;
mod not_image;
#[cfg(any(test, fuzzing))]
pub mod ordeal;
pub mod recognise;
pub mod recognised;
mod rock_ridge;
pub mod segments;
pub mod source;
mod tree;
mod udf;
mod udf_file;
mod udf_tag;
mod udf_volume;
pub mod unpacked;
pub mod verify;
mod volume;
mod when;

pub use extent::Extent;
pub use fault::Fault;
pub use index::{Entry, Found, Index, Item, Kind};
pub use source::ReadAt;
pub use volume::{Side, Volume};
