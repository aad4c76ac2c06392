//! Network functions of the operating system that the servers use. Nothing here is specific to network boot.

pub mod arp;
pub mod boot_time;
pub mod bound;
pub mod capture;
pub mod changes;
pub mod conflict;
pub mod echo;
pub mod frame;
pub mod holder;
pub mod inherited;
pub mod interface;
pub mod limits;
pub mod link;
pub mod makers;
pub mod own_loop;
pub mod port;
pub mod proxies;
pub mod raw;
pub mod tcp_info;
pub mod udp;
pub mod wake;
