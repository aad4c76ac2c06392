//! Captured requests of real firmware, each with the whole reply that it then booted by.
//!
//! A file holds the words for the client, then the UDP payload of its request (`# request`; `# request to port 4011`
//! where it asked the boot server) and of our reply in hexadecimal; no reply where it gets none. They were taken at
//! 10.77.0.2, in the network of `tests/boot`. A new firmware is a new file here.

use std::{net::Ipv4Addr, time::Instant};

use netbootd::{
    boot::{
        attempts::{Attempts, Rates},
        loader::{Loader, LoaderFile, Loaders},
        machine::Rules,
    },
    dhcp::{
        proxy::{Action, Here, Port, answer},
        wire::Request,
    },
};
use netbootd_lab::Captured;

#[test]
fn every_captured_request_gets_the_reply_that_booted_it() {
    let here = Here { address: Ipv4Addr::new(10, 77, 0, 2), base_url: "http://10.77.0.2:8080".into() };
    let captured = Captured::all().expect("the files are readable");
    assert!(captured.len() >= 19, "only {} files were found", captured.len());
    for Captured { name, port, request, reply, .. } in captured {
        let request = Request::parse(&request).expect("a request");
        let port = if port == 4011 { Port::BootServer } else { Port::Dhcp };
        let mut attempts = Attempts::new(Rates::default(), []);
        let answered = match answer(&request, port, &here, &rules(), &mut attempts, Instant::now()) {
            Action::Reply { reply, .. } => reply.encode().expect("it fits"),
            Action::Refuse(_) | Action::Ignore(_) => Vec::new(),
        };
        assert_eq!(answered, reply, "{name}");
    }
}

fn rules() -> Rules {
    let file = |name: &str, loader| LoaderFile {
        name: name.into(),
        loader,
        bytes: b"loader".as_slice().into(),
        origin: String::new(),
        version: None,
        sha256: String::new(),
    };
    let files = vec![
        file("undionly.kpxe", Loader::Bios),
        file("snponly.efi", Loader::EfiX86_64),
        file("ipxe-i386.efi", Loader::EfiI386),
        file("ipxe-arm64.efi", Loader::EfiArm64),
    ];
    Rules { loaders: Loaders::new(files), ..Rules::default() }
}
