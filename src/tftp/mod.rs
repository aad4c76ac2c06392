//! The TFTP stage: loaders for firmware, and the assets folder for boot programs that speak nothing else.
//!
//! `packet` reads bytes, `transfer` is the state machine of one transfer (no socket, no clock). `requests` is what a request is answered with, `source` gives the file's bytes, `run` is a transfer with
//! its port, `running` all of them, `bounds` what they are held to. `serve` is the loop, and `apart` the thread for a
//! transfer that is alone.

mod apart;
mod bounds;
#[cfg(any(test, fuzzing))]
pub mod ordeal;
pub mod packet;
mod requests;
mod run;
mod running;
pub mod serve;
pub mod source;
pub mod transfer;
