//! Request → Action: what a ProxyDHCP server answers.

use std::{net::Ipv4Addr, sync::Arc, time::Instant};

use super::wire::{Kind, Reply, ReplyKind, Request};
use crate::boot::{
    attempts::{Attempts, Shape},
    client::{Client, Speaks},
    machine::{OfferShape, Rules},
    next::{NextStep, Under, Via, next},
    roster::Roster,
    why::Why,
};

/// The port that a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 67: DISCOVER, and traffic with the leasing server.
    Dhcp,
    /// 4011: the PXE boot server (PXE 2.1 §2.2.5).
    BootServer,
}

impl Port {
    /// As in a UDP header.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Dhcp => 67,
            Self::BootServer => 4011,
        }
    }
}

/// This server as the client's network sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Here {
    /// Our address there.
    pub address: Ipv4Addr,
    /// Our HTTP stage: `http://192.0.2.10:8080`, without a slash at its end.
    pub base_url: String,
    /// The name of the interface.
    pub interface: Arc<str>,
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this.
    Reply {
        /// The message.
        reply: Box<Reply>,
        /// The client.
        client: Client,
        /// What it is told, in words.
        offer: String,
        /// The shape of the offer that it took up before this one, where that is news.
        learned: Option<Shape>,
    },
    /// A boot client that cannot be served: people want to know.
    Refuse(Why),
    /// Nothing of ours.
    Ignore(Why),
}

/// What an answer is decided by.
#[derive(Clone, Copy, Debug)]
pub struct Deciding<'a> {
    /// What the configuration says.
    pub rules: &'a Rules,
    /// What was said since.
    pub roster: &'a Roster,
}

/// Decides what to answer. Pure, and from memory alone: an offer that comes more than 2 s after DISCOVER is one that
/// iPXE has given up on (net/udp/dhcp.c).
#[must_use]
pub fn answer(
    request: &Request,
    port: Port,
    here: &Here,
    Deciding { rules, roster }: Deciding<'_>,
    attempts: &mut Attempts,
    now: Instant,
) -> Action {
    let kind = match reply_kind(request, port, here) {
        Ok(kind) => kind,
        Err(why) => return Action::Ignore(why),
    };
    let client = match request.client() {
        Ok(client) => Client { interface: Some(here.interface.clone()), ..client },
        Err(why) => return Action::Ignore(why),
    };
    if let Err(why) = attempts.admit(client.mac, now) {
        return Action::Ignore(why);
    }
    attempts.heard(client.mac, &here.interface);
    attempts.heard_as(client.mac, client.arch().loader());
    let machine = rules.identity(&client.facts());
    let step = match next(&client, rules, roster) {
        Ok(step) => step,
        Err(why) => return Action::Refuse(why),
    };
    let mut shape = Shape::Direct;
    let mut learned = None;
    match (step, kind) {
        (NextStep::Script, ReplyKind::Offer) => learned = attempts.ipxe_started(machine, request.xid, now),
        (NextStep::Loader { via: Via::Tftp, .. }, _) => {
            let is_weak = matches!(client.speaks, Speaks::Ipxe { .. });
            if let Some(why) = attempts.loader_loop(machine, is_weak, now) {
                return Action::Refuse(why);
            }
            if kind == ReplyKind::Offer {
                shape = match rules.offer {
                    OfferShape::Auto => attempts.offer(machine, now),
                    OfferShape::Always(shape) => shape,
                };
            }
        }
        _ => {}
    }
    let told = Told::new(step, shape, here);
    let reply = Reply {
        kind,
        xid: request.xid,
        broadcast: request.broadcast || is_relayed_to_no_address(request),
        ciaddr: request.ciaddr,
        giaddr: request.giaddr,
        mac: request.mac,
        server: here.address,
        vendor_class: if client.speaks == Speaks::HttpBoot { b"HTTPClient" } else { b"PXEClient" },
        vendor_options: told.vendor_options,
        uuid: request.uuid.clone(),
        bootfile: told.bootfile,
        bootfile_option: matches!(shape, Shape::Option67 | Shape::Option66),
        server_option: shape == Shape::Option66 || step == NextStep::RaspberryPi,
        ipxe: told.ipxe,
        relay_agent: request.relay_agent.clone(),
    };
    Action::Reply { reply: Box::new(reply), client, offer: told.words, learned }
}

/// A relay sends an answer to yiaddr where the client did not ask for a broadcast (RFC 1542 §5.4), and ours has none.
/// iPXE, which does not ask, never heard it.
fn is_relayed_to_no_address(request: &Request) -> bool {
    !request.giaddr.is_unspecified() && request.ciaddr.is_unspecified()
}

/// DISCOVER gets an OFFER; whoever asks us for the rest gets an ACK.
fn reply_kind(request: &Request, port: Port, here: &Here) -> Result<ReplyKind, Why> {
    match (port, request.kind) {
        (Port::Dhcp, Kind::Discover) => Ok(ReplyKind::Offer),
        // A REQUEST on 67 takes up a lease. Ours has none to give, so only one that names us is meant for us. One that
        // also asks for an address (RFC 2131 §4.3.2) is for a leasing server on this very host, which has our address.
        (Port::Dhcp, Kind::Request) => match request.server_id {
            Some(server) if request.requested.is_some() => Err(Why::OtherServer(server)),
            Some(server) if server == here.address => Ok(ReplyKind::Ack),
            Some(server) => Err(Why::OtherServer(server)),
            None => Err(Why::MessageType(3)),
        },
        (Port::Dhcp | Port::BootServer, Kind::Inform) | (Port::BootServer, Kind::Request) => Ok(ReplyKind::Ack),
        (Port::BootServer, Kind::Discover) => Err(Why::MessageType(1)),
        (_, Kind::Other(kind)) => Err(Why::MessageType(kind)),
    }
}

/// The part of a reply that depends on the next step.
struct Told {
    bootfile: String,
    vendor_options: &'static [u8],
    ipxe: &'static [u8],
    words: String,
}

impl Told {
    fn new(step: NextStep<'_>, shape: Shape, Here { address, base_url, .. }: &Here) -> Self {
        match step {
            NextStep::Loader { name, via: Via::Tftp, .. } => {
                let words = format!("{name} by TFTP from {address}");
                let direct = Self { bootfile: name.to_owned(), vendor_options: DIRECT, ipxe: b"", words };
                match shape {
                    Shape::Direct => direct,
                    Shape::BootServer => Self {
                        bootfile: String::new(),
                        vendor_options: b"",
                        words: format!("{}, {shape}", direct.words),
                        ..direct
                    },
                    Shape::Option67 | Shape::Option66 => Self { words: format!("{}, {shape}", direct.words), ..direct },
                }
            }
            NextStep::Loader { name, under, via: Via::Http } => {
                let folder = match under {
                    Under::Loaders => "loaders",
                    Under::Assets => "assets",
                };
                let url = format!("{base_url}/{folder}/{name}");
                Self { words: url.clone(), bootfile: url, vendor_options: b"", ipxe: b"" }
            }
            NextStep::Script => {
                let url = format!("{base_url}/boot.ipxe");
                Self { words: url.clone(), bootfile: url, vendor_options: DIRECT, ipxe: PRIORITY }
            }
            NextStep::RaspberryPi => Self {
                bootfile: String::new(),
                vendor_options: RASPBERRY_PI,
                ipxe: b"",
                words: format!("its own firmware's files by TFTP from {address}"),
            },
        }
    }
}

/// PXE_DISCOVERY_CONTROL (option 43.6) bit 3: take the boot file of this offer, ask no boot server and show no menu.
/// Without it EDK2 stops with PXE-E21.
const DIRECT: &[u8] = b"\x06\x01\x08\xff";
/// The menu whose one entry a Raspberry Pi's boot ROM looks for, and takes siaddr (or option 66) for its TFTP server
/// (Raspberry Pi documentation, "Network boot your Raspberry Pi").
const RASPBERRY_PI: &[u8] = b"\x06\x01\x03\x0a\x04\0PXE\x09\x14\0\0\x11Raspberry Pi Boot\xff";
/// Priority 1 (`DHCP_EB_PRIORITY`): our boot file goes before one that the leasing server may name.
const PRIORITY: &[u8] = b"\x01\x01\x01";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::{
            attempts::Rates,
            client::MacAddr,
            loader::{Loader, Loaders, tests::file},
        },
        dhcp::wire::tests::{UUID, message, reply},
    };

    fn here() -> Here {
        let base_url = "http://192.0.2.10:8080".into();
        Here { address: Ipv4Addr::new(192, 0, 2, 10), base_url, interface: "eth1".into() }
    }

    fn rules() -> Rules {
        let files = vec![file("undionly.kpxe", Loader::Bios), file("snponly.efi", Loader::EfiX86_64)];
        Rules { loaders: Loaders::new(files), ..Rules::default() }
    }

    fn request(kind: u8, options: &[(u8, &[u8])]) -> Request {
        let kind = [kind];
        let options = [&[(53, kind.as_slice()), (97, UUID)], options].concat();
        Request::parse(&message(&options)).expect("a request")
    }

    fn answered(port: Port, kind: u8, options: &[(u8, &[u8])]) -> Action {
        answered_by(&rules(), port, kind, options)
    }

    fn answered_by(rules: &Rules, port: Port, kind: u8, options: &[(u8, &[u8])]) -> Action {
        let mut attempts = Attempts::new(Rates::default(), []);
        decided(&request(kind, options), port, rules, &mut attempts, Instant::now())
    }

    fn decided(request: &Request, port: Port, rules: &Rules, attempts: &mut Attempts, now: Instant) -> Action {
        answer(request, port, &here(), Deciding { rules, roster: &Roster::default() }, attempts, now)
    }

    fn sent(action: Action) -> Reply {
        match action {
            Action::Reply { reply, .. } => *reply,
            other => panic!("{other:?}"),
        }
    }

    const BIOS: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];
    const X64: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])];

    #[test]
    fn discover_gets_an_offer_of_the_loader_that_its_architecture_runs() {
        assert_eq!(sent(answered(Port::Dhcp, 1, BIOS)), reply(ReplyKind::Offer, "undionly.kpxe"));
        assert_eq!(sent(answered(Port::Dhcp, 1, X64)), reply(ReplyKind::Offer, "snponly.efi"));
    }

    #[test]
    fn ipxe_gets_the_script_before_any_other_boot_file() {
        let ipxe: &[(u8, &[u8])] = &[(60, b"PXEClient"), (93, &[0, 0]), (77, b"iPXE"), (175, b"\x13\x01\x01")];
        let expected = Reply { ipxe: b"\x01\x01\x01", ..reply(ReplyKind::Offer, "http://192.0.2.10:8080/boot.ipxe") };
        assert_eq!(sent(answered(Port::Dhcp, 1, ipxe)), expected);
    }

    #[test]
    fn http_boot_gets_its_own_class_and_the_uri_of_the_loader() {
        let http: &[(u8, &[u8])] = &[(60, b"HTTPClient:Arch:00016:UNDI:003001"), (93, &[0, 16])];
        let expected = Reply {
            vendor_class: b"HTTPClient",
            vendor_options: b"",
            ..reply(ReplyKind::Offer, "http://192.0.2.10:8080/loaders/snponly.efi")
        };
        assert_eq!(sent(answered(Port::Dhcp, 1, http)), expected);
    }

    #[test]
    fn the_boot_server_acknowledges_request_and_inform_of_every_architecture() {
        for (kind, client, loader) in [(3, BIOS, "undionly.kpxe"), (3, X64, "snponly.efi"), (8, X64, "snponly.efi")] {
            assert_eq!(sent(answered(Port::BootServer, kind, client)), reply(ReplyKind::Ack, loader));
        }
        assert_eq!(sent(answered(Port::Dhcp, 8, BIOS)), reply(ReplyKind::Ack, "undionly.kpxe"));
        let chosen: &[(u8, &[u8])] = &[(54, &[192, 0, 2, 10])];
        assert_eq!(sent(answered(Port::Dhcp, 3, &[BIOS, chosen].concat())), reply(ReplyKind::Ack, "undionly.kpxe"));
        let leased: &[(u8, &[u8])] = &[(50, &[192, 0, 2, 77])];
        assert_eq!(
            answered(Port::Dhcp, 3, &[BIOS, chosen, leased].concat()),
            Action::Ignore(Why::OtherServer(here().address)),
            "the lease of a server that shares our address"
        );
    }

    #[test]
    fn what_goes_through_a_relay_is_to_be_broadcast_there() {
        let asked = Request { broadcast: false, ..request(1, BIOS) };
        let broadcast = |request: &Request| {
            let mut attempts = Attempts::new(Rates::default(), []);
            sent(decided(request, Port::Dhcp, &rules(), &mut attempts, Instant::now())).broadcast
        };
        let relayed = Request { giaddr: Ipv4Addr::new(198, 51, 100, 1), ..asked.clone() };
        let holder = Request { ciaddr: Ipv4Addr::new(198, 51, 100, 9), ..relayed.clone() };
        assert_eq!([&asked, &relayed, &holder].map(broadcast), [false, true, false]);
    }

    #[test]
    fn what_gets_no_answer_has_a_reason() {
        let other_server: &[(u8, &[u8])] = &[(54, &[192, 0, 2, 1])];
        assert_eq!(
            answered(Port::Dhcp, 3, &[BIOS, other_server].concat()),
            Action::Ignore(Why::OtherServer(Ipv4Addr::new(192, 0, 2, 1)))
        );
        assert_eq!(answered(Port::Dhcp, 1, &[(60, b"MSFT 5.0")]), Action::Ignore(Why::NotPxe));
        assert_eq!(answered(Port::Dhcp, 7, BIOS), Action::Ignore(Why::MessageType(7)));
        assert_eq!(answered(Port::BootServer, 1, BIOS), Action::Ignore(Why::MessageType(1)));
        assert_eq!(
            answered(Port::Dhcp, 1, &[(60, b"PXEClient"), (93, &[0, 11])]),
            Action::Refuse(Why::LoaderMissing(Loader::EfiArm64))
        );
    }

    #[test]
    fn an_offer_has_the_shape_that_is_set_or_the_next_of_the_ladder() {
        let direct = reply(ReplyKind::Offer, "snponly.efi");
        let shapes = [
            direct.clone(),
            Reply { bootfile_option: true, ..direct.clone() },
            Reply { bootfile: String::new(), vendor_options: b"", ..direct.clone() },
            Reply { bootfile_option: true, server_option: true, ..direct },
        ];
        let mut attempts = Attempts::new(Rates::default(), []);
        let start = Instant::now();
        let mut ask = |request: &Request, seconds| {
            let now = start + std::time::Duration::from_secs(seconds);
            decided(request, Port::Dhcp, &rules(), &mut attempts, now)
        };
        for (seconds, expected) in [0, 4, 12, 28].into_iter().zip(&shapes) {
            assert_eq!(&sent(ask(&request(1, X64), seconds)), expected);
        }
        // What the fourth offer led to is an iPXE, so that is the shape to begin with from now on.
        let ipxe: &[(u8, &[u8])] = &[(60, b"PXEClient"), (77, b"iPXE"), (175, b"\x13\x01\x01")];
        let Action::Reply { learned, .. } = ask(&request(1, ipxe), 40) else { panic!("no reply") };
        assert_eq!(learned, Some(Shape::Option66));
        assert_eq!(&sent(ask(&request(1, X64), 100)), &shapes[3]);

        for (shape, expected) in Shape::LADDER.into_iter().zip(&shapes) {
            let rules = Rules { offer: OfferShape::Always(shape), ..rules() };
            assert_eq!(&sent(answered_by(&rules, Port::Dhcp, 1, X64)), expected, "{shape}");
            // Whoever asks the boot server is told everything.
            assert_eq!(sent(answered_by(&rules, Port::BootServer, 3, X64)), reply(ReplyKind::Ack, "snponly.efi"));
        }
    }

    #[test]
    fn a_raspberry_pi_is_shown_the_menu_that_it_looks_for() {
        let rules = Rules { has_assets: true, ..rules() };
        let mut request = request(1, BIOS);
        request.mac = MacAddr([0xdc, 0xa6, 0x32, 1, 2, 3]);
        let mut attempts = Attempts::new(Rates::default(), []);
        let reply = sent(decided(&request, Port::Dhcp, &rules, &mut attempts, Instant::now()));
        assert_eq!((reply.bootfile.as_str(), reply.server_option), ("", true));
        let entry = reply.vendor_options.windows(17).position(|window| window == b"Raspberry Pi Boot");
        assert_eq!(entry, Some(14), "{:?}", reply.vendor_options);
        assert_eq!(reply.vendor_options[10], 20, "the length of the menu's entry");
    }

    #[test]
    fn who_asks_too_often_or_loads_for_ever_is_let_wait() {
        let mut attempts = Attempts::new(Rates::default(), []);
        let now = Instant::now();
        let ask = |attempts: &mut Attempts| decided(&request(1, BIOS), Port::Dhcp, &rules(), attempts, now);
        let answers = (0..100).filter(|_| matches!(ask(&mut attempts), Action::Reply { .. })).count();
        assert_eq!(answers, 20);
        assert_eq!(ask(&mut attempts), Action::Ignore(Why::TooOften("from this machine")));
        let mut attempts = Attempts::new(Rates::default(), []);
        for _ in 0..7 {
            attempts.loader_fetched(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]), now);
        }
        assert_eq!(ask(&mut attempts), Action::Refuse(Why::LoaderLoop(7)));
    }
}
