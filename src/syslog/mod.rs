//! The syslog server: messages of iPXE and installers during a boot, for the timeline of their machine. It sends
//! nothing.

pub mod bounds;
pub mod line;
pub mod serve;
