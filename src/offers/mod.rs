//! How firmware is made to take an offer: which shape of offer it takes, whether it is in a boot loop, and
//! which other servers keep it from booting.

pub mod attempts;
pub mod bucket;
pub mod rival;
pub mod trust;
