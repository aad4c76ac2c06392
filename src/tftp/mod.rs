//! The TFTP stage: loaders for firmware, and the assets folder for boot programs that speak nothing else.
//!
//! `packet` reads bytes, `asker` tells who sent them, `transfer` is the state machine of one transfer (no socket, no
//! clock). `intake` takes requests, `requests` is what one is answered with, `source` gives the file's bytes, `run` is a
//! transfer with its port, `running` all of them, `bounds` what they are held to, and `gone` those that are over while
//! their client may come back. `serve` is the loop, and `apart` the thread for a transfer that is alone.

mod apart;
pub mod asker;
mod bounds;
mod gone;
mod intake;
#[cfg(any(test, fuzzing))]
pub mod ordeal;
pub mod packet;
mod requests;
mod run;
mod running;
pub mod serve;
pub mod source;
mod token;
pub mod transfer;
