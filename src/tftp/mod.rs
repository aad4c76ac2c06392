//! The TFTP stage: loaders for firmware, and the assets folder for boot programs that speak nothing else.
//!
//! `packet` reads bytes, `files` names what is asked for, `transfer` is the state machine of one transfer (no socket,
//! no clock). `serve` makes transfers of requests, `run` drives one over its socket, `source` gives it the file's
//! bytes, and `shared` holds what bounds them all.

pub mod files;
pub mod packet;
mod run;
pub mod serve;
pub mod shared;
pub mod source;
pub mod transfer;
