//! What the stages need of the operating system's network, and nothing of netbooting.

pub mod changes;
pub mod frame;
pub mod holder;
pub mod interface;
pub mod limits;
pub mod port;
pub mod raw;
pub mod tcp_info;
pub mod udp;
