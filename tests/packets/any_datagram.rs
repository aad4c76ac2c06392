//! Any datagram on port 67 or 4011: parsed, decided, and the answer encoded. For the fuzzer as for `cargo test`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use netbootd::{
    boot::{
        loader::{Loader, LoaderFile},
        loaders::Loaders,
        machine::Rules,
        roster::Roster,
    },
    dhcp::{
        destination::destination,
        lease::{Step, decide},
        lessor::plain,
        offered::Offered,
        proxy::{Action, Deciding, Here, Port, answer},
        reply::{LeaseOptions, ReplyKind},
        request::Request,
    },
    lease::{
        book::{Ask, Book},
        network::Network,
        terms::{Prefix, Terms},
    },
    offers::attempts::{Attempts, Rates},
};

/// A server that nothing limits, with a memory of all that it was ever sent.
pub(crate) struct Server {
    here: Here,
    rules: Rules,
    roster: Roster,
    attempts: Attempts,
    network: Network,
    book: Book,
    /// Since the host started.
    now: Duration,
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
            network: network(),
            book: Book::default(),
            now: Duration::from_secs(1),
        }
    }

    /// The reply; empty where there is none.
    pub(crate) fn reply(&mut self, request: &Request, port: Port, now: Instant) -> Vec<u8> {
        let deciding = Deciding { rules: &self.rules, roster: &self.roster };
        match answer(request, port, &self.here, deciding, &mut self.attempts, now) {
            Action::Reply { reply, .. } => reply.encode(),
            Action::Refuse(..) | Action::Ignore(_) => Vec::new(),
        }
    }

    /// Whatever the bytes are, both ports make a refusal of them or a reply that is one.
    pub(crate) fn take(&mut self, datagram: &[u8], now: Instant) {
        // What another server may have sent.
        let _ = Offered::parse(datagram);
        let Ok(request) = Request::parse(datagram) else { return };
        self.lease(&request);
        for port in [Port::Dhcp, Port::BootServer] {
            let reply = self.reply(&request, port, now);
            assert!(reply.is_empty() || (reply.len() >= 300 && is_reply(&reply)), "{reply:02x?}");
            let _ = destination(&request, "192.0.2.77:4011".parse().expect("an address"), port);
        }
    }
}

impl Server {
    /// The same with leases: every reply about one is a reply, with an address of the range or none.
    fn lease(&mut self, request: &Request) {
        self.now += Duration::from_millis(10);
        let (network, server) = (&self.network, self.here.address);
        let ask = Ask {
            network,
            card: request.mac,
            is_boot: request.client().is_ok(),
            reserved: None,
            reservations: &BTreeSet::new(),
            now: self.now,
        };
        let step = decide(request, &ask, &mut self.book, |named| named == server, request.secs.is_multiple_of(2));
        let (kind, given) = match step {
            Step::Offer(given) => (ReplyKind::Offer, Some(given)),
            Step::Ack(given) => (ReplyKind::Ack, Some(given)),
            Step::Inform => (ReplyKind::Ack, None),
            Step::Nak(_) => (ReplyKind::Nak, None),
            Step::Proxy | Step::Changed(_) | Step::Silence(_) => return,
        };
        let lease = (kind != ReplyKind::Nak).then(|| LeaseOptions {
            address: given.map(|given| given.address),
            time: network.time,
            mask: network.prefix.mask(),
            options: network.options.clone(),
            max_size: request.max_size.into(),
        });
        let reply = plain(request, kind, server, lease).encode();
        assert!(is_reply(&reply) && (300..=1472).contains(&reply.len()), "{reply:02x?}");
        let is_given = given.is_none_or(|given| network.leases(given.address, false) && given.address != server);
        assert!(is_given, "{given:?}");
        assert!(given.is_none_or(|given| self.book.is_of(given.address, request.mac, self.now)), "{given:?}");
    }
}

/// All that a network can have, in more bytes than a small message takes.
fn network() -> Network {
    let ranges = vec!["10.77.1.0-10.77.200.255".parse().expect("a range")];
    let options = (200..204).map(|code| (code, vec![code; 200])).collect::<BTreeMap<_, _>>();
    let terms = Terms { enabled: true, ranges, time: Duration::from_secs(60), options };
    let own = Ipv4Addr::new(10, 77, 0, 2);
    Network::new("eth1".into(), Prefix::of(own, 16), vec![own], &terms).expect("it fits")
}

/// To a card on Ethernet or another network of IEEE 802, or on InfiniBand with an address of its own making or none.
fn is_reply(reply: &[u8]) -> bool {
    matches!(reply, [2, 1 | 6, 6, 0, ..] | [2, 32, 0 | 6, 0, ..])
}
