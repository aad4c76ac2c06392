//! The texts in an image that are read: boot menus, `.disk/info`, lists of checksums, `boot.cfg`. The rules are beside the code,
//! in `iso::ordeal`.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run iso_texts --fuzz-dir tests/fuzz -- -max_len=1500`

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| netbootd::iso::ordeal::survive_texts(script));
