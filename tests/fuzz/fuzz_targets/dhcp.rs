//! Any datagram on port 67 or 4011: parsed, decided, and the answer encoded. Real packets to begin with are in
//! `tests/packets`.
//!
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run dhcp --fuzz-dir tests/fuzz -- -max_len=1500`

#![no_main]

use std::{net::Ipv4Addr, time::Instant};

use libfuzzer_sys::fuzz_target;
use netbootd::{
    boot::{
        attempts::{Attempts, Rates},
        loader::{Loader, LoaderFile, Loaders},
        machine::Rules,
    },
    dhcp::{
        destination::destination,
        proxy::{Action, Here, Port, answer},
        wire::Request,
    },
};

fuzz_target!(|datagram: &[u8]| {
    let Ok(request) = Request::parse(datagram) else { return };
    let here = Here { address: Ipv4Addr::new(192, 0, 2, 10), base_url: "http://192.0.2.10:8080".into() };
    let file = LoaderFile {
        name: "snponly.efi".into(),
        loader: Loader::EfiX86_64,
        bytes: b"loader".as_slice().into(),
        origin: String::new(),
        version: None,
        sha256: String::new(),
    };
    let rules = Rules { loaders: Loaders::new(vec![file]), ..Rules::default() };
    for port in [Port::Dhcp, Port::BootServer] {
        let mut attempts = Attempts::new(Rates::default(), []);
        if let Action::Reply { reply, .. } = answer(&request, port, &here, &rules, &mut attempts, Instant::now()) {
            let bytes = reply.encode().expect("an answer fits its options");
            assert!(bytes.len() >= 300 && bytes.starts_with(&[2, 1, 6, 0]));
            let _ = destination(&request, "192.0.2.77:4011".parse().expect("an address"), port);
        }
    }
});
