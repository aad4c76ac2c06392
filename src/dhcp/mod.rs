//! The ProxyDHCP server. The main DHCP server of the network leases addresses; netbootd adds the boot file.
//!
//! `wire` reads and writes the bytes. `request` is the client's message: `ipxe` distinguishes iPXE from firmware,
//! `infiniband` reads cards with long addresses, `relay_agent` reads options of relays, `vendor_options` reads and
//! writes the PXE options in option 43. `proxy` decides the reply, `offer` its format, `destination` its receiver;
//! `reply` is the reply itself. `serve` is the loop between them and the sockets; `delayed` keeps replies that have to
//! wait. `transport` hides whether the socket is an open port or a capture beside another program. `rival` detects
//! other boot servers in the messages (`offered`) that `watch` receives.
//!
//! With leases of our own, `lease` decides about the address, by the book in [`crate::lease`]. `office` has the leases of
//! the server, with a desk for each interface, which has a guard; `lessor` keeps the replies of one socket that wait
//! (`waiting`).

pub mod answer;
pub mod delayed;
pub mod destination;
pub mod infiniband;
pub mod ipxe;
pub mod lease;
pub mod lessor;
pub mod offer;
pub mod offered;
pub mod office;
pub mod proxy;
pub mod relay_agent;
pub mod reply;
pub mod request;
pub mod rival;
pub mod serve;
pub mod standby;
pub mod sub_options;
pub mod transport;
pub mod vendor_options;
pub mod waiting;
pub mod watch;
pub mod wire;
