//! Beside cases of the RFC, a model: random machines, times, crashes and restarts, and no address is given to two of
//! them.

use proptest::prelude::*;

use super::*;
use crate::lease::network::tests::network;

const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const C: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);
const D: MacAddr = MacAddr([2, 0, 0, 0, 0, 4]);

struct Lab {
    network: Network,
    book: Book,
    reservations: BTreeSet<Ipv4Addr>,
    now: At,
}

impl Lab {
    fn new(range: &str) -> Self {
        let network = network(24, &[range]).expect("a network");
        Self { network, book: Book::default(), reservations: BTreeSet::new(), now: Duration::from_secs(1000) }
    }

    fn with<T>(&mut self, card: MacAddr, work: impl FnOnce(&mut Book, &Ask<'_>) -> T) -> T {
        let reserved = (card == A).then(|| self.reservations.first().copied()).flatten();
        let Self { network, reservations, now, .. } = self;
        work(&mut self.book, &Ask { network, card, is_boot: false, reserved, reservations, now: *now })
    }

    fn offer(&mut self, card: MacAddr) -> Result<Ipv4Addr, Full> {
        self.with(card, |book, ask| book.offer(ask, None)).map(|given| given.address)
    }

    fn select(&mut self, card: MacAddr, address: Ipv4Addr) -> Answer {
        self.with(card, |book, ask| book.select(ask, address))
    }

    /// After its start (INIT-REBOOT).
    fn confirm(&mut self, card: MacAddr, address: Ipv4Addr) -> Answer {
        self.with(card, |book, ask| book.confirm(ask, address, false))
    }

    fn renew(&mut self, card: MacAddr, address: Ipv4Addr) -> Answer {
        self.with(card, |book, ask| book.confirm(ask, address, true))
    }

    fn leased(&mut self, card: MacAddr) -> Ipv4Addr {
        let address = self.offer(card).expect("a free address");
        assert!(matches!(self.select(card, address), Answer::Ack(_)));
        address
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

fn at(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

#[test]
fn a_machine_keeps_its_address_from_firmware_to_the_system_and_over_a_reboot() {
    let mut lab = Lab::new("192.0.2.100-192.0.2.101");
    assert_eq!(lab.leased(A), at(100));
    assert_eq!(lab.offer(B), Ok(at(101)));
    assert_eq!(lab.offer(A), Ok(at(100)), "its iPXE asks anew");
    assert!(matches!(lab.confirm(A, at(100)), Answer::Ack(_)), "INIT-REBOOT, or a renewal");
    lab.wait(10_000);
    assert_eq!(lab.offer(A), Ok(at(100)), "its lease is over, and nobody took the address");
}

#[test]
fn firmware_gets_ten_minutes_and_what_was_promised_stays_promised() {
    let mut lab = Lab::new("192.0.2.100");
    let boot = |lab: &mut Lab| {
        let Lab { network, reservations, now, book } = lab;
        let ask = Ask { network, card: A, is_boot: true, reserved: None, reservations, now: *now };
        book.offer(&ask, None).expect("free");
        book.select(&ask, at(100))
    };
    let ten_minutes = Given { address: at(100), time: Duration::from_secs(600), is_its: true };
    assert_eq!(boot(&mut lab), Answer::Ack(ten_minutes));
    assert_eq!(lab.book.entry(at(100)).map(|entry| entry.ends), Some(Duration::from_secs(1600)));
    assert!(matches!(lab.confirm(A, at(100)), Answer::Ack(Given { time, .. }) if time.as_secs() == 3600));
    assert_eq!(boot(&mut lab), Answer::Ack(ten_minutes));
    assert_eq!(lab.book.entry(at(100)).map(|entry| entry.ends), Some(Duration::from_secs(4600)));
    lab.wait(3599);
    assert_eq!(lab.offer(B), Err(Full));
}

#[test]
fn a_full_range_says_so_until_a_lease_ends_and_the_oldest_goes_first() {
    let mut lab = Lab::new("192.0.2.100-192.0.2.101");
    let (first, second) = (lab.leased(A), lab.leased(B));
    let third = MacAddr([2, 0, 0, 0, 0, 3]);
    assert_eq!(lab.offer(third), Err(Full));
    lab.with(B, |book, ask| assert!(book.release(ask, second) && !book.release(ask, first)));
    assert_eq!(lab.offer(third), Ok(second), "given back");
    lab.wait(61);
    assert_eq!(lab.offer(B), Ok(second), "the offer was not accepted");
    lab.wait(3600);
    assert_eq!(lab.offer(third), Ok(second), "its end is the longest ago");
}

#[test]
fn a_declined_address_and_one_that_is_taken_rest_for_ten_minutes() {
    let mut lab = Lab::new("192.0.2.100-192.0.2.101");
    let first = lab.leased(A);
    lab.with(B, |book, ask| assert!(!book.decline(ask, first), "it is not its own"));
    lab.with(A, |book, ask| assert!(book.decline(ask, first)));
    assert_eq!(lab.offer(A), Ok(at(101)));
    lab.with(A, |book, ask| book.taken(ask, at(101)));
    assert_eq!(lab.offer(A), Err(Full));
    assert!(matches!(lab.select(A, at(101)), Answer::Nak(_)));
    lab.wait(600);
    assert_eq!(lab.offer(A), Ok(first));
}

#[test]
fn only_our_own_ranges_are_refused_and_only_to_the_wrong_machine() {
    let mut lab = Lab::new("192.0.2.100-192.0.2.110");
    let first = lab.leased(A);
    for elsewhere in [at(1), at(99), at(111), [198, 51, 100, 7].into()] {
        assert!(matches!(lab.confirm(B, elsewhere), Answer::Silence(_)), "{elsewhere}");
    }
    assert!(matches!(lab.confirm(B, first), Answer::Nak(_)), "another machine has it");
    assert!(matches!(lab.confirm(B, at(105)), Answer::Silence(_)), "nothing is known of it: it is to ask anew");
    assert_eq!(lab.book.entry(at(105)), None);
    assert!(matches!(lab.renew(B, at(105)), Answer::Ack(_)), "it uses the address, and we have lost its lease");
    assert!(matches!(lab.confirm(A, at(106)), Answer::Nak(_)), "it has another one");
    assert!(matches!(lab.select(B, at(107)), Answer::Nak(_)), "it was not offered");
}

#[test]
fn a_reserved_address_is_for_its_machine_alone_also_outside_the_range() {
    for reserved in [at(100), at(50)] {
        let mut lab = Lab::new("192.0.2.100-192.0.2.101");
        lab.reservations.insert(reserved);
        let others = lab.leased(B);
        assert_ne!(others, reserved);
        assert!(matches!(lab.confirm(B, reserved), Answer::Nak(_)));
        assert_eq!(lab.leased(A), reserved);
        // The rule is changed while another machine has the address.
        lab.reservations = [others].into();
        let next = lab.offer(A);
        assert_ne!(next, Ok(others), "B has it until its lease ends");
        lab.wait(3601);
        assert_eq!(lab.offer(A), Ok(others));
        assert_ne!(lab.offer(B), Ok(others));
    }
}

#[test]
fn addresses_that_a_network_or_the_rules_have_anew_are_given() {
    let mut lab = Lab::new("192.0.2.100-192.0.2.101");
    lab.reservations = [at(100)].into();
    assert_eq!((lab.offer(B), lab.offer(C)), (Ok(at(101)), Err(Full)), "one is reserved");
    lab.reservations = [at(200)].into();
    assert_eq!(lab.offer(C), Ok(at(100)), "another one is reserved now");
    // The interface has lower addresses now, and the same name.
    lab.network = network(24, &["192.0.2.50"]).expect("a network");
    assert_eq!(lab.offer(D), Ok(at(50)));
}

#[test]
fn of_two_stored_addresses_a_machine_has_the_one_that_it_was_given_last() {
    let mut lab = Lab::new("192.0.2.100-192.0.2.110");
    lab.leased(A);
    let lease = |ends| Entry { ends: Duration::from_secs(ends), ..lab.book.entry(at(100)).expect("a lease").clone() };
    let stored = [(at(105), lease(4000)), (at(100), lease(900))];
    lab.book = Book::default();
    lab.book.restore(stored);
    assert_eq!(lab.offer(A), Ok(at(105)));
}

#[test]
fn an_address_that_a_machine_wants_is_given_if_it_is_free() {
    let mut lab = Lab::new("192.0.2.100-192.0.2.110");
    let mut offer = |card, wants| lab.with(card, |book, ask| book.offer(ask, Some(wants))).map(|given| given.address);
    assert_eq!(offer(A, at(105)), Ok(at(105)));
    assert_eq!(offer(B, at(105)), Ok(at(100)));
    assert_eq!(offer(A, at(101)), Ok(at(105)), "it has one");
    assert_eq!(offer(MacAddr([2; 6]), at(50)), Ok(at(101)), "it is none of ours");
}

#[test]
fn a_machine_that_booted_is_known_for_an_hour_and_as_long_as_it_has_a_lease() {
    let mut lab = Lab::new("192.0.2.100-192.0.2.110");
    let known = |lab: &Lab| lab.book.is_known(&"eth1".into(), A, lab.now);
    assert!(!known(&lab));
    lab.book.booted(A, None, lab.now);
    lab.wait(3599);
    assert!(known(&lab));
    lab.leased(A);
    lab.wait(3600 + 3599);
    assert!(known(&lab), "an installer that takes hours renews its lease");
    lab.wait(2);
    assert!(!known(&lab));
}

/// What a machine, a network or an administrator does.
#[derive(Clone, Debug)]
enum Deed {
    Discover(u8, Option<u8>),
    /// Accepts what it was offered last.
    Select(u8),
    /// Says that it has this address.
    Confirm(u8, u8),
    /// Renews what it believes to have.
    Renew(u8),
    Release(u8),
    Decline(u8),
    /// A machine that netbootd does not know answers for the address.
    Taken(u8),
    Reserve(Option<u8>),
    Wait(u16),
    /// `kill -9` and a start: what was stored is there again, offers are not.
    Crash,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let (machine, address) = (0u8..6, 98u8..108);
    let deed = prop_oneof![
        (machine.clone(), prop::option::of(address.clone())).prop_map(|(m, a)| Deed::Discover(m, a)),
        machine.clone().prop_map(Deed::Select),
        machine.clone().prop_map(Deed::Select),
        (machine.clone(), address.clone()).prop_map(|(m, a)| Deed::Confirm(m, a)),
        machine.clone().prop_map(Deed::Renew),
        machine.clone().prop_map(Deed::Release),
        machine.prop_map(Deed::Decline),
        address.clone().prop_map(Deed::Taken),
        prop::option::of(address).prop_map(Deed::Reserve),
        (0u16..4000).prop_map(Deed::Wait),
        Just(Deed::Crash),
    ];
    prop::collection::vec(deed, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_given_to_two_machines(deeds in deeds()) {
        let mut lab = Lab::new("192.0.2.100-192.0.2.104");
        let card = |number: u8| MacAddr([2, 0, 0, 0, 1, number]);
        let mut offers: HashMap<u8, Ipv4Addr> = HashMap::new();
        // What each machine believes, and until when.
        let mut believes: HashMap<u8, (Ipv4Addr, At)> = HashMap::new();
        // What is on the disk: a lease is there before its machine hears of it.
        let mut disk: BTreeMap<Ipv4Addr, Entry> = BTreeMap::new();
        for deed in deeds {
            let answered = match deed {
                Deed::Discover(machine, wants) => {
                    // A machine that asks anew uses its old address no more.
                    let given = lab.with(card(machine), |book, ask| book.offer(ask, wants.map(at)));
                    given.map(|given| offers.insert(machine, given.address)).ok();
                    None
                }
                Deed::Select(machine) => {
                    offers.remove(&machine).map(|address| (machine, lab.select(card(machine), address)))
                }
                Deed::Confirm(machine, address) => Some((machine, lab.confirm(card(machine), at(address)))),
                Deed::Renew(machine) => {
                    let held = believes.get(&machine).copied().filter(|(_, until)| *until > lab.now);
                    held.map(|(address, _)| (machine, lab.renew(card(machine), address)))
                }
                Deed::Release(machine) => {
                    if let Some((address, _)) = believes.remove(&machine) {
                        lab.with(card(machine), |book, ask| book.release(ask, address));
                        if let Some(entry) = lab.book.entry(address) {
                            disk.insert(address, entry.clone());
                        }
                    }
                    None
                }
                Deed::Decline(machine) => {
                    if let Some((address, _)) = believes.remove(&machine) {
                        lab.with(card(machine), |book, ask| book.decline(ask, address));
                    }
                    None
                }
                Deed::Taken(address) => {
                    // Only what nobody has is tried.
                    let is_leased = lab.book.entry(at(address)).is_some_and(|e| e.held == Held::Leased && e.ends > lab.now);
                    if !is_leased {
                        lab.with(card(99), |book, ask| book.taken(ask, at(address)));
                    }
                    None
                }
                Deed::Reserve(address) => {
                    lab.reservations = address.map(at).into_iter().collect();
                    None
                }
                Deed::Wait(seconds) => {
                    lab.wait(seconds.into());
                    None
                }
                Deed::Crash => {
                    lab.book = Book::default();
                    lab.book.restore(disk.clone());
                    offers.clear();
                    None
                }
            };
            match answered {
                Some((machine, Answer::Ack(Given { address, time, .. }))) => {
                    disk.insert(address, lab.book.entry(address).expect("the lease").clone());
                    believes.insert(machine, (address, lab.now + time));
                }
                Some((machine, Answer::Nak(_))) => drop(believes.remove(&machine)),
                Some((_, Answer::Silence(_))) | None => {}
            }
            let mut in_use: HashMap<Ipv4Addr, u8> = HashMap::new();
            for (machine, (address, _)) in believes.iter().filter(|(_, (_, until))| *until > lab.now) {
                prop_assert_eq!(in_use.insert(*address, *machine), None, "{} has {} too", machine, address);
                prop_assert!(!lab.network.own.contains(address));
            }
            let (entries, ends) = (lab.book.by_address.len(), lab.book.by_end.len());
            prop_assert_eq!(entries, ends);
            prop_assert!(lab.book.by_card.iter().all(|(key, at)| lab.book.by_address.get(at).is_some_and(|e| e.card == key.1)));
        }
    }
}
