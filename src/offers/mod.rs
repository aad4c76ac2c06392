//! How a firmware is brought to take what it gets: which shape of offer it takes, whether it goes round in circles, and
//! which other servers keep it from booting.

pub mod attempts;
pub mod rival;
