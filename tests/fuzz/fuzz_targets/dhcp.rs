//! Any datagram on port 67 or 4011. `tests/fuzz/run dhcp SECONDS` begins with the real packets of `tests/packets`.

#![no_main]

#[path = "../../packets/any_datagram.rs"]
mod any_datagram;

use std::time::Instant;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|datagram: &[u8]| {
    // A memory of its own for each, so that a finding is one file.
    any_datagram::Server::new().take(datagram, Instant::now());
});
