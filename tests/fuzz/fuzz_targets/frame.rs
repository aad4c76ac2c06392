//! Any frame that a tap may hear: its headers, and what a server or a client says in it.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run frame --fuzz-dir tests/fuzz -- -max_len=1500`

#![no_main]

use std::{net::Ipv4Addr, time::Instant};

use libfuzzer_sys::fuzz_target;
use netbootd::{
    dhcp::{
        offered::Offered,
        request::Request,
        rival::{Rivals, rivals},
    },
    net::frame::Frame,
};

fuzz_target!(|bytes: &[u8]| {
    // As a frame, and as what a good frame carries: the fuzzer need not find the headers first.
    let frame = Frame::parse(bytes);
    if let Some(frame) = frame {
        let built = frame.build().expect("what came in a packet fits into one");
        assert_eq!(Frame::parse(&built), Some(frame));
    }
    let payload = frame.map_or(bytes, |frame| frame.payload);
    let _ = Request::parse(payload);
    if let Ok(offered) = Offered::parse(payload) {
        let ours = [Ipv4Addr::new(192, 0, 2, 10)];
        let (mut told, all) = (Rivals::default(), rivals(&offered, Ipv4Addr::new(192, 0, 2, 1), &ours, &[]));
        assert!(all.len() <= 2, "{all:?}");
        assert!(all.iter().all(|rival| told.is_news(rival, Instant::now())), "{all:?}");
    }
});
