//! What people and programs read from a running server, and change in it: views of what the stages saw and of what decides.

pub mod access;
pub mod api;
pub mod bundle;
pub mod events;
mod known;
pub mod leases;
mod masked;
pub mod metrics;
mod openapi;
pub mod page;
mod process;
pub mod screen;
pub mod server;
mod shapes;
pub mod tally;
pub mod view;
