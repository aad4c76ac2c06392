//! The assets folder. TFTP, HTTP and the check of the configuration all use this, so none of them can read anything
//! outside it.

pub mod alias;
mod asset;
mod case;
mod folder;
pub mod found;
pub mod image;
mod images;
mod inside;
pub mod listing;
pub mod made;
pub mod names;
pub mod permission;
pub mod pxelinux;
mod root;

pub use self::{
    asset::Asset,
    root::{AssetRoot, Followed},
};
