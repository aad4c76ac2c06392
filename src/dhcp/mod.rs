//! The ProxyDHCP stage: the LAN's own DHCP server leases addresses, this adds where to boot.
//!
//! `wire` turns bytes into a [`wire::Request`] and a [`wire::Reply`] into bytes, `proxy` decides what to answer,
//! `destination` where the answer goes, and `serve` is the loop between them and the sockets, which `transport` makes
//! alike: a bound port, or a capture beside whoever has it. `rival` judges what other servers say, and `watch` hears it.

pub mod destination;
pub mod proxy;
pub mod rival;
pub mod serve;
pub mod transport;
pub mod watch;
pub mod wire;
