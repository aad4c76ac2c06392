//! `netbootd doctor`: looks at the host, asks the network, and fetches what is offered. It says what keeps machines from
//! booting, what it saw, and how to fix it. It changes nothing.
//!
//! Judgement is pure: evidence in, findings out ([`host`], [`firewall`], [`network`], [`path`], and [`client`] for what is
//! sent). The evidence is collected by [`look`], [`ask`], [`probe`] and [`configuration`].

pub mod ask;
pub mod client;
pub mod configuration;
pub mod echo;
pub mod finding;
pub mod firewall;
pub mod host;
pub mod http;
pub mod look;
pub mod network;
pub mod path;
pub mod probe;
pub mod run;
pub mod tftp;
