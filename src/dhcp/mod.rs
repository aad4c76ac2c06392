//! The ProxyDHCP stage: the LAN's own DHCP server leases addresses, this adds where to boot.
//!
//! `wire` reads and writes the bytes. A `request` is who asks: `ipxe` tells iPXE from firmware, `infiniband` the cards
//! whose address does not fit, `relay_agent` what relays want, `vendor_options` what PXE says in option 43. `proxy`
//! decides what to answer, `offer` in which shape, `destination` where the answer goes; a `reply` is that answer.
//! `serve` is the loop between them and the sockets, with the answers that are to wait in `delayed`; `transport` makes
//! the sockets alike: a bound port, or a capture beside whoever has it. `rival` judges what other servers have
//! `offered`, and `watch` hears it.

pub mod delayed;
pub mod destination;
pub mod infiniband;
pub mod ipxe;
pub mod offer;
pub mod offered;
pub mod proxy;
pub mod relay_agent;
pub mod reply;
pub mod request;
pub mod rival;
pub mod serve;
pub mod sub_options;
pub mod transport;
pub mod vendor_options;
pub mod watch;
pub mod wire;
