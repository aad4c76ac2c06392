//! Any datagram on port 67 or 4011: parsed, decided, and the answer encoded. For the fuzzer as for `cargo test`.

use std::{net::Ipv4Addr, time::Instant};

use netbootd::{
    boot::{
        loader::{Loader, LoaderFile},
        loaders::Loaders,
        machine::Rules,
        roster::Roster,
    },
    dhcp::{
        destination::destination,
        proxy::{Action, Deciding, Here, Port, answer},
        request::Request,
    },
    offers::attempts::{Attempts, Rates},
};

/// A server that nothing limits, with a memory of all that it was ever sent.
pub(crate) struct Server {
    here: Here,
    rules: Rules,
    roster: Roster,
    attempts: Attempts,
}

impl Server {
    pub(crate) fn new() -> Self {
        let file = |name: &str, loader| LoaderFile {
            name: name.into(),
            loader,
            bytes: b"loader".as_slice().into(),
            origin: String::new(),
            version: None,
            sha256: String::new(),
            program: None,
        };
        let files = vec![
            file("undionly.kpxe", Loader::Bios),
            file("snponly.efi", Loader::EfiX86_64),
            file("ipxe-i386.efi", Loader::EfiI386),
            file("ipxe-arm64.efi", Loader::EfiArm64),
            file("snponly-arm32.efi", Loader::EfiArm32),
        ];
        Self {
            here: Here {
                address: Ipv4Addr::new(10, 77, 0, 2),
                base_url: "http://10.77.0.2:8080".into(),
                firmware_url: "http://10.77.0.2:8080".into(),
                interface: "eth1".into(),
            },
            rules: Rules { loaders: Loaders::new(files), has_assets: true, ..Rules::default() },
            roster: Roster::default(),
            attempts: Attempts::new(Rates { total: u32::MAX, per_client: u32::MAX }, []),
        }
    }

    /// The reply; empty where there is none.
    pub(crate) fn reply(&mut self, request: &Request, port: Port, now: Instant) -> Vec<u8> {
        let deciding = Deciding { rules: &self.rules, roster: &self.roster };
        match answer(request, port, &self.here, deciding, &mut self.attempts, now) {
            Action::Reply { reply, .. } => reply.encode().expect("an answer fits its options"),
            Action::Refuse(_) | Action::Ignore(_) => Vec::new(),
        }
    }

    /// Whatever the bytes are, both ports make a refusal of them or a reply that is one.
    pub(crate) fn take(&mut self, datagram: &[u8], now: Instant) {
        let Ok(request) = Request::parse(datagram) else { return };
        for port in [Port::Dhcp, Port::BootServer] {
            let reply = self.reply(&request, port, now);
            assert!(reply.is_empty() || (reply.len() >= 300 && is_reply(&reply)), "{reply:02x?}");
            let _ = destination(&request, "192.0.2.77:4011".parse().expect("an address"), port);
        }
    }
}

/// To a card on Ethernet, or on InfiniBand with an address of its own making or none.
fn is_reply(reply: &[u8]) -> bool {
    matches!(reply, [2, 1, 6, 0, ..] | [2, 32, 0 | 6, 0, ..])
}
