//! Leases of our own, for networks without a DHCP server (RFC 2131). Decisions only: no socket, file or clock.
//!
//! `terms` is what the configuration says. `network` is a network that addresses are leased on. `book` holds the leases
//! and decides who gets which address. `guard` decides whether we may lease at all: never beside another DHCP server.
//! `kept` is a lease as it is stored.
//! `view` is what people and programs see of it.

pub mod book;
pub mod guard;
pub mod kept;
pub mod network;
pub mod terms;
pub mod view;

use std::time::Duration;

/// A time, as the duration since the host started (CLOCK_BOOTTIME). Nobody can set this clock, so no lease ends early
/// because of a wrong time of day.
pub type At = Duration;
