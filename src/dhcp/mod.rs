//! The ProxyDHCP stage: the LAN's own DHCP server leases addresses, this adds where to boot.
//!
//! `wire` turns bytes into a [`wire::Request`] and a [`wire::Reply`] into bytes, `proxy` decides what to answer,
//! `destination` where the answer goes, and `serve` is the loop between them and the sockets.

pub mod destination;
pub mod proxy;
pub mod serve;
pub mod wire;
