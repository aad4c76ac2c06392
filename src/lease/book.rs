//! Who has which address. No address is given to two machines.
//!
//! A machine is known by its card alone: firmware, iPXE and the system that it boots send different client identifiers
//! (option 61), and all of them get the same address.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

use super::{At, network::Network, terms::Range};
use crate::boot::mac::MacAddr;

/// All leases of the server.
#[derive(Debug, Default)]
pub struct Book {
    by_address: BTreeMap<Ipv4Addr, Entry>,
    /// By the name of the network and the card.
    by_card: HashMap<(Arc<str>, MacAddr), Ipv4Addr>,
    /// Entries by their ends: what ended the longest ago is given away first.
    by_end: BTreeSet<(At, Ipv4Addr)>,
    /// Below this address of a network, every address of these ranges has an entry, or is in `freed`.
    fresh_from: HashMap<Arc<str>, (Vec<Range>, Ipv4Addr)>,
    /// Addresses whose entry was removed.
    freed: BTreeSet<Ipv4Addr>,
    /// The reservations when `fresh_from` was set: what is no longer reserved can be given to anyone.
    reserved: BTreeSet<Ipv4Addr>,
    /// When a card last booted from us, and the UUID that it booted with.
    booted: HashMap<MacAddr, (At, Option<Uuid>)>,
}

/// An address that is, or was, in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The network's name.
    pub network: Arc<str>,
    /// The machine's card.
    pub card: MacAddr,
    /// What the address is.
    pub held: Held,
    /// When this ends.
    pub ends: At,
    /// For how long it was given.
    pub time: Duration,
}

/// What an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Offered, and not accepted yet.
    Offered,
    /// Leased.
    Leased,
    /// Given back by its machine, which gets it again if it asks.
    Released,
    /// A machine that netbootd did not give it to answered, or its own machine found another one that uses it.
    Taken,
}

impl Held {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Offered, Self::Leased, Self::Released, Self::Taken];

    /// A short fixed name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Offered => "offered",
            Self::Leased => "leased",
            Self::Released => "released",
            Self::Taken => "taken",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|held| held.name() == name)
    }
}

/// A machine that asks.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The network that it is in.
    pub network: &'a Network,
    /// Its card.
    pub card: MacAddr,
    /// Whether its firmware or its iPXE asks: its lease is short, because the system that it boots asks again.
    pub is_boot: bool,
    /// The address that its rule reserves for it.
    pub reserved: Option<Ipv4Addr>,
    /// The addresses that rules reserve for all machines.
    pub reservations: &'a BTreeSet<Ipv4Addr>,
    /// Now.
    pub now: At,
}

/// An address for a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The address.
    pub address: Ipv4Addr,
    /// For how long.
    pub time: Duration,
    /// Whether it is the machine's own already. Another address has to be tried first: somebody may use it who asked
    /// nobody.
    pub is_its: bool,
}

/// The answer to a DHCPREQUEST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// DHCPACK, once the lease is stored.
    Ack(Given),
    /// DHCPNAK, with the reason.
    Nak(&'static str),
    /// None, with the reason.
    Silence(&'static str),
}

/// No address is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Book {
    /// The address to offer for a DHCPDISCOVER (RFC 2131 §4.3.1). `wanted` is that of option 50. It is kept for the
    /// machine for a while.
    ///
    /// # Errors
    /// [`Full`].
    pub fn offer(&mut self, ask: &Ask<'_>, wanted: Option<Ipv4Addr>) -> Result<Given, Full> {
        let own = self.own(ask);
        let reserved = ask.reserved.filter(|at| ask.network.may_reserve(*at) && self.is_free_for(*at, ask));
        // A lease that runs stays with its machine, but its reservation goes before one that is over.
        let address = reserved
            .or(own)
            .or_else(|| wanted.filter(|at| self.is_for_anyone(*at, ask) && self.is_free_for(*at, ask)))
            .or_else(|| self.fresh(ask))
            .or_else(|| self.oldest(ask))
            .ok_or(Full)?;
        let entry = self.by_address.get(&address);
        let runs =
            entry.is_some_and(|entry| entry.card == ask.card && entry.held == Held::Leased && entry.ends > ask.now);
        let is_its =
            entry.is_some_and(|entry| entry.card == ask.card && entry.held != Held::Released && entry.ends > ask.now);
        if !runs {
            self.put(address, ask, Held::Offered, ask.now + OFFERED, OFFERED);
        }
        Ok(Given { address, time: time(ask), is_its })
    }

    /// The answer to a DHCPREQUEST that accepts our offer (RFC 2131 §4.3.2, SELECTING).
    pub fn select(&mut self, ask: &Ask<'_>, address: Ipv4Addr) -> Answer {
        match self.by_address.get(&address) {
            Some(entry) if entry.card == ask.card && entry.held != Held::Taken && self.may_have(address, ask) => {
                self.grant(ask, address)
            }
            _ if !self.is_ours(address, ask) => Answer::Silence(NOT_OURS),
            _ => Answer::Nak("the address was not offered to this machine, or the offer has ended"),
        }
    }

    /// The answer to a DHCPREQUEST of a machine that believes it has this address: INIT-REBOOT, RENEWING and REBINDING
    /// (RFC 2131 §4.3.2). `uses_it`: it has the address on its card, and renews (ciaddr); otherwise it wants to use it again
    /// after its start.
    pub fn confirm(&mut self, ask: &Ask<'_>, address: Ipv4Addr, uses_it: bool) -> Answer {
        if !self.is_ours(address, ask) {
            return Answer::Silence(NOT_OURS);
        }
        if !self.may_have(address, ask) {
            return Answer::Nak("the address is reserved for another machine");
        }
        match self.by_address.get(&address) {
            Some(entry) if entry.card == ask.card && entry.held != Held::Taken => self.grant(ask, address),
            Some(entry) if entry.ends > ask.now => Answer::Nak("another machine has this address"),
            // The address may be in use by a machine that we forgot; its own machine has another one by now.
            _ if self.own(ask).is_some_and(|own| own != address) => Answer::Nak("this machine has another address"),
            // RFC 2131 §4.3.2, INIT-REBOOT: a server without a record of the client is silent. Its DHCPDISCOVER comes next, and
            // the address is tried before it is offered.
            _ if !uses_it && self.own(ask).is_none() => Answer::Silence("this machine has no lease yet, and asks anew"),
            _ => self.grant(ask, address),
        }
    }

    /// A machine found another one that uses the address that we gave it (DHCPDECLINE, RFC 2131 §4.3.3). Returns
    /// whether this changes anything.
    pub fn decline(&mut self, ask: &Ask<'_>, address: Ipv4Addr) -> bool {
        let is_its = self.by_address.get(&address).is_some_and(|entry| entry.card == ask.card);
        if is_its {
            self.taken(ask, address);
        }
        is_its
    }

    /// A machine gives its address back (DHCPRELEASE, RFC 2131 §4.3.4). Returns whether this changes anything.
    pub fn release(&mut self, ask: &Ask<'_>, address: Ipv4Addr) -> bool {
        let is_its =
            self.by_address.get(&address).is_some_and(|entry| entry.card == ask.card && entry.held == Held::Leased);
        if is_its {
            self.put(address, ask, Held::Released, ask.now, Duration::ZERO);
        }
        is_its
    }

    /// Somebody uses this address whom we did not give it to: nobody gets it for a while.
    pub fn taken(&mut self, ask: &Ask<'_>, address: Ipv4Addr) {
        self.put(address, ask, Held::Taken, ask.now + QUARANTINE, QUARANTINE);
    }

    /// The machine took another server's offer, or it is not sent: it is over.
    pub fn forget_offer(&mut self, network: &Arc<str>, card: MacAddr) {
        let offered = self.address_of(network, card);
        if let Some(address) = offered.filter(|at| self.held_by(*at) == Some((card, Held::Offered))) {
            self.remove(address);
        }
    }

    /// Whether an address is, at the moment, offered or leased to this card.
    #[must_use]
    pub fn is_of(&self, address: Ipv4Addr, card: MacAddr, now: At) -> bool {
        let entry = self.by_address.get(&address).filter(|entry| entry.card == card && entry.ends > now);
        entry.is_some_and(|entry| matches!(entry.held, Held::Offered | Held::Leased))
    }

    /// The entry of an address.
    #[must_use]
    pub fn entry(&self, address: Ipv4Addr) -> Option<&Entry> {
        self.by_address.get(&address)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, &Entry)> {
        self.by_address.iter().map(|(address, entry)| (*address, entry))
    }

    /// A card boots from us, in a machine with this UUID.
    pub fn booted(&mut self, card: MacAddr, uuid: Option<Uuid>, now: At) {
        if self.booted.len() >= BOOTED_MOST {
            self.booted.retain(|_, (at, _)| *at + AFTER_BOOT > now);
        }
        if self.booted.len() < BOOTED_MOST || self.booted.contains_key(&card) {
            self.booted.insert(card, (now, uuid));
        }
    }

    /// The UUID that a card last booted with. The system that it boots does not send it.
    #[must_use]
    pub fn uuid_of(&self, card: MacAddr) -> Option<Uuid> {
        self.booted.get(&card).and_then(|(_, uuid)| *uuid)
    }

    /// Whether a machine that is no boot client gets a lease: it booted from us within the last hour, or it has a lease.
    #[must_use]
    pub fn is_known(&self, network: &Arc<str>, card: MacAddr, now: At) -> bool {
        let has_booted = self.booted.get(&card).is_some_and(|(at, _)| *at + AFTER_BOOT > now);
        let has_lease = || {
            let entry = self.address_of(network, card).and_then(|address| self.by_address.get(&address));
            entry.is_some_and(|entry| entry.held == Held::Leased && entry.ends + AFTER_BOOT > now)
        };
        has_booted || has_lease()
    }

    /// The last address of a card.
    #[must_use]
    pub fn address_of(&self, network: &Arc<str>, card: MacAddr) -> Option<Ipv4Addr> {
        self.by_card.get(&(network.clone(), card)).copied()
    }

    /// Puts in what an earlier run stored, in any order.
    pub fn restore(&mut self, entries: impl IntoIterator<Item = (Ipv4Addr, Entry)>) {
        let mut entries: Vec<_> = entries.into_iter().collect();
        // Of several addresses, a machine has the one that it was given last.
        entries.sort_by_key(|(_, entry)| entry.ends);
        for (address, entry) in entries {
            self.insert(address, entry);
        }
    }

    /// The address that this machine has, or had, and can have again.
    fn own(&self, ask: &Ask<'_>) -> Option<Ipv4Addr> {
        let own = self.by_card.get(&(ask.network.name.clone(), ask.card)).copied()?;
        let entry = self.by_address.get(&own)?;
        let is_good = entry.card == ask.card && entry.held != Held::Taken && self.may_have(own, ask);
        is_good.then_some(own)
    }

    /// Whether this machine may have an address, if nobody else has it.
    fn may_have(&self, address: Ipv4Addr, ask: &Ask<'_>) -> bool {
        ask.reserved == Some(address) && ask.network.may_reserve(address) || self.is_for_anyone(address, ask)
    }

    /// Whether the address is in a range, and is nobody's by a rule.
    fn is_for_anyone(&self, address: Ipv4Addr, ask: &Ask<'_>) -> bool {
        let Ask { network, reservations, .. } = ask;
        network.leases(address, false) && !reservations.contains(&address) && !network.own.contains(&address)
    }

    fn is_ours(&self, address: Ipv4Addr, ask: &Ask<'_>) -> bool {
        ask.network.leases(address, ask.reservations.contains(&address))
    }

    fn is_free_for(&self, address: Ipv4Addr, ask: &Ask<'_>) -> bool {
        self.by_address
            .get(&address)
            .is_none_or(|entry| entry.ends <= ask.now || (entry.card == ask.card && entry.held != Held::Taken))
    }

    /// An address that nobody ever had.
    fn fresh(&mut self, ask: &Ask<'_>) -> Option<Ipv4Addr> {
        let network = ask.network;
        if self.reserved != *ask.reservations {
            self.reserved.clone_from(ask.reservations);
            self.fresh_from.clear();
        }
        let freed = self.freed.iter().copied().find(|address| self.is_for_anyone(*address, ask));
        if freed.is_some() {
            return freed;
        }
        // An interface whose addresses changed has other ranges, and the same name.
        let known = self.fresh_from.get(&network.name).filter(|(ranges, _)| *ranges == network.ranges);
        let from = known.map_or(Ipv4Addr::UNSPECIFIED, |(_, from)| *from);
        let mut ranges = network.ranges.clone();
        ranges.sort_unstable();
        for range in ranges.iter().filter(|range| range.last >= from) {
            for address in (range.first.max(from).to_bits()..=range.last.to_bits()).map(Ipv4Addr::from_bits) {
                if !self.by_address.contains_key(&address) && self.is_for_anyone(address, ask) {
                    self.fresh_from.insert(network.name.clone(), (network.ranges.clone(), address));
                    return Some(address);
                }
            }
        }
        self.fresh_from.insert(network.name.clone(), (network.ranges.clone(), Ipv4Addr::BROADCAST));
        None
    }

    /// The address whose use ended the longest ago.
    fn oldest(&self, ask: &Ask<'_>) -> Option<Ipv4Addr> {
        let over = self.by_end.range(..=(ask.now, Ipv4Addr::BROADCAST)).map(|(_, address)| *address);
        over.into_iter().find(|address| self.is_for_anyone(*address, ask) && ask.network.prefix.contains(*address))
    }

    fn grant(&mut self, ask: &Ask<'_>, address: Ipv4Addr) -> Answer {
        let time = time(ask);
        // What was promised for longer stays promised.
        let promised =
            self.by_address.get(&address).filter(|entry| entry.card == ask.card && entry.held == Held::Leased);
        let ends = promised.map_or(At::ZERO, |entry| entry.ends).max(ask.now + time);
        self.put(address, ask, Held::Leased, ends, time);
        Answer::Ack(Given { address, time, is_its: true })
    }

    fn held_by(&self, address: Ipv4Addr) -> Option<(MacAddr, Held)> {
        self.by_address.get(&address).map(|entry| (entry.card, entry.held))
    }

    fn put(&mut self, address: Ipv4Addr, ask: &Ask<'_>, held: Held, ends: At, time: Duration) {
        let network = ask.network.name.clone();
        // An offer of another address that was not accepted is over. A lease stays until it ends.
        if let Some(before) = self.by_card.get(&(network.clone(), ask.card)).copied()
            && before != address
            && self.held_by(before) == Some((ask.card, Held::Offered))
        {
            self.remove(before);
        }
        self.insert(address, Entry { network, card: ask.card, held, ends, time });
    }

    fn insert(&mut self, address: Ipv4Addr, entry: Entry) {
        self.remove(address);
        self.freed.remove(&address);
        self.by_end.insert((entry.ends, address));
        if entry.held != Held::Taken {
            self.by_card.insert((entry.network.clone(), entry.card), address);
        }
        self.by_address.insert(address, entry);
    }

    fn remove(&mut self, address: Ipv4Addr) {
        let Some(entry) = self.by_address.remove(&address) else { return };
        self.by_end.remove(&(entry.ends, address));
        let key = (entry.network, entry.card);
        if self.by_card.get(&key) == Some(&address) {
            self.by_card.remove(&key);
        }
        self.freed.insert(address);
    }
}

fn time(ask: &Ask<'_>) -> Duration {
    if ask.is_boot { ask.network.time.min(FIRMWARE) } else { ask.network.time }
}

const NOT_OURS: &str = "the address is in none of our ranges";
/// How long an offer is kept: firmware collects offers for up to a minute (PXE 2.1 §2.2.1: 4, 8, 16 and 32 s).
const OFFERED: Duration = Duration::from_secs(60);
/// How long firmware and iPXE have an address. They do not renew it, and the system that they boot asks again.
const FIRMWARE: Duration = Duration::from_secs(600);
/// How long an address that somebody else uses is left alone.
const QUARANTINE: Duration = Duration::from_secs(600);
/// How long after its boot a machine gets leases for what it booted.
const AFTER_BOOT: Duration = Duration::from_secs(3600);
/// Cards whose boot is remembered.
const BOOTED_MOST: usize = 65_536;

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
