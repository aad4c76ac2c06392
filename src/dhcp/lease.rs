//! Request → lease: what a leasing server does about a message (RFC 2131 §4.3). What to boot is decided by `proxy`.

use std::net::Ipv4Addr;

use super::request::{Kind, Request};
use crate::{
    boot::reason::Reason,
    lease::book::{Answer, Ask, Book, Full, Given},
};

/// What to do about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is no matter of leases.
    Proxy,
    /// Offer this address.
    Offer(Given),
    /// Confirm this lease, once it is stored.
    Ack(Given),
    /// Refuse the address.
    Nak(&'static str),
    /// Send options to a client that has an address.
    Inform,
    /// The lease of this address changed, and is to be stored. No reply.
    Changed(Ipv4Addr),
    /// No reply.
    Silence(Reason),
}

/// Decides. `is_ours`: whether an address in option 54 is this server's. `is_entitled`: whether the machine gets leases.
pub fn decide(
    request: &Request,
    ask: &Ask<'_>,
    book: &mut Book,
    is_ours: impl Fn(Ipv4Addr) -> bool,
    is_entitled: bool,
) -> Step {
    let refused = || Step::Silence(Reason::NotOurClient);
    match request.kind {
        Kind::Discover if !is_entitled => refused(),
        Kind::Discover => match book.offer(ask, request.requested) {
            Ok(given) => Step::Offer(given),
            Err(Full) => Step::Silence(Reason::LeasesFull(ask.network.name.to_string())),
        },
        Kind::Request => match (request.server_id, request.requested) {
            // A machine that gets no lease here was offered none either. It may have one of a server with our address.
            (Some(server), Some(address))
                if is_ours(server) && !is_entitled && !book.is_of(address, ask.card, ask.now) =>
            {
                refused()
            }
            (Some(server), Some(address)) if is_ours(server) => step(book.select(ask, address)),
            (Some(_), Some(_)) => {
                book.forget_offer(&ask.network.name, ask.card);
                Step::Proxy
            }
            // A boot client that asks for its boot file on port 67.
            (Some(_), None) => Step::Proxy,
            (None, wanted) => {
                let held = Some(request.ciaddr).filter(|address| !address.is_unspecified());
                let Some(address) = held.or(wanted) else { return Step::Proxy };
                // Also a machine that gets no lease must not use another one's address.
                if !is_entitled && !book.is_of(address, ask.card, ask.now) {
                    let other = book.entry(address).filter(|entry| entry.ends > ask.now && entry.card != ask.card);
                    let is_used = other.is_some() && ask.network.leases(address, false);
                    return if is_used { Step::Nak("another machine has this address") } else { refused() };
                }
                step(book.confirm(ask, address, held.is_some()))
            }
        },
        Kind::Decline => match request.requested.filter(|_| request.server_id.is_some_and(is_ours)) {
            Some(address) if book.decline(ask, address) => Step::Changed(address),
            _ => Step::Silence(Reason::NoLease("it declines an address that is not its lease")),
        },
        Kind::Release => match request.server_id.is_none_or(is_ours) && book.release(ask, request.ciaddr) {
            true => Step::Changed(request.ciaddr),
            false => Step::Silence(Reason::NoLease("it gives back an address that is not its lease")),
        },
        Kind::Inform if is_entitled && ask.network.prefix.contains(request.ciaddr) => Step::Inform,
        Kind::Inform | Kind::Other(_) => Step::Proxy,
    }
}

fn step(answer: Answer) -> Step {
    match answer {
        Answer::Ack(given) => Step::Ack(given),
        Answer::Nak(why) => Step::Nak(why),
        Answer::Silence(why) => Step::Silence(Reason::NoLease(why)),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::{dhcp::wire::tests::message, lease::network::tests::network};

    const US: [u8; 4] = [192, 0, 2, 1];
    const THEM: [u8; 4] = [192, 0, 2, 9];

    fn decided(book: &mut Book, kind: u8, options: &[(u8, &[u8])], ciaddr: [u8; 4], is_entitled: bool) -> Step {
        let mut bytes = message(&[&[(53, [kind].as_slice())], options].concat());
        bytes[12..16].copy_from_slice(&ciaddr);
        let request = Request::parse(&bytes).expect("a request");
        let network = network(24, &["192.0.2.100-192.0.2.110"]).expect("a network");
        let (reservations, now) = (BTreeSet::new(), Duration::from_secs(1000));
        let ask = Ask {
            network: &network,
            card: request.mac,
            is_boot: false,
            reserved: None,
            reservations: &reservations,
            now,
        };
        decide(&request, &ask, book, |server| server.octets() == US, is_entitled)
    }

    #[test]
    fn each_message_of_a_lease_gets_its_answer() {
        let (mut book, none) = (Book::default(), [0; 4]);
        let own: (u8, &[u8]) = (54, &US);
        let theirs: (u8, &[u8]) = (54, &THEM);
        let first: (u8, &[u8]) = (50, &[192, 0, 2, 100]);
        assert_eq!(decided(&mut book, 1, &[], none, false), Step::Silence(Reason::NotOurClient));
        assert!(matches!(decided(&mut book, 1, &[], none, true), Step::Offer(_)));
        // It takes another server's offer: ours is free again.
        assert_eq!(decided(&mut book, 3, &[theirs, first], none, true), Step::Proxy);
        assert_eq!(book.iter().count(), 0);
        assert!(matches!(decided(&mut book, 1, &[], none, true), Step::Offer(_)));
        assert!(matches!(decided(&mut book, 3, &[own, first], none, false), Step::Ack(_)), "what was offered is kept");
        assert!(matches!(decided(&mut book, 3, &[first], none, false), Step::Ack(_)), "INIT-REBOOT");
        assert!(matches!(decided(&mut book, 3, &[], [192, 0, 2, 100], false), Step::Ack(_)), "a renewal");
        assert!(matches!(
            decided(&mut book, 3, &[(50, &[10, 0, 0, 1])], none, true),
            Step::Silence(Reason::NoLease(_))
        ));
        assert_eq!(decided(&mut book, 8, &[], [192, 0, 2, 100], true), Step::Inform);
        assert_eq!(decided(&mut book, 8, &[], [192, 0, 2, 100], false), Step::Proxy);
        assert_eq!(decided(&mut book, 8, &[], [10, 0, 0, 1], true), Step::Proxy);
        assert!(matches!(decided(&mut book, 7, &[theirs], [192, 0, 2, 100], true), Step::Silence(_)));
        assert_eq!(decided(&mut book, 7, &[own], [192, 0, 2, 100], true), Step::Changed([192, 0, 2, 100].into()));
        assert!(matches!(decided(&mut book, 4, &[theirs, first], none, true), Step::Silence(_)));
        assert_eq!(decided(&mut book, 4, &[own, first], none, true), Step::Changed([192, 0, 2, 100].into()));
        assert!(matches!(decided(&mut book, 3, &[own, first], none, true), Step::Nak(_)));
        assert_eq!(
            decided(&mut book, 3, &[own, (50, &[192, 0, 2, 50])], none, false),
            Step::Silence(Reason::NotOurClient)
        );
        assert_eq!(
            decided(&mut book, 3, &[own, (50, &[192, 0, 2, 103])], none, false),
            Step::Silence(Reason::NotOurClient)
        );
        let elsewhere = decided(&mut book, 3, &[own, (50, &[192, 0, 2, 50])], none, true);
        assert!(matches!(elsewhere, Step::Silence(Reason::NoLease(_))), "{elsewhere:?}: it is in none of our ranges");
        assert_eq!(decided(&mut book, 13, &[], none, true), Step::Proxy, "DHCPLEASEQUERY");
    }
}
