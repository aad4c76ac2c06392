//! A whole TFTP transfer against any client: its packets, and the time between them. The rules are beside the code, in
//! `tftp::ordeal`.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run tftp_transfer --fuzz-dir tests/fuzz -- -max_len=1500`

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| netbootd::tftp::ordeal::survive(script));
