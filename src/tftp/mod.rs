//! The TFTP stage: loaders for firmware, and the assets folder for boot programs that speak nothing else.
//!
//! `packet` reads bytes, `files` names what is asked for, `transfer` is the state machine of one transfer (no socket,
//! no clock), and `serve` drives all transfers over their sockets.

pub mod files;
pub mod packet;
pub mod serve;
pub mod transfer;
