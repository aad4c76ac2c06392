//! The syslog stage: what iPXE and installers say while they boot, for their machines' timelines. It answers nothing.

pub mod bounds;
pub mod line;
pub mod serve;
