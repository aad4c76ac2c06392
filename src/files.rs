//! The assets folder: one way in for TFTP, HTTP and the configuration's check, so that nothing outside it can be
//! read by any of them.

mod asset;
mod case;
mod folder;
pub mod found;
pub mod image;
mod images;
mod inside;
pub mod listing;
pub mod names;
pub mod permission;
pub mod pxelinux;
mod root;

pub use self::{
    asset::Asset,
    root::{AssetRoot, Followed},
};
