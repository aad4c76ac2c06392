//! What was seen of each boot, and why it stopped. The stages send [`event`]s; one recorder keeps [`machines`], of which each
//! has the [`boot`]s that were seen; [`cause`] says how a boot stands.
//!
//! It reads the values of [`crate::boot`], which know nothing of it.

pub mod boot;
pub mod cause;
pub mod event;
mod handover;
pub mod kept;
mod machine;
pub mod machines;
pub mod merged;
pub mod moment;
pub mod peer;
pub mod report;
pub mod stage;
pub mod transfer;
