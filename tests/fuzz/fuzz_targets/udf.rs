//! An image that someone changed: the UDF reader opens it, walks over all of it and looks everything up. The rules are
//! beside the code, in `iso::ordeal`.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run udf --fuzz-dir tests/fuzz -- -max_len=1500`

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| netbootd::iso::ordeal::survive_udf(script));
