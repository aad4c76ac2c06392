//! Any datagram on the syslog port: what is made of it is one short line that can be shown.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run syslog --fuzz-dir tests/fuzz -- -max_len=3000`

#![no_main]

use libfuzzer_sys::fuzz_target;
use netbootd::syslog::line::{LONGEST, read};

fuzz_target!(|datagram: &[u8]| {
    if let Some(line) = read(datagram) {
        assert!(!line.is_empty() && line.chars().count() <= LONGEST);
        assert!(!line.contains(char::is_control) && line.trim() == line);
    }
});
