//! What the stages need of the operating system's network, and nothing of netbooting.

pub mod interface;
pub mod port;
pub mod tcp_info;
pub mod udp;
