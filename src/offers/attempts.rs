//! What each machine has tried lately: which shape of an offer it took up, and whether it is in a boot loop.
//!
//! Firmware differs in the offers that it takes, and does not say why it took none. So the next shape is tried when a
//! machine asks again without having fetched what it was offered, and the one that led to a fetch is remembered.

use std::{
    collections::{HashMap, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    bucket::Bucket,
    trust::{NextTrust, Trying},
};
use crate::boot::{
    chain::Trust,
    identity::{Key, MachineId},
    learned::Learned,
    loader::Loader,
    mac::MacAddr,
    reason::Reason,
    recent::Recent,
    shape::Shape,
};

/// Answers a second, so that neither a broken client nor a flood makes netbootd fill the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// To all machines.
    pub total: u32,
    /// To one machine.
    pub per_client: u32,
}

impl Default for Rates {
    /// A thousand machines that are switched on together ask a few thousand times a second, one machine four times
    /// (iPXE's tries on port 4011: 0, 0.25, 0.75 and 1.75 s).
    fn default() -> Self {
        Self { total: 20_000, per_client: 10 }
    }
}

/// The memory of all machines; bounded.
#[derive(Debug)]
pub struct Attempts {
    rates: Rates,
    total: Bucket,
    machines: Recent<Key, Attempt>,
    /// Who used a card last, where that is known by more than the card.
    by_card: Recent<MacAddr, Key>,
    /// Who has taken which address lately.
    addresses: Recent<Ipv4Addr, MachineId>,
    /// Shapes that led to a fetch, beyond [`Shape::Direct`], which is what everyone gets anyway.
    worked: HashMap<Key, Shape>,
    /// Kinds of loaders that started, beyond the signed ones, which come first anyway.
    trusted: HashMap<Key, Trust>,
}

#[derive(Debug, Default)]
struct Attempt {
    answers: Bucket,
    /// Where it was heard last.
    interface: Option<Arc<str>>,
    /// When that was.
    heard: Option<Instant>,
    /// How often it has asked lately.
    times: u32,
    /// The build of iPXE for the architecture that it said last.
    loader: Option<Loader>,
    offered: Option<Offered>,
    /// The kind of loader that it was offered.
    trying: Trying,
    /// The transaction of the last iPXE start: its repetitions are the same start.
    xid: Option<u32>,
    /// iPXE starts since the last hand-over, the latest ones only.
    starts: VecDeque<Instant>,
    /// Loaders fetched since an iPXE that can use HTTP was last seen.
    loads: VecDeque<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Offered {
    shape: Shape,
    at: Instant,
    was_fetched: bool,
}

impl Attempts {
    /// With what was learned before.
    #[must_use]
    pub fn new(rates: Rates, learned: impl IntoIterator<Item = (Key, Learned)>) -> Self {
        let mut attempts = Self {
            rates,
            total: Bucket::default(),
            machines: Recent::new(MACHINES),
            by_card: Recent::new(MACHINES),
            addresses: Recent::new(MACHINES),
            worked: HashMap::new(),
            trusted: HashMap::new(),
        };
        learned.into_iter().for_each(|(key, learned)| attempts.know(key, learned));
        attempts
    }

    /// What is known of a machine's firmware by an earlier run, or by another appliance; nothing: it was forgotten.
    pub fn know(&mut self, key: Key, learned: Learned) {
        if learned.is_empty() && self.machines.peek(&key).is_some() {
            self.machines.touch(key).begin_anew();
        }
        put(&mut self.worked, key, learned.shape);
        put(&mut self.trusted, key, learned.trust);
    }

    /// A boot client asks: it was heard on this interface of ours, and this is the build of iPXE for its architecture. How
    /// often it has asked by now, this time included; a packet that the network doubled counts once.
    ///
    /// # Errors
    /// [`Reason::TooOften`]: it is not to be answered now.
    pub fn asks(
        &mut self,
        mac: MacAddr,
        interface: &Arc<str>,
        loader: Option<Loader>,
        now: Instant,
    ) -> Result<u32, Reason> {
        // By its card: a stranger may make up a UUID for every packet.
        let attempt = self.machines.touch(Key::Card(mac));
        // The machine's own rate first: what one of them wastes is not taken from the others.
        if !attempt.answers.take(self.rates.per_client, now) {
            return Err(Reason::TooOften("from this machine"));
        }
        if !self.total.take(self.rates.total, now) {
            return Err(Reason::TooOften("in total"));
        }
        attempt.loader = loader;
        if attempt.interface.as_ref() != Some(interface) {
            attempt.interface = Some(interface.clone());
        }
        let before = attempt.heard.replace(now).map(|before| now.saturating_duration_since(before));
        attempt.times = match before {
            Some(ago) if ago < DOUBLED => attempt.times,
            Some(ago) if ago < JUST_NOW => attempt.times.saturating_add(1),
            _ => 1,
        };
        Ok(attempt.times)
    }

    /// Whether a machine asked for its boot a short while ago: an address that it takes now is that of a boot client,
    /// whatever its message says.
    #[must_use]
    pub fn has_just_asked(&self, mac: MacAddr, now: Instant) -> bool {
        let heard = self.machines.peek(&Key::Card(mac)).and_then(|attempt| attempt.heard);
        heard.is_some_and(|heard| now.saturating_duration_since(heard) < JUST_NOW)
    }

    /// The interface that a machine was heard on last.
    #[must_use]
    pub fn heard_on(&self, machine: impl Into<MachineId>) -> Option<Arc<str>> {
        self.machines.peek(&Key::Card(machine.into().card))?.interface.clone()
    }

    /// The name that a machine's attempts are kept under. One that sends its MAC address alone is the machine that used that card last.
    fn key(&self, machine: MachineId) -> Key {
        match machine.key() {
            Key::Card(card) => self.by_card.peek(&card).copied().unwrap_or(Key::Card(card)),
            key => key,
        }
    }

    fn known(&self, machine: MachineId) -> Option<&Attempt> {
        self.machines.peek(&self.key(machine)).or_else(|| self.machines.peek(&Key::Card(machine.card)))
    }

    /// What a machine has tried; with what it tried before more than its card was known.
    fn attempt(&mut self, machine: MachineId) -> &mut Attempt {
        let (key, card) = (self.key(machine), Key::Card(machine.card));
        if key != card && machine.has_card() {
            self.by_card.insert(machine.card, key);
        }
        let is_new = self.machines.peek(&key).is_none();
        let before = self.machines.peek(&card).filter(|_| is_new).map(Attempt::tried);
        self.machines.touch_or(key, || before.unwrap_or_default())
    }

    /// The build of iPXE for the architecture that a machine said last.
    #[must_use]
    pub fn loader_of(&self, mac: MacAddr) -> Option<Loader> {
        self.machines.peek(&Key::Card(mac))?.loader
    }

    /// A machine was seen to take an address.
    pub fn took_address(&mut self, machine: impl Into<MachineId>, address: Ipv4Addr) {
        self.addresses.insert(address, machine.into());
    }

    /// The machine that took an address last.
    #[must_use]
    pub fn machine_at(&self, address: Ipv4Addr) -> Option<MachineId> {
        self.addresses.peek(&address).copied()
    }

    /// The shape of the offer to a machine whose firmware sends DHCPDISCOVER.
    pub fn offer(&mut self, machine: impl Into<MachineId>, now: Instant) -> Shape {
        let machine = machine.into();
        // One that was learned of its card, before its UUID was known.
        let usual = machine.keys().find_map(|key| self.worked.get(&key).copied()).unwrap_or_default();
        let attempt = self.attempt(machine);
        let shape = match attempt.offered {
            None => usual,
            Some(Offered { was_fetched: true, .. }) => usual,
            // A packet that the network doubled, or two listeners on one bridge.
            Some(Offered { shape, at, .. }) if now.saturating_duration_since(at) < SAME_QUESTION => return shape,
            Some(Offered { shape, .. }) => shape.next(),
        };
        attempt.offered = Some(Offered { shape, at: now, was_fetched: false });
        shape
    }

    /// The shape of the last offer to a machine.
    #[must_use]
    pub fn last_offer(&self, machine: impl Into<MachineId>) -> Shape {
        self.known(machine.into()).and_then(|attempt| attempt.offered).map_or(Shape::Direct, |offered| offered.shape)
    }

    /// The kind of loader that a machine is to be offered now.
    #[must_use]
    pub fn trust(&self, machine: impl Into<MachineId>) -> NextTrust {
        let machine = machine.into();
        let usual = machine.keys().find_map(|key| self.trusted.get(&key).copied()).unwrap_or_default();
        let trying = self.known(machine).map(|attempt| attempt.trying).unwrap_or_default();
        NextTrust { trust: trying.next(usual), was_offered: trying.was_offered() }
    }

    /// A machine was offered a loader of this kind. `is_choice`: the other kind would have been another loader.
    pub fn offered(&mut self, machine: impl Into<MachineId>, trust: Trust, is_choice: bool) {
        self.attempt(machine.into()).trying.offered(trust, is_choice);
    }

    /// What a machine fetched has started: an iPXE or a GRUB was heard. The kind of loader where that is news, to be
    /// kept.
    pub fn started(&mut self, machine: impl Into<MachineId>) -> Option<Trust> {
        let machine = machine.into();
        let trust = self.attempt(machine).trying.started()?;
        let before = machine.keys().fold(None, |before, key| before.or(self.trusted.remove(&key))).unwrap_or_default();
        if trust != Trust::Signed && self.trusted.len() < WORKED {
            let key = self.key(machine);
            self.trusted.insert(key, trust);
        }
        (before != trust).then_some(trust)
    }

    /// A GRUB has started.
    pub fn grub_started(&mut self, machine: impl Into<MachineId>, now: Instant) -> Option<Shape> {
        let machine = machine.into();
        let attempt = self.attempt(machine);
        remember(&mut attempt.starts, now);
        attempt.loads.clear();
        let shape = attempt.takes_offer()?;
        self.learn(machine, shape)
    }

    /// What was learned of a machine's firmware is forgotten: its next offer is the first one of all; whether there was
    /// something.
    pub fn forget(&mut self, machine: impl Into<MachineId>) -> bool {
        let machine = machine.into();
        self.attempt(machine).begin_anew();
        let forgotten = machine.keys().filter(|key| {
            let (shape, trust) = (self.worked.remove(key), self.trusted.remove(key));
            shape.is_some() || trust.is_some()
        });
        forgotten.count() > 0
    }

    /// A machine has fetched a loader. The shape that led to it where that is news, to be kept.
    pub fn loader_fetched(&mut self, machine: impl Into<MachineId>, now: Instant) -> Option<Shape> {
        let machine = machine.into();
        let attempt = self.attempt(machine);
        remember(&mut attempt.loads, now);
        attempt.trying.fetched();
        let shape = attempt.takes_offer()?;
        self.learn(machine, shape)
    }

    /// An iPXE that can use HTTP has sent DHCPDISCOVER. As [`Self::loader_fetched`]: where firmware was offered a
    /// loader just now, this is that loader, though its fetch may have gone unseen behind a relay.
    pub fn ipxe_started(&mut self, machine: impl Into<MachineId>, xid: u32, now: Instant) -> Option<Shape> {
        let machine = machine.into();
        let attempt = self.attempt(machine);
        if attempt.xid.replace(xid) != Some(xid) {
            remember(&mut attempt.starts, now);
        }
        attempt.loads.clear();
        let shape = attempt.takes_offer()?;
        self.learn(machine, shape)
    }

    /// A shape led to a fetch: the shape where that is news.
    fn learn(&mut self, machine: MachineId, shape: Shape) -> Option<Shape> {
        let key = self.key(machine);
        let before = machine.keys().fold(None, |before, key| before.or(self.worked.remove(&key)));
        if shape != Shape::Direct {
            if self.worked.len() >= WORKED {
                return None;
            }
            self.worked.insert(key, shape);
        }
        (before.unwrap_or_default() != shape).then_some(shape)
    }

    /// A machine got everything that its script names: whatever it does next is a new boot.
    pub fn handed_over(&mut self, machine: impl Into<MachineId>) {
        let attempt = self.attempt(machine.into());
        attempt.starts.clear();
        attempt.loads.clear();
    }

    /// Whether a machine starts iPXE over and over without booting anything.
    #[must_use]
    pub fn ipxe_loop(&self, machine: impl Into<MachineId>, now: Instant) -> Option<Reason> {
        circles(&self.known(machine.into())?.starts, STARTS, now).map(Reason::IpxeLoop)
    }

    /// Whether a machine loads iPXE over and over without one starting that can use HTTP. `weak`: it is an iPXE itself
    /// that asks, and got a better one, or should have.
    #[must_use]
    pub fn loader_loop(&self, machine: impl Into<MachineId>, weak: bool, now: Instant) -> Option<Reason> {
        let limit = if weak { WEAK_LOADS } else { LOADS };
        circles(&self.known(machine.into())?.loads, limit, now).map(Reason::LoaderLoop)
    }
}

impl Attempt {
    /// What it tried, without what is kept of its card alone.
    fn tried(&self) -> Self {
        let Self { offered, trying, xid, starts, loads, .. } = self;
        let (starts, loads) = (starts.clone(), loads.clone());
        Self { offered: *offered, trying: *trying, xid: *xid, starts, loads, ..Self::default() }
    }

    /// It has fetched what it was offered: the shape of that offer, once.
    fn takes_offer(&mut self) -> Option<Shape> {
        let offered = self.offered.as_mut()?;
        (!std::mem::replace(&mut offered.was_fetched, true)).then_some(offered.shape)
    }

    /// Its next offer is the first one.
    fn begin_anew(&mut self) {
        (self.offered, self.trying) = (None, Trying::default());
        self.starts.clear();
        self.loads.clear();
    }
}

fn put<V>(known: &mut HashMap<Key, V>, key: Key, value: Option<V>) {
    match value {
        None => drop(known.remove(&key)),
        Some(value) if known.len() < WORKED || known.contains_key(&key) => drop(known.insert(key, value)),
        Some(_) => {}
    }
}

fn remember(times: &mut VecDeque<Instant>, now: Instant) {
    times.push_back(now);
    if times.len() > REMEMBERED {
        times.pop_front();
    }
}

/// How often it was, where that is more than `limit` times within [`SHORT_WHILE`].
fn circles(times: &VecDeque<Instant>, limit: usize, now: Instant) -> Option<usize> {
    let count = times.iter().filter(|at| now.saturating_duration_since(**at) < SHORT_WHILE).count();
    (count > limit).then_some(count)
}

/// Machines that are remembered.
const MACHINES: usize = 4096;
/// Machines whose shape is remembered: more than any one network has of firmware that needs another than the first.
const WORKED: usize = 65_536;
/// Firmware waits longer before it asks again: EDK2 4 s (Dhcp4Dxe), PXE ROMs 4 s (PXE 2.1 §2.4.3).
const SAME_QUESTION: Duration = Duration::from_secs(3);
/// Copies of one packet are no more than this apart, and firmware's repetitions a second or more.
const DOUBLED: Duration = Duration::from_millis(500);
/// In which firmware takes its lease, or asks again: the longest pause between two of its DISCOVERs is 32 s.
const JUST_NOW: Duration = Duration::from_secs(120);
/// A boot that ends in nothing takes ten seconds or more; five minutes hold a handful, and no thirty.
pub const SHORT_WHILE: Duration = Duration::from_secs(300);
/// iPXE starts without a boot between them that are let pass: people at a console try things, too.
const STARTS: usize = 5;
/// Loaders without an iPXE behind them: a fetch may be cut and begun anew.
const LOADS: usize = 5;
/// Times that are kept: enough for the reported number to mean something.
const REMEMBERED: usize = 30;
/// Loaders fetched by a weak iPXE: the second one should have been better.
const WEAK_LOADS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn attempts() -> (Attempts, Instant) {
        (Attempts::new(Rates::default(), []), Instant::now())
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_machine_that_repeats_its_discover_is_offered_the_next_shape() {
        let (mut attempts, start) = attempts();
        // EDK2's pattern where no offer is taken, then the same at the next power-on.
        let shapes: Vec<Shape> = [0, 4, 12, 28, 44, 200].map(|at| attempts.offer(MAC, start + seconds(at))).into();
        assert_eq!(shapes[..5], Shape::LADDER);
        assert_eq!(shapes[5], Shape::Direct, "from the top again");
        // A doubled packet is no repetition, and another machine is another ladder.
        assert_eq!(attempts.offer(MAC, start + seconds(202)), Shape::Direct);
        assert_eq!(attempts.offer(MacAddr([2; 6]), start + seconds(202)), Shape::Direct);
    }

    #[test]
    fn the_shape_that_led_to_a_fetch_is_the_next_boots_first() {
        let (mut attempts, start) = attempts();
        attempts.offer(MAC, start);
        assert_eq!(attempts.offer(MAC, start + seconds(4)), Shape::Option67);
        assert_eq!(attempts.loader_fetched(MAC, start + seconds(5)), Some(Shape::Option67));
        assert_eq!(attempts.loader_fetched(MAC, start + seconds(6)), None, "no news");
        assert_eq!(attempts.offer(MAC, start + seconds(500)), Shape::Option67);
        assert_eq!(attempts.loader_fetched(MAC, start + seconds(501)), None);
        // A firmware update: the remembered shape fails, the ladder goes on, and what works then replaces it.
        attempts.offer(MAC, start + seconds(1000));
        assert_eq!(attempts.offer(MAC, start + seconds(1004)), Shape::BootServer);
        assert_eq!(attempts.offer(MAC, start + seconds(1012)), Shape::Option66);
        assert_eq!(attempts.offer(MAC, start + seconds(1028)), Shape::Menu);
        assert_eq!(attempts.offer(MAC, start + seconds(1044)), Shape::Direct);
        assert_eq!(attempts.loader_fetched(MAC, start + seconds(1046)), Some(Shape::Direct));
        assert_eq!(attempts.offer(MAC, start + seconds(2000)), Shape::Direct);
        // What is usual is not reported.
        let other = MacAddr([2; 6]);
        attempts.offer(other, start);
        assert_eq!(attempts.ipxe_started(other, 1, start + seconds(9)), None);
        assert_eq!(attempts.ipxe_started(MacAddr([3; 6]), 1, start), None, "its ROM is an iPXE");
    }

    #[test]
    fn who_has_just_asked_is_known_for_a_while_and_its_times_are_counted() {
        let (mut attempts, start) = attempts();
        let eth1 = Arc::from("eth1");
        let mut times =
            |millis| attempts.asks(MAC, &eth1, None, start + Duration::from_millis(millis)).expect("few enough");
        assert_eq!([times(0), times(3), times(5000), times(5400), times(9000)], [1, 1, 2, 2, 3]);
        assert_eq!(times(9000 + 120_000), 1, "another boot");
        assert!(attempts.has_just_asked(MAC, start + seconds(200)));
        assert!(!attempts.has_just_asked(MAC, start + seconds(249)));
        assert!(!attempts.has_just_asked(MacAddr([2; 6]), start));
    }

    #[test]
    fn an_earlier_run_is_remembered() {
        let mut attempts = Attempts::new(Rates::default(), [(Key::Card(MAC), Learned::shape(Shape::BootServer))]);
        assert_eq!(attempts.offer(MAC, Instant::now()), Shape::BootServer);
        for shape in Shape::LADDER {
            assert_eq!(Shape::named(shape.name()), Some(shape));
        }
    }

    #[test]
    fn ipxe_that_starts_over_and_over_is_told_so_until_it_rests_or_boots() {
        let (mut attempts, start) = attempts();
        for n in 0..5 {
            for repetition in 0..3 {
                attempts.ipxe_started(MAC, n, start + seconds(u64::from(n) * 10 + repetition));
            }
            assert_eq!(attempts.ipxe_loop(MAC, start + seconds(50)), None, "{n}");
        }
        attempts.ipxe_started(MAC, 99, start + seconds(50));
        assert_eq!(attempts.ipxe_loop(MAC, start + seconds(51)), Some(Reason::IpxeLoop(6)));
        assert_eq!(attempts.ipxe_loop(MAC, start + seconds(301)), None);
        attempts.handed_over(MAC);
        assert_eq!(attempts.ipxe_loop(MAC, start + seconds(51)), None);
    }

    #[test]
    fn a_loader_that_never_becomes_a_capable_ipxe_is_not_loaded_for_ever() {
        let (mut attempts, start) = attempts();
        for n in 0..=5 {
            assert_eq!(attempts.loader_loop(MAC, false, start + seconds(n)), None);
            attempts.loader_fetched(MAC, start + seconds(n));
        }
        assert_eq!(attempts.loader_loop(MAC, false, start + seconds(6)), Some(Reason::LoaderLoop(6)));
        assert_eq!(attempts.loader_loop(MAC, false, start + seconds(310)), None);
        attempts.ipxe_started(MAC, 1, start + seconds(7));
        assert_eq!(attempts.loader_loop(MAC, false, start + seconds(8)), None);
        // A weak iPXE that has loaded ours three times got a weak one each time.
        for n in 10..13 {
            assert_eq!(attempts.loader_loop(MAC, true, start + seconds(n)), None);
            attempts.loader_fetched(MAC, start + seconds(n));
        }
        assert_eq!(attempts.loader_loop(MAC, true, start + seconds(14)), Some(Reason::LoaderLoop(3)));
    }

    #[test]
    fn answers_are_limited_for_each_machine_and_in_total() {
        let start = Instant::now();
        let mut attempts = Attempts::new(Rates { total: 100, per_client: 10 }, []);
        let eth1 = Arc::from("eth1");
        let mut admitted =
            |mac: u8, at: Duration| attempts.asks(MacAddr([2, 0, 0, 0, 0, mac]), &eth1, None, start + at).is_ok();
        assert_eq!((0..50).filter(|_| admitted(1, Duration::ZERO)).count(), 20, "two seconds' worth");
        assert_eq!((0..50).filter(|_| admitted(1, seconds(1))).count(), 10);
        assert_eq!((0..=255).filter(|mac| admitted(*mac, seconds(10))).count(), 200);
        assert!(admitted(1, seconds(11)));
    }

    #[test]
    fn a_flood_of_made_up_machines_is_bounded() {
        let ((mut attempts, start), eth1) = (attempts(), Arc::from("eth1"));
        for n in 0..50_000u32 {
            let [a, b, c, d] = n.to_be_bytes();
            let mac = MacAddr([2, 0, a, b, c, d]);
            let _ = attempts.asks(mac, &eth1, None, start);
            attempts.offer(mac, start);
            attempts.ipxe_started(mac, n, start);
        }
        assert!(attempts.machines.len() <= MACHINES);
        assert!(attempts.worked.is_empty());
    }

    #[test]
    fn what_another_appliance_learned_is_offered_until_it_is_forgotten_there() {
        let (mut attempts, start) = attempts();
        let learned = Learned { shape: Some(Shape::Menu), trust: Some(Trust::Unsigned) };
        attempts.know(Key::Card(MAC), learned);
        assert_eq!((attempts.offer(MAC, start), attempts.trust(MAC).trust), (Shape::Menu, Trust::Unsigned));
        attempts.know(Key::Card(MAC), Learned::default());
        assert_eq!((attempts.offer(MAC, start), attempts.trust(MAC).trust), (Shape::Direct, Trust::Signed));
    }
}
