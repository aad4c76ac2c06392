//! Captured requests of real firmware, each with the whole reply that it then booted by.
//!
//! A file holds the words for the client, then the UDP payload of its request and of our reply in hexadecimal; no reply
//! where it gets none. They were taken at 10.77.0.2, in the network of `tests/boot`. A new firmware is a new file here.

use std::{fs, net::Ipv4Addr, path::Path, time::Instant};

use netbootd::{
    boot::{
        attempts::{Attempts, Rates},
        loader::{Loader, LoaderFile, Loaders},
        machine::Rules,
        roster::Roster,
    },
    dhcp::{
        proxy::{Action, Deciding, Here, Port, answer},
        wire::Request,
    },
};

#[test]
fn every_captured_request_gets_the_reply_that_booted_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/packets");
    let here = Here { address: Ipv4Addr::new(10, 77, 0, 2), base_url: "http://10.77.0.2:8080".into() };
    let (rules, roster) = (rules(), Roster::default());
    let deciding = Deciding { rules: &rules, roster: &roster };
    let mut count = 0;
    for entry in fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()) {
        if entry.extension().is_none_or(|extension| extension != "hex") {
            continue;
        }
        let text = fs::read_to_string(&entry).expect("text");
        let (request, expected) = text.split_once("# reply\n").expect("a reply behind the request");
        let (_, request) = request.split_once("# request\n").expect("a request behind the words");
        let request = Request::parse(&bytes(request)).expect("a request");
        let mut attempts = Attempts::new(Rates::default(), []);
        let reply = match answer(&request, Port::Dhcp, &here, deciding, &mut attempts, Instant::now()) {
            Action::Reply { reply, .. } => reply.encode().expect("it fits"),
            Action::Refuse(_) | Action::Ignore(_) => Vec::new(),
        };
        assert_eq!(reply, bytes(expected), "{}", entry.display());
        count += 1;
    }
    assert!(count >= 8, "only {count} files were found");
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<u8> = hexadecimal.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
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
    let files = vec![file("undionly.kpxe", Loader::Bios), file("snponly.efi", Loader::EfiX86_64)];
    Rules { loaders: Loaders::new(files), ..Rules::default() }
}
