//! Request → action: decides the reply of the ProxyDHCP server.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    offer::{Offer, Servers},
    reply::{Reply, ReplyKind},
    request::{Kind, Request},
    vendor_options::VendorOptions,
};
use crate::{
    boot::{
        chain::Trust,
        client::{Client, Speaks},
        identity::MachineId,
        machine::{OfferShape, Rules},
        next::{NextStep, Under, Via, next},
        own::Own,
        pxelinux,
        reason::Reason,
        roster::Roster,
        shape::Shape,
    },
    offers::{attempts::Attempts, trust::NextTrust},
};

/// The port on which a request arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// 67: DISCOVER, and messages to the DHCP server.
    Dhcp,
    /// 4011: the PXE boot server (PXE 2.1 §2.2.5).
    BootServer,
}

impl Port {
    /// The port number.
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
    /// Our HTTP server: `http://192.0.2.10:8080`, without a slash at the end.
    pub base_url: String,
    /// The same for firmware, which often has no DNS: always with an IP address.
    pub firmware_url: String,
    /// The name of the interface.
    pub interface: Arc<str>,
}

/// The result for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this reply.
    Reply {
        /// The reply.
        reply: Box<Reply>,
        /// The client.
        client: Client,
        /// The machine that it is.
        machine: MachineId,
        /// A description of the reply, for the log.
        offer: String,
        /// The offer format that worked for the client, if this is new.
        learned: Option<Shape>,
        /// What it is offered, if this does not lead to one of our scripts.
        own: Option<Own>,
        /// How long to wait before the reply is sent.
        delay: Duration,
        /// Its firmware was offered a loader, and what came of that is not known.
        was_offered_loader: bool,
    },
    /// A boot client that cannot be served. Users need to know.
    Refuse(MachineId, Reason),
    /// The message is not for us.
    Ignore(Reason),
}

/// The data for decisions.
#[derive(Clone, Copy, Debug)]
pub struct Deciding<'a> {
    /// The rules of the configuration.
    pub rules: &'a Rules,
    /// Assignments and approvals.
    pub roster: &'a Roster,
}

/// Decides the reply. Uses only data in memory: iPXE ignores an offer that comes more than 2 s after its DISCOVER
/// (net/udp/dhcp.c).
#[must_use]
pub fn answer(
    request: &Request,
    port: Port,
    here: &Here,
    Deciding { rules, roster }: Deciding<'_>,
    attempts: &mut Attempts,
    now: Instant,
) -> Action {
    match reply_kind(request, port, here) {
        Ok(kind) => answer_as(request, kind, here, Deciding { rules, roster }, attempts, now),
        Err(why) => Action::Ignore(why),
    }
}

/// Decides a reply of this kind. With a lease of ours, one reply has both the address and the boot file.
#[must_use]
pub fn answer_as(
    request: &Request,
    kind: ReplyKind,
    here: &Here,
    Deciding { rules, roster }: Deciding<'_>,
    attempts: &mut Attempts,
    now: Instant,
) -> Action {
    let client = match request.client() {
        Ok(client) => Client { interface: Some(here.interface.clone()), ..client },
        Err(why) => return Action::Ignore(why),
    };
    let times = match attempts.asks(client.mac, &here.interface, client.arch().loader(), now) {
        Ok(times) => times,
        Err(why) => return Action::Ignore(why),
    };
    let machine = rules.identity(&client.facts());
    let NextTrust { trust, was_offered } = attempts.trust(machine);
    let step = match next(&client, rules, roster, trust) {
        Ok(step) => step,
        Err(why) => return Action::Refuse(machine, why),
    };
    if let (NextStep::Loader { name, under: Under::Loaders, .. }, ReplyKind::Offer) = (step, kind)
        && !matches!(client.speaks, Speaks::Ipxe { .. })
    {
        let sets = &rules.loaders.sets;
        let offered = if sets.is_shim(name) { Trust::Signed } else { Trust::Unsigned };
        let is_choice = sets.iter().next().is_some() && next(&client, rules, roster, offered.other()) != Ok(step);
        attempts.offered(machine, offered, is_choice);
    }
    let mut shape = Shape::Direct;
    let mut learned = None;
    match (step, kind) {
        (NextStep::Script, ReplyKind::Offer) => learned = attempts.ipxe_started(machine, request.xid, now),
        (NextStep::Loader { via: Via::Tftp, .. }, _) => {
            let is_weak = matches!(client.speaks, Speaks::Ipxe { .. });
            if let Some(why) = attempts.loader_loop(machine, is_weak, now) {
                return Action::Refuse(machine, why);
            }
            if kind == ReplyKind::Offer {
                shape = match rules.offer {
                    // U-Boot reads only `file` and siaddr of a proxy's offer (net/bootp.c).
                    _ if client.arch().is_u_boot() => Shape::Direct,
                    OfferShape::Auto => attempts.offer(machine, now),
                    OfferShape::Always(shape) => shape,
                };
            }
            // The confirmation of our lease looks like its offer.
            if kind == ReplyKind::Ack && request.kind == Kind::Request && request.requested.is_some() {
                shape = attempts.last_offer(machine);
            }
        }
        _ => {}
    }
    let Here { address, base_url, firmware_url, .. } = here;
    let offer = Offer::new(step, shape, Servers { address: *address, base_url, firmware_url });
    let reply = Reply {
        kind,
        xid: request.xid,
        broadcast: request.broadcast || is_relayed_to_no_address(request),
        ciaddr: request.ciaddr,
        giaddr: request.giaddr,
        hardware: request.hardware,
        server: here.address,
        server_id: request.server_override().unwrap_or(here.address),
        vendor_class: if client.speaks == Speaks::HttpBoot { b"HTTPClient" } else { b"PXEClient" },
        vendor_options: match (request.boot_item, kind) {
            (Some(item), ReplyKind::Ack) => VendorOptions::BootItem(item),
            _ => offer.vendor_options,
        },
        uuid: request.uuid,
        bootfile: offer.bootfile,
        bootfile_option: offer.bootfile_option,
        server_option: offer.server_option,
        config_file: match client.speaks == Speaks::Pxe && (request.asks_for_pxelinux || client.arch().is_u_boot()) {
            true => pxelinux::name_of(client.mac),
            false => String::new(),
        },
        ipxe: offer.ipxe,
        relay_agent: request.relay_agent.clone(),
        lease: None,
    };
    let delay = delay(&client, kind, rules, times);
    Action::Reply {
        reply: Box::new(reply),
        client,
        machine,
        offer: offer.words,
        learned,
        own: own(step),
        delay,
        was_offered_loader: was_offered,
    }
}

/// The delay of a reply.
///
/// iPXE gets no delay: it ignores an offer that comes more than 2 s after its DISCOVER. The boot ROM of a Raspberry Pi
/// 3 fails if a proxy answers at once. So it gets a delay of a second from its second DISCOVER on. The first DISCOVER
/// is answered at once, for firmware that needs no delay.
fn delay(client: &Client, kind: ReplyKind, rules: &Rules, times: u32) -> Duration {
    if kind != ReplyKind::Offer || matches!(client.speaks, Speaks::Ipxe { .. }) {
        return Duration::ZERO;
    }
    let by_itself = if client.is_raspberry_pi() && times > 1 { RASPBERRY_PI } else { Duration::ZERO };
    rules.reply_delay(client).unwrap_or(by_itself)
}

fn own(step: NextStep<'_>) -> Option<Own> {
    match step {
        NextStep::RaspberryPi => Some(Own::RaspberryPi),
        NextStep::Loader { name, under: Under::Assets, .. } => Some(Own::Loader(name.to_owned())),
        NextStep::Loader { .. } | NextStep::Script | NextStep::PxelinuxCfg => None,
    }
}

/// The common guides use 1 s for dnsmasq's `dhcp-reply-delay`.
const RASPBERRY_PI: Duration = Duration::from_secs(1);

/// A relay sends a reply to yiaddr if the client did not ask for a broadcast (RFC 1542 §5.4). Our reply has no yiaddr,
/// so iPXE, which does not ask for a broadcast, would never receive it.
fn is_relayed_to_no_address(request: &Request) -> bool {
    !request.giaddr.is_unspecified() && request.ciaddr.is_unspecified()
}

/// A DISCOVER gets an OFFER, every other request an ACK.
fn reply_kind(request: &Request, port: Port, here: &Here) -> Result<ReplyKind, Reason> {
    match (port, request.kind) {
        (Port::Dhcp, Kind::Discover) => Ok(ReplyKind::Offer),
        // A REQUEST on port 67 accepts a lease. We have none, so only a REQUEST that names us is for us. If it also
        // asks for an address (RFC 2131 §4.3.2), it is for a DHCP server on this host, which has the same address.
        (Port::Dhcp, Kind::Request) => match request.server_id {
            Some(server) if request.requested.is_some() => Err(Reason::OtherServer(server)),
            Some(server) if server == here.address || request.server_override() == Some(server) => Ok(ReplyKind::Ack),
            Some(server) => Err(Reason::OtherServer(server)),
            None => Err(Reason::MessageType(3)),
        },
        (Port::Dhcp | Port::BootServer, Kind::Inform) | (Port::BootServer, Kind::Request) => Ok(ReplyKind::Ack),
        (Port::BootServer, Kind::Discover) => Err(Reason::MessageType(1)),
        (_, Kind::Decline) => Err(Reason::MessageType(4)),
        (_, Kind::Release) => Err(Reason::MessageType(7)),
        (_, Kind::Other(kind)) => Err(Reason::MessageType(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::{
            chain::{Lead, Set, Sets},
            loader::{Loader, tests::file},
            loaders::Loaders,
            mac::MacAddr,
            machine::{MachineRule, ReplyDelay},
            selector::{RuleBook, Selector},
        },
        dhcp::{reply::tests::reply, request::tests::UUID, wire::tests::message},
        offers::attempts::Rates,
    };

    fn here() -> Here {
        let base_url = "http://192.0.2.10:8080".into();
        let firmware_url = "http://192.0.2.10:8080".into();
        Here { address: Ipv4Addr::new(192, 0, 2, 10), base_url, firmware_url, interface: "eth1".into() }
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

    /// The machine of [`request`].
    fn refused(why: Reason) -> Action {
        let client = request(1, BIOS).client().expect("a boot client");
        Action::Refuse(rules().identity(&client.facts()), why)
    }

    const BIOS: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00000:UNDI:002001"), (93, &[0, 0])];
    const X64: &[(u8, &[u8])] = &[(60, b"PXEClient:Arch:00007:UNDI:003016"), (93, &[0, 7])];

    #[test]
    fn discover_gets_an_offer_of_the_loader_that_its_architecture_runs() {
        assert_eq!(sent(answered(Port::Dhcp, 1, BIOS)), reply(ReplyKind::Offer, "undionly.kpxe"));
        assert_eq!(sent(answered(Port::Dhcp, 1, X64)), reply(ReplyKind::Offer, "snponly.efi"));
    }

    #[test]
    fn a_loader_that_had_to_be_taken_says_nothing_about_a_signed_set_that_comes_later() {
        let (mut attempts, now) = (Attempts::new(Rates::default(), []), Instant::now());
        let machine = rules().identity(&request(1, X64).client().expect("a boot client").facts());
        let offered = |rules: &Rules, attempts: &mut Attempts| {
            let offer = sent(decided(&request(1, X64), Port::Dhcp, rules, attempts, now)).bootfile;
            attempts.loader_fetched(machine, now);
            offer
        };
        assert_eq!(offered(&rules(), &mut attempts), "snponly.efi");
        assert_eq!(attempts.started(machine), None, "there was no other");
        let shim = Some(file("x86_64-sb/snponly-shim.efi", Loader::EfiX86_64));
        let second = file("x86_64-sb/snponly.efi", Loader::EfiX86_64);
        let set = Set { loader: Loader::EfiX86_64, lead: Lead::Ipxe, shim, second };
        let loaders = rules().loaders.with(Sets::new(vec![set], vec![]));
        let rules = Rules { loaders, ..rules() };
        assert_eq!(offered(&rules, &mut attempts), "x86_64-sb/snponly-shim.efi");
        assert_eq!(offered(&rules, &mut attempts), "snponly.efi", "the shim started nothing");
        assert_eq!(attempts.started(machine), Some(Trust::Unsigned), "it had the choice");
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
            vendor_options: VendorOptions::None,
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
            Action::Ignore(Reason::OtherServer(here().address)),
            "the lease of a server that shares our address"
        );
    }

    #[test]
    fn offers_through_a_relay_ask_it_for_a_broadcast() {
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
            Action::Ignore(Reason::OtherServer(Ipv4Addr::new(192, 0, 2, 1)))
        );
        assert_eq!(answered(Port::Dhcp, 1, &[(60, b"MSFT 5.0")]), Action::Ignore(Reason::NotPxe));
        assert_eq!(answered(Port::Dhcp, 7, BIOS), Action::Ignore(Reason::MessageType(7)));
        assert_eq!(answered(Port::BootServer, 1, BIOS), Action::Ignore(Reason::MessageType(1)));
        assert_eq!(
            answered(Port::Dhcp, 1, &[(60, b"PXEClient"), (93, &[0, 11])]),
            refused(Reason::LoaderMissing(Loader::EfiArm64))
        );
    }

    #[test]
    fn an_offer_has_the_configured_format_or_the_next_one() {
        let direct = reply(ReplyKind::Offer, "snponly.efi");
        let shapes = [
            direct.clone(),
            Reply { bootfile_option: true, ..direct.clone() },
            Reply { bootfile: String::new(), vendor_options: VendorOptions::None, ..direct.clone() },
            Reply { bootfile_option: true, server_option: true, ..direct.clone() },
            Reply { bootfile: String::new(), vendor_options: VendorOptions::Menu(here().address), ..direct },
        ];
        let mut attempts = Attempts::new(Rates::default(), []);
        let start = Instant::now();
        let mut ask = |request: &Request, seconds| {
            let now = start + std::time::Duration::from_secs(seconds);
            decided(request, Port::Dhcp, &rules(), &mut attempts, now)
        };
        for (seconds, expected) in [0, 4, 12, 28, 44].into_iter().zip(&shapes) {
            assert_eq!(&sent(ask(&request(1, X64), seconds)), expected);
        }
        // The fifth offer led to an iPXE. From now on its format is used first.
        let ipxe: &[(u8, &[u8])] = &[(60, b"PXEClient"), (77, b"iPXE"), (175, b"\x13\x01\x01")];
        let Action::Reply { learned, .. } = ask(&request(1, ipxe), 60) else { panic!("no reply") };
        assert_eq!(learned, Some(Shape::Menu));
        assert_eq!(&sent(ask(&request(1, X64), 100)), &shapes[4]);

        for (shape, expected) in Shape::LADDER.into_iter().zip(&shapes) {
            let rules = Rules { offer: OfferShape::Always(shape), ..rules() };
            assert_eq!(&sent(answered_by(&rules, Port::Dhcp, 1, X64)), expected, "{shape}");
            // A client on port 4011 gets all formats.
            assert_eq!(sent(answered_by(&rules, Port::BootServer, 3, X64)), reply(ReplyKind::Ack, "snponly.efi"));
        }
    }

    #[test]
    fn a_raspberry_pi_gets_its_menu() {
        let rules = Rules { has_assets: true, ..rules() };
        let mut request = request(1, BIOS);
        request.mac = MacAddr([0xdc, 0xa6, 0x32, 1, 2, 3]);
        let mut attempts = Attempts::new(Rates::default(), []);
        let reply = sent(decided(&request, Port::Dhcp, &rules, &mut attempts, Instant::now()));
        assert_eq!((reply.bootfile.as_str(), reply.server_option), ("", true));
        assert_eq!(reply.vendor_options, VendorOptions::RaspberryPi);
        let bytes = reply.vendor_options.bytes();
        let entry = bytes.windows(17).position(|window| window == b"Raspberry Pi Boot");
        assert_eq!(entry, Some(14), "{bytes:?}");
        assert_eq!(bytes[10], 20, "the length of the menu's entry");
    }

    #[test]
    fn a_client_that_chose_our_menu_entry_gets_the_file_and_the_entry() {
        let chosen: &[(u8, &[u8])] = &[(43, b"\x47\x04\x80\0\0\0\xff")];
        let item = VendorOptions::BootItem([0x80, 0, 0, 0]);
        for client in [BIOS, X64] {
            let file = if client == BIOS { "undionly.kpxe" } else { "snponly.efi" };
            let expected = Reply { vendor_options: item, ..reply(ReplyKind::Ack, file) };
            assert_eq!(sent(answered(Port::BootServer, 3, &[client, chosen].concat())), expected);
        }
        // In a DISCOVER it is not a choice.
        assert_eq!(sent(answered(Port::Dhcp, 1, &[BIOS, chosen].concat())), reply(ReplyKind::Offer, "undionly.kpxe"));
    }

    #[test]
    fn a_client_that_asks_for_a_pxelinux_file_gets_its_name() {
        let name = |option_55: &[u8], client: &[(u8, &[u8])]| {
            sent(answered(Port::Dhcp, 1, &[client, &[(55, option_55)]].concat())).config_file
        };
        for asked in [&[1, 209][..], &[210]] {
            assert_eq!(name(asked, BIOS), "pxelinux.cfg/01-52-54-00-12-34-56");
        }
        assert_eq!(name(&[1, 3, 43, 60, 66, 67], BIOS), "");
        let ipxe: &[(u8, &[u8])] = &[(60, b"PXEClient"), (77, b"iPXE"), (175, b"\x13\x01\x01")];
        assert_eq!(name(&[209, 210], ipxe), "");
    }

    #[test]
    fn u_boot_is_offered_its_loader_in_the_header_however_often_it_asks() {
        let files = vec![file("snponly-arm64.efi", Loader::EfiArm64)];
        let u_boot: &[(u8, &[u8])] = &[(60, b"U-Boot.armv8"), (93, &[0, 22])];
        for offer in [OfferShape::Auto, OfferShape::Always(Shape::BootServer)] {
            let rules = Rules { loaders: Loaders::new(files.clone()), offer, ..Rules::default() };
            let (mut attempts, start) = (Attempts::new(Rates::default(), []), Instant::now());
            for n in 0..6 {
                let now = start + Duration::from_secs(5 * n);
                let offered = sent(decided(&request(1, u_boot), Port::Dhcp, &rules, &mut attempts, now));
                let config_file = "pxelinux.cfg/01-52-54-00-12-34-56".to_owned();
                let expected = Reply { config_file, ..reply(ReplyKind::Offer, "snponly-arm64.efi") };
                assert_eq!(offered, expected, "{n}");
            }
        }
        // Without a loader for it: `pxe get` needs this server's address only.
        let config_file = "pxelinux.cfg/01-52-54-00-12-34-56".to_owned();
        let expected = Reply { config_file, ..reply(ReplyKind::Offer, "") };
        assert_eq!(sent(answered(Port::Dhcp, 1, u_boot)), expected);
    }

    #[test]
    fn replies_are_delayed_by_rule_or_configuration_but_never_for_ipxe() {
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let (second, half) = (Duration::from_secs(1), Duration::from_millis(500));
        let delays = |of_rule: Option<Duration>, all: Duration, options: &[(u8, &[u8])], mac: MacAddr, kind: u8| {
            let selector = Selector { macs: vec![mac], ..Selector::default() };
            let rule = MachineRule { reply_delay: of_rule, ..MachineRule::default() };
            let machines = RuleBook::new(vec![(selector, rule)]);
            let reply_delay = ReplyDelay { all, by_rule: of_rule.is_some() };
            let rules = Rules { machines, reply_delay, has_assets: true, ..rules() };
            let (mut attempts, start) = (Attempts::new(Rates::default(), []), Instant::now());
            let mut ask = |seconds: u64| {
                let asked = Request { mac, ..request(kind, options) };
                let now = start + Duration::from_secs(seconds);
                match decided(&asked, Port::Dhcp, &rules, &mut attempts, now) {
                    Action::Reply { delay, .. } => delay,
                    other => panic!("{other:?}"),
                }
            };
            [ask(0), ask(4)]
        };
        let ipxe: &[(u8, &[u8])] = &[(60, b"PXEClient"), (77, b"iPXE"), (175, b"\x13\x01\x01")];
        let weak: &[(u8, &[u8])] = &[(60, b"PXEClient"), (77, b"iPXE")];
        let (zero, pi) = (Duration::ZERO, MacAddr([0xb8, 0x27, 0xeb, 1, 2, 3]));
        assert_eq!(delays(None, zero, BIOS, mac, 1), [zero; 2]);
        assert_eq!(delays(None, half, BIOS, mac, 1), [half; 2]);
        assert_eq!(delays(Some(second), half, X64, mac, 1), [second; 2]);
        assert_eq!(delays(Some(zero), half, X64, mac, 1), [zero; 2], "its rule says so");
        for never in [ipxe, weak] {
            assert_eq!(delays(Some(second), half, never, mac, 1), [zero; 2]);
        }
        assert_eq!(delays(Some(second), half, X64, mac, 8), [zero; 2], "an ACK is no offer");
        assert_eq!(delays(None, zero, BIOS, pi, 1), [zero, second], "a Raspberry Pi's second DISCOVER");
        assert_eq!(delays(Some(zero), zero, BIOS, pi, 1), [zero; 2]);
        assert_eq!(delays(None, half, BIOS, pi, 1), [half; 2]);
    }

    #[test]
    fn a_relay_may_replace_only_our_server_identifier() {
        let relay = Ipv4Addr::new(198, 51, 100, 1);
        let agent: &[(u8, &[u8])] = &[(82, b"\x01\x04eth7\x0b\x04\xc6\x33\x64\x01")];
        let through = |kind, options: &[(u8, &[u8])]| {
            let asked = Request { giaddr: relay, ..request(kind, &[X64, agent, options].concat()) };
            let mut attempts = Attempts::new(Rates::default(), []);
            decided(&asked, Port::Dhcp, &rules(), &mut attempts, Instant::now())
        };
        let expected = Reply {
            giaddr: relay,
            server_id: relay,
            relay_agent: agent[0].1.to_vec(),
            ..reply(ReplyKind::Offer, "snponly.efi")
        };
        assert_eq!(sent(through(1, &[])), expected);
        // A client that names the relay's address, which we sent as the identifier, means us.
        assert_eq!(sent(through(3, &[(54, &relay.octets())])), Reply { kind: ReplyKind::Ack, ..expected });
        let other = Ipv4Addr::new(198, 51, 100, 2);
        assert_eq!(through(3, &[(54, &other.octets())]), Action::Ignore(Reason::OtherServer(other)));
    }

    #[test]
    fn own_loaders_and_raspberry_pis_boot_without_our_script() {
        let mac = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let selector = Selector { macs: vec![mac], ..Selector::default() };
        let own_of = |loader: Option<&str>, mac: MacAddr| {
            let rule = MachineRule { loader: loader.map(Into::into), ..MachineRule::default() };
            let machines = RuleBook::new(vec![(selector.clone(), rule)]);
            let rules = Rules { machines, has_assets: true, ..rules() };
            let asked = Request { mac, ..request(1, BIOS) };
            let mut attempts = Attempts::new(Rates::default(), []);
            match decided(&asked, Port::Dhcp, &rules, &mut attempts, Instant::now()) {
                Action::Reply { own, .. } => own,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(own_of(None, mac), None);
        assert_eq!(own_of(Some("undionly.kpxe"), mac), None, "an iPXE");
        assert_eq!(own_of(Some("grub/core.0"), mac), Some(Own::Loader("grub/core.0".into())));
        assert_eq!(own_of(None, MacAddr([0xb8, 0x27, 0xeb, 1, 2, 3])), Some(Own::RaspberryPi));
    }

    #[test]
    fn a_client_that_asks_too_often_or_loops_gets_no_reply() {
        let mut attempts = Attempts::new(Rates::default(), []);
        let now = Instant::now();
        let ask = |attempts: &mut Attempts| decided(&request(1, BIOS), Port::Dhcp, &rules(), attempts, now);
        let answers = (0..100).filter(|_| matches!(ask(&mut attempts), Action::Reply { .. })).count();
        assert_eq!(answers, 20);
        assert_eq!(ask(&mut attempts), Action::Ignore(Reason::TooOften("from this machine")));
        let mut attempts = Attempts::new(Rates::default(), []);
        for _ in 0..7 {
            attempts.loader_fetched(MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]), now);
        }
        assert_eq!(ask(&mut attempts), refused(Reason::LoaderLoop(7)));
    }
}
