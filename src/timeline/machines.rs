//! Event → the timelines of all machines, joined and bounded; what is new in them, and a picture of the whole.
//!
//! The stages learn different things of a machine: DHCP its MAC address, TFTP and HTTP only its IP address. They are
//! joined here.

use std::{
    collections::VecDeque,
    mem,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;

pub use super::machine::{Machine, Packet};
use super::{
    boot::{Chosen, Step, Timeline},
    cause::State,
    event::{Event, What, Who},
    moment::Moment,
    stage::Stage,
    transfer::Part,
};
use crate::boot::{
    identity::{Key, MachineId},
    mac::MacAddr,
    over::Of,
    reason::Reason,
    recent::Recent,
    text::is_unseen,
};

/// All machines that were seen lately. Of more than [`Timelines::MACHINES`] those that were silent the longest are
/// forgotten, so a flood of made-up addresses costs a fixed amount of memory, and of time for each.
#[derive(Debug)]
pub struct Timelines {
    machines: Recent<Who, Machine>,
    by_address: Recent<Ipv4Addr, MachineId>,
    /// Who used a card last, where that is known by more than the card.
    by_card: Recent<MacAddr, MachineId>,
    /// Machines that were seen at an address.
    at_address: Recent<Ipv4Addr, Vec<MachineId>>,
    /// By which cards a UUID was heard lately.
    turns: Recent<Uuid, Turns>,
    /// Files that addresses asked for in vain of which nothing else is known.
    in_vain: Recent<(Who, String), ()>,
    /// Counts changes.
    version: u64,
}

/// The cards that one UUID is heard by, in turn.
#[derive(Clone, Copy, Debug)]
struct Turns {
    last: MacAddr,
    /// How often it was another one since then.
    count: u32,
    since: Moment,
}

impl Default for Timelines {
    fn default() -> Self {
        let (machines, by_address) = (Recent::new(Self::MACHINES), Recent::new(Self::MACHINES));
        let (at_address, turns) = (Recent::new(Self::MACHINES), Recent::new(Self::MACHINES));
        let (by_card, in_vain) = (Recent::new(Self::MACHINES), Recent::new(Self::MACHINES));
        Self { machines, by_address, by_card, at_address, turns, in_vain, version: 0 }
    }
}

/// One step of a machine's boot, to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The machine; its address where no card is known.
    pub who: Who,
    /// What happened.
    pub step: Step,
}

/// What was seen of all machines, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The moment.
    pub at: Moment,
    /// Of the last change in it.
    pub version: u64,
    /// In the order of their addresses.
    pub machines: Vec<Machine>,
}

impl Snapshot {
    /// A machine under any of its names; of several that used one card, the one that was heard last.
    #[must_use]
    pub fn find(&self, who: Who) -> Option<&Machine> {
        let exact = self.machines.iter().find(|seen| seen.who == who);
        exact.or_else(|| {
            let Who::Machine(machine) = who else { return None };
            let uuid = machine.uuid();
            let by_uuid = |seen: &&Machine| uuid.is_some() && seen.id().is_some_and(|id| id.uuid() == uuid);
            let by_card = |seen: &&Machine| {
                let is_another = seen.id().and_then(|id| id.uuid()).zip(uuid).is_some();
                !is_another && machine.has_card() && seen.cards.contains(&machine.card)
            };
            let heard = |seen: &&Machine| seen.boot().map(|boot| boot.last);
            let by_uuid = self.machines.iter().find(by_uuid);
            by_uuid.or_else(|| self.machines.iter().filter(by_card).max_by_key(heard))
        })
    }
}

impl Timelines {
    /// How many machines are remembered.
    pub const MACHINES: usize = 2048;

    /// Takes an event in; the lines are what is new to people.
    pub fn apply(&mut self, event: Event, now: Moment) -> Vec<Line> {
        let mut lines = self.told_of_shared_uuid(&event, now);
        let came_as = event.who;
        let Whose { who, what, told } = self.whose(event, now);
        for (other, what) in told {
            lines.extend(self.apply_to(other, other, what, now));
        }
        lines.extend(self.apply_to(who, came_as, what, now));
        lines
    }

    /// Whose a file was that was fetched from an address. One machine whose script is under way there is whose it was; of
    /// two neither can be distinguished, unless their files say so themselves.
    fn whose(&mut self, Event { who, what }: Event, now: Moment) -> Whose {
        let nobody = |what: What| match what {
            What::Transfer(transfer) => {
                let part = Part { start: 0, whole: transfer.size, is_look: true };
                What::Part(transfer, part)
            }
            What::Part(transfer, part) => What::Part(transfer, Part { is_look: true, ..part }),
            what => what,
        };
        let Who::Address(address) = who else { return Whose { who: self.joined(who), what, told: vec![] } };
        let Some(name) = file(&what) else { return Whose { who: self.joined(who), what, told: vec![] } };
        let there = self.at_address.peek(&address).cloned().unwrap_or_default();
        let boot = |machine: &MachineId| self.machines.peek(&Who::Machine(*machine)).and_then(Machine::boot);
        let waits = |machine: &&MachineId| boot(machine).is_some_and(|boot| boot.waits(now) && !boot.claims);
        let waiting: Vec<MachineId> = there.iter().filter(waits).copied().collect();
        match waiting.as_slice() {
            [one] => Whose { who: Who::Machine(*one), what, told: vec![] },
            [] => {
                let who = self.joined(who);
                let claims = self.machines.peek(&who).and_then(Machine::boot).is_some_and(|boot| boot.claims);
                Whose { who, what: if claims { nobody(what) } else { what }, told: vec![] }
            }
            several => {
                let is_end = matches!(&what, What::Transfer(_) | What::Part(_, Part { is_look: false, .. }));
                let tell = |machine: &MachineId| (Who::Machine(*machine), What::NotSaidWhose(name.to_owned()));
                let told = if is_end { several.iter().map(tell).collect() } else { vec![] };
                let name = match what {
                    What::Silent(_) => return Whose { who, what: What::NotSaidWhose(name.to_owned()), told },
                    what => what,
                };
                Whose { who, what: nobody(name), told }
            }
        }
    }

    /// Two machines that boot at the same time and say the same UUID: reported where one is heard by two cards in turn.
    fn told_of_shared_uuid(&mut self, Event { who, what }: &Event, now: Moment) -> Vec<Line> {
        let Who::Machine(machine) = *who else { return Vec::new() };
        let is_boot = what.discover().is_some() || matches!(what, What::Script(_) | What::OwnScript(_));
        let Some(uuid) = machine.uuid().filter(|_| is_boot && machine.name().is_none()) else { return Vec::new() };
        let new = Turns { last: machine.card, count: 0, since: now };
        let turns = self.turns.touch_or(uuid, || new);
        if now.since(turns.since) > IN_TURN && turns.count < TURNS {
            *turns = Turns { last: turns.last, ..new };
        }
        if turns.last == machine.card {
            return Vec::new();
        }
        let other = mem::replace(&mut turns.last, machine.card);
        turns.count = turns.count.saturating_add(1);
        if turns.count == TURNS {
            self.apply_to(*who, *who, What::SharedUuid([other, machine.card]), now)
        } else {
            Vec::new()
        }
    }

    fn apply_to(&mut self, who: Who, came_as: Who, what: What, now: Moment) -> Vec<Line> {
        let offered = if let What::OfferedAddress(offer) = what { Some(offer.address) } else { None };
        if let (Who::Machine(machine), Some(address)) = (who, what.address().or(offered)) {
            self.learn_address(machine, address, now);
        }
        // An installer may be leased another address than the iPXE before it, and this one was signed for its machine.
        if let (Who::Machine(machine), What::Answer { to: IpAddr::V4(to), .. }) = (who, &what) {
            self.make_room_for(*to, now);
            self.by_address.insert(*to, machine);
        }
        let is_about_a_boot = !matches!(
            what,
            What::Address(_)
                | What::OfferedAddress(_)
                | What::OtherNetwork { .. }
                | What::Hardware(_)
                | What::Kept(_)
                | What::Serial(_)
                | What::HeardOn(_)
                | What::NotHere(_)
                | What::Rival(_)
                | What::Said(_)
        );
        // Of a machine that was not heard yet, what others say to it makes no boot; nor what it says by syslog, as
        // switches and printers do.
        if !is_about_a_boot && self.machines.peek(&who).is_none() {
            return self.told_in_vain(who, what, now).into_iter().collect();
        }
        self.version += 1;
        let version = self.version;
        if self.machines.peek(&who).is_none() {
            // A flood of made-up machines does not push out one that loads its one-time profile: nobody would see that this is
            // used up.
            self.machines.make_room(|machine| machine.boot().is_some_and(|boot| boot.loads_once(now)));
        }
        let machine = self.machine(who);
        machine.version = version;
        let is_of_script = matches!(what, What::Script(_) | What::OwnScript(_) | What::Hardware(_) | What::Serial(_));
        let shown = machine.is(who, is_of_script);
        if let What::Request(request) = &what {
            machine.keep(Packet { at: now, port: request.port, bytes: Arc::clone(&request.bytes) });
        }
        let mut lines = Vec::new();
        for what in what.into_parts() {
            if is_about_a_boot {
                machine.begin_unless_it_belongs_to_the_last(&what, now);
            }
            let said = machine.id().and_then(|id| id.uuid_as_said()).map(|uuid| uuid.to_string());
            let Some(boot) = machine.current() else { continue };
            if said.is_some() && boot.uuid != said {
                boot.uuid = said;
            }
            // Who fetches from an address has taken it, though no message said so.
            if let (true, Who::Address(address)) = (is_about_a_boot, came_as) {
                boot.address.get_or_insert(address);
            }
            lines.extend(boot.apply(what, now).into_iter().map(|step| Line { who: shown, step }));
        }
        lines
    }

    /// A machine whose boot file another DHCP server names may never be heard by DHCP, and the log is all that shows why it
    /// stops. Once for each file: telephones ask for theirs again and again.
    fn told_in_vain(&mut self, who: Who, what: What, now: Moment) -> Option<Line> {
        let What::NotHere(name) = what else { return None };
        let text = Reason::NotFound(name.clone()).to_string().replace(is_unseen, "?");
        let asked = (who, name);
        let is_known = self.in_vain.get(&asked).is_some();
        self.in_vain.insert(asked, ());
        (!is_known).then_some(Line { who, step: Step { at: now, stage: Stage::Refused, text, failed: false } })
    }

    /// Looks for boots that have stopped; the lines are what was not reported about them yet.
    pub fn tick(&mut self, now: Moment) -> Vec<Line> {
        let mut lines = Vec::new();
        for (_, machine) in self.machines.iter_mut() {
            let who = machine.who;
            if machine.boot().is_some_and(|boot| boot.runs_by_now(now)) {
                self.version += 1;
                machine.version = self.version;
                let step = machine.current().and_then(|boot| boot.runs(now));
                lines.extend(step.map(|step| Line { who, step }));
                continue;
            }
            // What is older was looked at before; only a report may still be awaited.
            let Some(boot) = machine.boots.back() else { continue };
            if boot.goes_on_by_itself(now) {
                let step = machine.current().map(|boot| boot.hand_over_by_itself(now));
                self.version += 1;
                machine.version = self.version;
                lines.extend(step.map(|step| Line { who, step }));
                continue;
            }
            let State::Stopped(stop) = boot.state(now) else { continue };
            let label = stop.cause.label();
            if boot.told.as_ref() == Some(&label) {
                continue;
            }
            let Some(boot) = machine.current() else { continue };
            boot.told = Some(label);
            self.version += 1;
            let text = [Some(stop.cause.text().as_str()), stop.cause.fix()]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join("; ");
            let step = Step { at: now, stage: stop.stage, text, failed: true };
            if !stop.cause.was_told() {
                boot.steps.push(step.clone());
                lines.push(Line { who, step });
            }
            machine.version = self.version;
        }
        lines
    }

    /// A picture of the whole.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        let mut machines: Vec<Machine> = self
            .machines
            .iter()
            .map(|(_, machine)| machine.clone())
            .filter(|machine| !machine.boots.is_empty())
            .collect();
        machines.sort_unstable_by_key(|machine| machine.who.in_order());
        Snapshot { at: now, version: self.version, machines }
    }

    /// Puts back what was kept of a machine, its oldest boot first. What was under way ended with the server before.
    pub fn restore(&mut self, id: MachineId, boots: impl IntoIterator<Item = Timeline>) {
        self.version += 1;
        let version = self.version;
        let boots: Vec<Timeline> = boots.into_iter().collect();
        let id = id.said_as(boots.last().and_then(|boot| boot.uuid.as_ref()?.parse().ok()));
        let machine = self.machine(Who::Machine(id));
        machine.version = version;
        machine.is(Who::Machine(id), true);
        machine.boots.extend(boots.into_iter().map(Timeline::kept).map(Arc::new));
        while machine.boots.len() > Machine::BOOTS {
            machine.boots.pop_front();
        }
        if let Some(address) = machine.boot().and_then(|boot| boot.address) {
            self.by_address.insert(address, id);
            self.at_address.touch(address).push(id);
        }
        self.learn_card(id);
    }

    /// The machines whose scripts are under way, by the addresses that they fetch from.
    pub fn under_way(&self, now: Moment) -> impl Iterator<Item = (Ipv4Addr, MachineId)> {
        self.machines.iter().filter_map(move |(_, machine)| {
            let boot = machine.boot().filter(|boot| boot.waits(now))?;
            boot.address.zip(machine.id())
        })
    }

    /// Of machines that changed after this version, the last boot, and those before it that were heard since `then`: a
    /// boot may end and the next one begin between two looks.
    pub fn changed_since(&self, version: u64, then: Moment) -> impl Iterator<Item = (MachineId, &Arc<Timeline>)> {
        let changed = self.machines.iter().filter(move |(_, machine)| machine.version > version);
        changed.flat_map(move |(_, machine)| {
            let Who::Machine(id) = machine.who else { return Vec::new() };
            let boots = machine.boots.iter().rev().enumerate();
            let fresh = boots.filter(|(back, boot)| *back == 0 || boot.last >= then);
            fresh.map(|(_, boot)| (id, boot)).collect()
        })
    }

    /// Of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A machine's last boot.
    #[must_use]
    pub fn boot(&self, who: Who) -> Option<&Timeline> {
        self.machines.peek(&who)?.boot().map(AsRef::as_ref)
    }

    /// What a machine's last script boots.
    #[must_use]
    pub fn chosen(&self, who: Who) -> Option<&Chosen> {
        self.machines.peek(&who)?.boot()?.chosen.as_ref()
    }

    fn machine(&mut self, who: Who) -> &mut Machine {
        let new = || Machine { who, cards: vec![], version: 0, boots: VecDeque::new(), packets: VecDeque::new() };
        self.machines.touch_or(who, new)
    }

    /// All cards of a machine.
    #[must_use]
    pub fn cards(&self, who: Who) -> &[MacAddr] {
        self.machines.peek(&who).map(|machine| machine.cards.as_slice()).unwrap_or_default()
    }

    /// The machine behind an address or a card, where it is known.
    fn joined(&mut self, who: Who) -> Who {
        match who {
            Who::Address(address) => self.by_address.peek(&address).map_or(who, |machine| Who::Machine(*machine)),
            Who::Machine(machine) => match machine.key() {
                Key::Card(card) => self.by_card.peek(&card).map_or(who, |known| Who::Machine(known.by(card))),
                _ => {
                    self.learn_card(machine);
                    who
                }
            },
        }
    }

    /// What was seen of a machine under a weaker name is its own from now on: a request that had its MAC address alone, or one
    /// that came before a rule gave it its name. What has another UUID is another machine, which used the same card.
    fn learn_card(&mut self, machine: MachineId) {
        if matches!(machine.key(), Key::Card(_)) || !machine.has_card() {
            return;
        }
        self.by_card.insert(machine.card, machine);
        for weaker in machine.keys().skip(1) {
            let weaker = Who::Machine(MachineId::of_key(weaker, []));
            let Some(known) = self.machines.peek(&weaker) else { continue };
            let is_other = known.is_another_than(machine);
            let Some(before) = self.machines.remove(&weaker).filter(|_| !is_other) else { continue };
            let after = self.machine(Who::Machine(machine));
            after.absorb(before);
        }
    }

    /// Other addresses do not push out that of a machine that loads its one-time profile: its files are known by that alone.
    fn make_room_for(&mut self, address: Ipv4Addr, now: Moment) {
        let boot = |machine: &MachineId| self.machines.peek(&Who::Machine(*machine)).and_then(Machine::boot);
        let loads_once = |machine: &MachineId| boot(machine).is_some_and(|boot| boot.loads_once(now));
        if self.by_address.peek(&address).is_none() {
            self.by_address.make_room(loads_once);
        }
        if self.at_address.peek(&address).is_none() {
            self.at_address.make_room(|there| there.iter().any(loads_once));
        }
    }

    /// What was seen of the address before is the machine's, unless that was long ago: then another one had it.
    fn learn_address(&mut self, machine: MachineId, address: Ipv4Addr, now: Moment) {
        self.make_room_for(address, now);
        let before = self.machines.peek(&Who::Machine(machine)).and_then(|machine| machine.boot()?.address);
        if let Some(before) = before.filter(|before| *before != address)
            && self.by_address.peek(&before) == Some(&machine)
        {
            self.by_address.remove(&before);
        }
        let boot = |machine: &MachineId| self.machines.peek(&Who::Machine(*machine)).and_then(Machine::boot);
        let loads_once = |machine: &MachineId| boot(machine).is_some_and(|boot| boot.loads_once(now));
        // Anyone can ask for its script elsewhere, or say by DHCP that it has another address, while it loads its files here.
        let before = before.filter(|before| *before != address && !loads_once(&machine));
        if let Some(before) = before.filter(|before| self.at_address.peek(before).is_some()) {
            self.at_address.touch(before).retain(|other| *other != machine);
        }
        let there = self.at_address.touch(address);
        there.retain(|other| *other != machine);
        there.push(machine);
        if there.len() > AT_ONE_ADDRESS {
            let goes = there.iter().position(|machine| !loads_once(machine));
            there.remove(goes.unwrap_or_default());
        }
        self.by_address.insert(address, machine);
        let Some(nameless) = self.machines.remove(&Who::Address(address)) else { return };
        let machine = self.machine(Who::Machine(machine));
        let (Some(theirs), Some(boot)) = (nameless.boots.back(), machine.current()) else { return };
        if boot.last.since(theirs.last).max(theirs.last.since(boot.last)) < SAME_BOOT {
            boot.absorb(Timeline::clone(theirs));
        }
    }
}

/// An event, as it is meant.
struct Whose {
    who: Who,
    what: What,
    /// The event that others get.
    told: Vec<(Who, What)>,
}

/// The file that an event is about.
fn file(what: &What) -> Option<&str> {
    match what {
        What::Transfer(transfer) | What::Part(transfer, _) => {
            Some(transfer.name.as_str()).filter(|_| transfer.of == Of::Asset)
        }
        What::Started(progress) | What::Progress(progress) => {
            Some(progress.name.as_str()).filter(|_| progress.of == Of::Asset)
        }
        What::Pace(pace) => Some(pace.name.as_str()).filter(|_| pace.of == Of::Asset),
        What::Silent(silent) => Some(silent.name.as_str()),
        _ => None,
    }
}

/// Machines of one address that are remembered.
const AT_ONE_ADDRESS: usize = 64;
/// Two machines are reported where one UUID is heard by two cards this often in turn. A firmware that goes on from one
/// card to the other does it once.
const TURNS: u32 = 3;
/// Within this time.
const IN_TURN: Duration = Duration::from_secs(60);
/// Between what is seen of an address and what says whose it is.
const SAME_BOOT: Duration = Duration::from_secs(120);

#[cfg(test)]
#[path = "machines_tests.rs"]
mod tests;
