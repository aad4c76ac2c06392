//! The leases of the server, with a desk for each interface that they are given on.

mod desk;
mod replies;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

pub use desk::Desk;
use replies::Replies;
pub use replies::Sent;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::offered::Offered;
use crate::{
    boot::{live::Live, mac::MacAddr, machine::Rules},
    lease::{
        At,
        book::Book,
        guard::{Guard, Sign, Stop, Twin},
        kept::{Clocks, Kept},
        network::Network,
        terms::{Leasing, Terms},
        view::{Leases, OnNetwork, OneLease, Standing},
    },
    net::{boot_time, interface::Interface},
};

/// The addresses that rules reserve, with the rules that they are of.
type Reserved = (Arc<Rules>, Arc<BTreeSet<Ipv4Addr>>);

/// See the module.
#[derive(Debug)]
pub struct Office {
    terms: Leasing,
    live: Arc<Live>,
    book: Mutex<Book>,
    relayed: Vec<(Network, Mutex<Guard>)>,
    desks: Mutex<BTreeMap<Arc<str>, Arc<Desk>>>,
    keep: Option<mpsc::UnboundedSender<ToKeep>>,
    /// How often no address was free, by network; and whether that is so now.
    full: Mutex<BTreeMap<Arc<str>, (u64, bool)>>,
    replies: Replies,
    reservations: Mutex<Option<Reserved>>,
    start: String,
    /// The vendor class of our own questions.
    class: String,
}

/// A lease to store.
pub struct ToKeep {
    /// The lease.
    pub kept: Kept,
    /// What to do when it is stored: the reply is sent.
    pub then: Option<Box<dyn FnOnce() + Send>>,
}

/// Who sent a message.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    /// The sender's address.
    pub address: Ipv4Addr,
    /// The card that its frame came from.
    pub card: MacAddr,
    /// Whether the frame cannot be one that this host sends.
    pub is_from_wire: bool,
}

impl Office {
    /// With the leases of an earlier run. `nonce` tells this server from others that lease.
    #[must_use]
    pub fn new(
        terms: Leasing,
        live: Arc<Live>,
        kept: &[Kept],
        keep: Option<mpsc::UnboundedSender<ToKeep>>,
        nonce: u32,
    ) -> Self {
        let relayed = terms.relayed.iter().filter_map(|(prefix, terms)| {
            let name: Arc<str> = prefix.to_string().into();
            let network = Network::new(name, *prefix, Vec::new(), terms);
            let network = network.inspect_err(|why| error!("no leases on {prefix}: {why}")).ok()?;
            let mut guard = Guard::new(At::ZERO, Duration::MAX);
            // There is no way to ask on a network behind a relay. Another server is noticed by what machines accept.
            while guard.is_asking() {
                guard.tick(guard.next().unwrap_or_default());
            }
            info!("leases on {prefix}, behind a relay: {} for {} s", network.ranges_text(), network.time.as_secs());
            Some((network, Mutex::new(guard)))
        });
        let relayed = relayed.collect();
        let mut office = Self {
            terms,
            live,
            book: Mutex::default(),
            relayed,
            desks: Mutex::default(),
            keep,
            full: Mutex::default(),
            replies: Replies::default(),
            reservations: Mutex::default(),
            start: boot_time::this_start(),
            class: String::new(),
        };
        let clocks = office.clocks();
        office.book().restore(kept.iter().map(|kept| kept.entry(&clocks)));
        office.class = format!("{nonce:08x}");
        office
    }

    /// All leases.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Whether every client gets a lease.
    #[must_use]
    pub fn is_for_everyone(&self) -> bool {
        self.terms.everyone
    }

    /// The addresses that rules reserve.
    pub fn reservations(&self, rules: &Arc<Rules>) -> Arc<BTreeSet<Ipv4Addr>> {
        let mut known = lock(&self.reservations);
        match &*known {
            Some((of, reservations)) if Arc::ptr_eq(of, rules) => reservations.clone(),
            _ => {
                let reservations = Arc::new(rules.reservations());
                *known = Some((rules.clone(), reservations.clone()));
                reservations
            }
        }
    }

    /// The desk on an interface, if addresses are leased there. An interface that comes back is asked on anew.
    pub fn open(&self, interface: &Interface, obstacle: Option<Stop>) -> Option<Arc<Desk>> {
        let name: Arc<str> = interface.name.as_str().into();
        let terms = Some(self.terms.terms_of(&name)).filter(|terms| terms.enabled)?;
        let desk = lock(&self.desks).get(&name).cloned();
        let desk = desk.unwrap_or_else(|| Arc::new(Desk::new(interface, &self.terms)));
        desk.guard().changed(boot_time::now());
        lock(&self.desks).insert(name, desk.clone());
        let obstacle = obstacle.or_else(|| desk.default_route());
        self.fit(&desk, interface, terms);
        if let Some(why) = obstacle {
            self.halt(&desk, why);
        }
        if let Some(network) = desk.network().filter(|_| desk.guard().is_asking()) {
            let (ranges, seconds) = (network.ranges_text(), network.time.as_secs());
            info!("lease {}: {ranges} for {seconds} s, if no other DHCP server answers", desk.name);
        }
        Some(desk)
    }

    /// The interface has other addresses now.
    pub fn fit_desk(&self, interface: &Interface) {
        let desk = lock(&self.desks).get(interface.name.as_str()).cloned();
        if let Some(desk) = desk {
            self.fit(&desk, interface, self.terms.terms_of(&interface.name));
        }
    }

    fn fit(&self, desk: &Desk, interface: &Interface, terms: &Terms) {
        match desk.fit(interface, terms) {
            Ok(true) => {
                info!("the range fits {} again: asking whether another DHCP server is there", desk.name);
                self.tell();
            }
            Ok(false) => {}
            Err(why) => self.halt(desk, Stop::Unfit(why)),
        }
    }

    /// Leasing on an interface stops for good.
    pub fn halt_on(&self, interface: &str, why: Stop) {
        let desk = lock(&self.desks).get(interface).cloned();
        if let Some(desk) = desk {
            self.halt(&desk, why);
        }
    }

    fn halt(&self, desk: &Desk, why: Stop) {
        let words = format!("no leases on {}: {why}", desk.name);
        if desk.guard().halt(why) {
            error!("{words}");
            self.tell();
        }
    }

    /// Leasing on a network behind a relay stops for good.
    pub fn halt_relayed(&self, network: &str, why: Stop) {
        let found = self.relayed.iter().find(|(relayed, _)| *relayed.name == *network);
        if let Some((_, guard)) = found {
            let words = format!("no leases on {network}: {why}");
            if lock(guard).halt(why) {
                error!("{words}");
                self.tell();
            }
        }
    }

    /// The network that a machine is in, if leases may be given there now. `at`: the address of its relay, or its own
    /// address; without one, it is on the interface's network.
    pub fn network(&self, desk: &Desk, at: Option<Ipv4Addr>) -> Option<Arc<Network>> {
        let own = desk.network();
        let Some(at) = at else { return own.filter(|_| desk.is_clear()) };
        let own = own.filter(|own| own.prefix.contains(at));
        match (own, self.relayed_at(at)) {
            // Of a network within another one, the smaller.
            (own, Some((relayed, guard)))
                if own.as_ref().is_none_or(|own| own.prefix.length < relayed.prefix.length) =>
            {
                lock(guard).is_clear().then(|| Arc::new(relayed.clone()))
            }
            (own, _) => own.filter(|_| desk.is_clear()),
        }
    }

    fn relayed_at(&self, at: Ipv4Addr) -> Option<&(Network, Mutex<Guard>)> {
        let there = self.relayed.iter().filter(|(network, _)| network.prefix.contains(at));
        there.max_by_key(|(network, _)| network.prefix.length)
    }

    /// The guard's time has come. Whether to ask now.
    pub fn tick(&self, desk: &Desk) -> bool {
        if let Some(why) = desk.default_route() {
            self.halt(desk, why);
        }
        let mut guard = desk.guard();
        let was_asking = guard.is_asking();
        let asks = guard.tick(boot_time::now());
        if was_asking && guard.is_clear() {
            info!("no other DHCP server answers on {}: addresses are leased", desk.name);
        }
        asks
    }

    /// The vendor class of the guard's questions: another netbootd that leases answers them.
    #[must_use]
    pub fn class(&self, desk: &Desk) -> Vec<u8> {
        format!("{CLASS}{} {}", desk.address(), self.class).into_bytes()
    }

    /// Another netbootd asks whether somebody leases. Whether to answer with an offer.
    pub fn twin(&self, desk: &Desk, vendor_class: &[u8]) -> Option<bool> {
        let text = std::str::from_utf8(vendor_class).ok()?.strip_prefix(CLASS)?;
        let (address, nonce) = text.split_once(' ')?;
        let theirs = (address.parse().ok()?, nonce);
        if nonce == self.class {
            return Some(false);
        }
        let ours = (desk.address(), self.class.as_str());
        let mut guard = desk.guard();
        let twin = guard.twin(theirs, ours);
        let words = guard.stop().map(ToString::to_string).unwrap_or_default();
        drop(guard);
        if twin == Twin::Stopped {
            error!("no leases on {}: {words}", desk.name);
            self.tell();
        }
        Some(twin == Twin::Answer)
    }

    /// A message of a server was heard on an interface. If another server leases there, we stop. `ours` are the addresses
    /// of all our interfaces.
    pub fn heard(&self, desk: &Desk, offered: &Offered, sender: Sender, ours: &[Ipv4Addr]) {
        let Offered { mac, yiaddr, giaddr, server_id, is_ack, is_nak, .. } = offered;
        let server = server_id.unwrap_or(sender.address);
        // A proxy's offer has no address, and harms no lease.
        let is_lease = !yiaddr.is_unspecified() || *is_nak;
        if !is_lease {
            return;
        }
        let is_given = || *is_nak || self.book().is_of(*yiaddr, *mac, boot_time::now());
        let has_our_address = ours.contains(&server);
        let is_own = if giaddr.is_unspecified() {
            // The address alone says nothing: another host may have the same one (RFC 5227 §1). Our own frame comes from a
            // card of ours. From the wire it comes back only by a loop in the network, and then we know what it gives.
            let is_known = || !sender.is_from_wire || sender.card != desk.card() || is_given() || desk.shows(*yiaddr);
            has_our_address && self.is_own_card(sender.card) && is_known()
        } else {
            // Our own reply, which a relay brings back, can have the relay's identifier (RFC 5107).
            has_our_address || is_given()
        };
        if is_own {
            return;
        }
        let sign = match (is_nak, is_ack) {
            (true, _) => Sign::Nak,
            (false, true) => Sign::Ack(*yiaddr),
            (false, false) => Sign::Offer(*yiaddr),
        };
        let why = match has_our_address {
            true => Stop::SameAddress(server, sender.card, sign),
            false => Stop::Foreign(server, sign),
        };
        self.halt(desk, why);
    }

    fn is_own_card(&self, card: MacAddr) -> bool {
        lock(&self.desks).values().any(|desk| desk.card() == card)
    }

    /// A machine accepted the offer of another server. Its answer may have been a unicast that we did not hear.
    pub fn accepted_elsewhere(&self, desk: &Desk, relay: Option<Ipv4Addr>, server: Ipv4Addr) {
        let why = Stop::Foreign(server, Sign::Accepted);
        match relay {
            None => self.halt(desk, why),
            Some(relay) => {
                if let Some((network, _)) = self.relayed_at(relay) {
                    self.halt_relayed(&network.name, why);
                }
            }
        }
    }

    /// Every address of a network is in use, or one is free again.
    pub fn set_full(&self, network: &Network, is_full: bool) {
        let mut full = lock(&self.full);
        let (count, before) = full.entry(network.name.clone()).or_default();
        *count += u64::from(is_full);
        if std::mem::replace(before, is_full) != is_full {
            drop(full);
            if is_full {
                warn!("{}", full_words(&network.name, &network.ranges_text()));
            }
            self.tell();
        }
    }

    /// Counts a reply.
    pub fn count(&self, sent: Sent) {
        self.replies.count(sent);
    }

    /// Stores what the book says about an address, and then does `then`: at once where there is no state.
    pub fn keep(&self, address: Ipv4Addr, then: Option<Box<dyn FnOnce() + Send>>) {
        let entry = self.book().entry(address).cloned();
        match (&self.keep, entry) {
            (Some(keep), Some(entry)) => {
                let kept = Kept::new(address, &entry, &self.clocks());
                // A keeper that has gone, as the server stops, keeps nothing: no reply then.
                let _ = keep.send(ToKeep { kept, then });
            }
            _ => then.into_iter().for_each(|then| then()),
        }
    }

    fn clocks(&self) -> Clocks {
        let today = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clocks { now: boot_time::now(), start: self.start.clone(), today }
    }

    /// Shows on the page and in the API where nothing is leased any more, and why.
    fn tell(&self) {
        let full = lock(&self.full).clone();
        let networks = self.networks();
        let lines = networks.iter().filter_map(|network| {
            let stopped = network.why.as_ref().map(|why| format!("no leases on {}: {why}", network.name));
            let is_full = full.get(&network.name).is_some_and(|(_, is_full)| *is_full);
            stopped.or_else(|| is_full.then(|| full_words(&network.name, &network.range)))
        });
        self.live.lease_faults.store(Arc::new(lines.collect()));
    }

    fn networks(&self) -> Vec<OnNetwork> {
        let full = lock(&self.full).clone();
        let on = |network: Option<&Network>, name: &Arc<str>, guard: &Guard| OnNetwork {
            name: name.clone(),
            state: match guard.stop() {
                Some(_) => Standing::Stopped,
                None if guard.is_clear() => Standing::Leasing,
                None => Standing::Asking,
            },
            why: guard.stop().map(ToString::to_string),
            label: guard.stop().map(Stop::label),
            range: network.map(Network::ranges_text).unwrap_or_default(),
            size: network.map(Network::size).unwrap_or_default(),
            full: full.get(name).map_or(0, |(count, _)| *count),
        };
        let desks: Vec<Arc<Desk>> = lock(&self.desks).values().cloned().collect();
        let own = desks.iter().map(|desk| on(desk.network().as_deref(), &desk.name, &desk.guard()));
        let relayed = self.relayed.iter().map(|(network, guard)| on(Some(network), &network.name, &lock(guard)));
        own.chain(relayed).collect()
    }

    /// Everything, for people and programs.
    #[must_use]
    pub fn view(&self) -> Leases {
        let now = boot_time::now();
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let one = |(address, entry): (Ipv4Addr, &crate::lease::book::Entry)| OneLease {
            address,
            card: entry.card,
            network: entry.network.clone(),
            held: entry.held,
            ends_in: seconds(entry.ends.saturating_sub(now)) - seconds(now.saturating_sub(entry.ends)),
            time: entry.time.as_secs(),
        };
        let leases = self.book().iter().map(one).collect();
        Leases { networks: self.networks(), leases, replies: self.replies.view() }
    }
}

fn full_words(name: &str, range: &str) -> String {
    format!("every address of {name} ({range}) is in use: set a larger lease.range, or a shorter lease.time")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The vendor class of the guard's questions begins with this.
const CLASS: &str = "netbootd-asks ";
#[cfg(test)]
mod tests;
