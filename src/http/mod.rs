//! The HTTP stage: scripts, loaders, kernels and initial RAM disks.
//!
//! Paced by the client's own reading and by nothing else. No timer runs on a body: a BIOS client that pauses for a
//! minute while it unpacks gets the rest when it reads on.

mod account;
mod admission;
mod answers;
pub mod app;
pub mod assets;
mod beginning;
mod connection;
mod conversation;
pub mod ends;
mod io;
pub mod listener;
mod listing;
mod queue;
pub mod range;
mod reply;
mod report;
pub mod request;
pub mod routes;
mod source;
mod watch;
mod whose;
pub mod workers;
