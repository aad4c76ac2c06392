//! The TFTP server: loaders for firmware, and the assets folder for boot programs that use only TFTP.
//!
//! `packet` reads bytes, `asker` detects the program that sent them, `transfer` is the state machine of one transfer
//! (no socket, no clock). `intake` receives requests, `requests` finds the file and the port for one, `source` reads
//! the file, `run` is a transfer with its port, `running` has all transfers, `bounds` their limits, and `gone` those
//! that were given up while their client may come back. `serve` is the loop, and `apart` the thread for a transfer that
//! runs alone.

mod apart;
pub mod asker;
mod bounds;
mod gone;
mod held;
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
