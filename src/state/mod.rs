//! What is kept over a restart: in one SQLite file, or on a PostgreSQL server that several appliances share.
//!
//! A call that returned has reached the disk. A boot never waits for it: errors are logged, and boots continue without
//! it.

mod engine;
mod fault;
mod learned;
mod leases;
mod private;
mod row;
mod shared;
mod store;

pub use self::{
    fault::{StateError, words},
    shared::{Appliance, Changes, Known, NotKept},
    store::State,
};
