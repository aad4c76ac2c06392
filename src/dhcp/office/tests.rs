//! The office of one or two interfaces: who is a rival, and when leasing goes on.

use super::*;
use crate::{
    boot::roster::Roster,
    dhcp::wire::tests::message,
    lease::{network::tests::terms, terms::Prefix},
};

const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ON_ETH9: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const THEIR_CARD: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const RANGE: &str = "192.0.2.100-192.0.2.110";

fn interface(name: &str, addresses: &[Ipv4Addr]) -> Interface {
    let last = name.bytes().last().unwrap_or_default();
    Interface {
        name: name.into(),
        index: 1,
        link_address: Some([2, 0, 0, 0, 1, last]),
        addresses: addresses.to_vec(),
        networks: addresses.iter().map(|address| (Prefix::of(*address, 24).network, 24)).collect(),
        mtu: 1500,
        is_up: true,
    }
}

fn leasing() -> Leasing {
    Leasing {
        everyone: true,
        on_default_route: true,
        ask_every: Duration::from_secs(300),
        terms: terms(&[RANGE]),
        interfaces: [("eth9".to_owned(), terms(&["198.51.100.100-198.51.100.110"]))].into(),
        relayed: vec![
            (Prefix::of([203, 0, 0, 0].into(), 16), terms(&["203.0.1.100-203.0.1.110"])),
            (Prefix::of([203, 0, 113, 0].into(), 24), terms(&["203.0.113.100-203.0.113.110"])),
            (Prefix::of([192, 0, 0, 0].into(), 16), terms(&["192.0.1.100-192.0.1.110"])),
        ],
    }
}

fn office() -> Office {
    Office::new(leasing(), Live::new(Rules::default(), Roster::default()), &[], None, 7)
}

/// A server's message of this kind about an address, with its identifier.
fn said(kind: u8, server: Ipv4Addr, address: Ipv4Addr) -> Offered {
    let mut bytes = message(&[(53, &[kind]), (54, &server.octets())]);
    bytes[0] = 2;
    bytes[16..20].copy_from_slice(&address.octets());
    Offered::parse(&bytes).expect("an offer")
}

/// Why leasing has stopped on eth1, after this was heard there.
fn after(kind: u8, server: Ipv4Addr, card: Option<MacAddr>, address: Ipv4Addr) -> Option<Stop> {
    let office = office();
    let desk = office.open(&interface("eth1", &[US]), None).expect("a desk");
    office.open(&interface("eth9", &[ON_ETH9]), None).expect("a desk");
    let (is_from_wire, card) = (true, card.unwrap_or(desk.card()));
    let sender = Sender { address: server, card, is_from_wire };
    office.heard(&desk, &said(kind, server, address), Sender { is_from_wire: false, ..sender }, &[US, ON_ETH9]);
    assert!(card != desk.card() || desk.guard().stop().is_none(), "it may be what we send ourselves");
    office.heard(&desk, &said(kind, server, address), sender, &[US, ON_ETH9]);
    let guard = desk.guard();
    guard.stop().cloned()
}

#[test]
fn a_server_with_an_address_of_ours_is_a_rival_if_its_card_is_not_ours() {
    let theirs = Ipv4Addr::new(192, 0, 2, 150);
    for (kind, server, address, sign) in [
        (2, US, theirs, Sign::Offer(theirs)),
        (5, US, theirs, Sign::Ack(theirs)),
        (6, US, Ipv4Addr::UNSPECIFIED, Sign::Nak),
        (2, ON_ETH9, theirs, Sign::Offer(theirs)),
    ] {
        let expected = Some(Stop::SameAddress(server, THEIR_CARD, sign));
        assert_eq!(after(kind, server, Some(THEIR_CARD), address), expected);
    }
    assert_eq!(after(2, US, Some(THEIR_CARD), Ipv4Addr::UNSPECIFIED), None, "a proxy's offer harms no lease");
    // Ours comes back from a loop of the network; or from another interface of ours on it.
    assert_eq!(after(6, US, None, Ipv4Addr::UNSPECIFIED), None);
    assert_eq!(after(2, ON_ETH9, Some(MacAddr([2, 0, 0, 0, 1, b'9'])), theirs), None);
    assert_eq!(after(2, US, None, Ipv4Addr::new(192, 0, 2, 100)), None, "what another netbootd is offered");
    // Somebody has our address and our card: we offered nothing.
    assert!(matches!(after(2, US, None, theirs), Some(Stop::SameAddress(..))));
}

#[test]
fn leasing_goes_on_when_the_range_fits_again() {
    let office = office();
    let desk = office.open(&interface("eth1", &[US]), None).expect("a desk");
    let is_asking = || desk.guard().is_asking();
    for others in [vec![US, Ipv4Addr::new(192, 0, 2, 105)], vec![ON_ETH9]] {
        office.fit_desk(&interface("eth1", &others));
        let why = desk.guard().stop().map(ToString::to_string).expect("it has stopped");
        assert!(why.ends_with("netbootd leases again when the range fits"), "{why}");
        assert_eq!(office.live.lease_faults.load().len(), 1);
        office.fit_desk(&interface("eth1", &[US]));
        assert!(is_asking(), "whether another server came meanwhile");
        assert_eq!(office.live.lease_faults.load().len(), 0);
        assert!(desk.next().is_some_and(|next| next <= boot_time::now()));
    }
    // Another server stays.
    office.halt(&desk, Stop::Foreign(US, Sign::Nak));
    office.fit_desk(&interface("eth1", &[US]));
    assert!(!is_asking());
}

#[test]
fn the_address_of_a_relay_or_of_the_machine_tells_the_network() {
    let office = office();
    let desk = office.open(&interface("eth1", &[US]), None).expect("a desk");
    let clear = |mut guard: MutexGuard<'_, Guard>| {
        while guard.is_asking() {
            let next = guard.next().unwrap_or_default();
            guard.tick(next);
        }
    };
    clear(desk.guard());
    let name = |at: Option<[u8; 4]>| {
        let network = office.network(&desk, at.map(Ipv4Addr::from));
        network.map(|network| network.name.to_string())
    };
    assert_eq!(name(None).as_deref(), Some("eth1"));
    assert_eq!(name(Some([192, 0, 2, 7])).as_deref(), Some("eth1"));
    assert_eq!(name(Some([203, 0, 113, 100])).as_deref(), Some("203.0.113.0/24"));
    assert_eq!(name(Some([203, 0, 112, 100])).as_deref(), Some("203.0.0.0/16"));
    assert_eq!(name(Some([192, 0, 1, 100])).as_deref(), Some("192.0.0.0/16"));
    assert_eq!(name(Some([10, 0, 0, 1])), None);
}
