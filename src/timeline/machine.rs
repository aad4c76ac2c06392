//! One machine, as it was seen: its names, its last boots, its last requests.

use std::{collections::VecDeque, sync::Arc};

use super::{
    boot::Timeline,
    event::{What, Who},
    moment::Moment,
};
use crate::boot::{hardware::Hardware, identity::MachineId, loader::ClientArch, mac::MacAddr};

/// What was seen of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// The machine, by the first card that was heard of it; its address where no card is known.
    pub who: Who,
    /// Its cards, in the order in which they were heard.
    pub cards: Vec<MacAddr>,
    /// Of its last change.
    pub version: u64,
    /// Its boots, the last one at the end.
    pub boots: VecDeque<Arc<Timeline>>,
    /// Its last requests.
    pub packets: VecDeque<Packet>,
}

/// A DHCP request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// When.
    pub at: Moment,
    /// To which port.
    pub port: u16,
    /// The message.
    pub bytes: Arc<[u8]>,
}

impl Machine {
    /// By all names that are known of it; `None` where only its address is.
    #[must_use]
    pub fn id(&self) -> Option<MachineId> {
        match self.who {
            Who::Machine(id) => Some(id),
            Who::Address(_) => None,
        }
    }

    /// How many boots of a machine are remembered.
    pub const BOOTS: usize = 5;
    /// And how many of its cards.
    pub const CARDS: usize = 8;
    /// And how many of its packets.
    pub(super) const PACKETS: usize = 4;

    /// The last boot.
    #[must_use]
    pub fn boot(&self) -> Option<&Arc<Timeline>> {
        self.boots.back()
    }

    /// The architecture of the firmware that asked last.
    #[must_use]
    pub fn arch(&self) -> Option<ClientArch> {
        let clients = self.boots.iter().rev().filter_map(|boot| boot.client.as_deref());
        clients.map(|client| client.strip_prefix("iPXE on ").unwrap_or(client)).find_map(ClientArch::titled)
    }

    /// The interface of ours that it was heard on last, as far as that is kept.
    #[must_use]
    pub fn interface(&self) -> Option<&str> {
        self.boot()?.interface.as_deref()
    }

    /// What it said of its parts last.
    #[must_use]
    pub fn hardware(&self) -> Option<&Hardware> {
        self.boot().map(|boot| &boot.hardware).filter(|hardware| !hardware.is_empty())
    }

    /// The boot that is under way, to be changed.
    pub(super) fn current(&mut self) -> Option<&mut Timeline> {
        self.boots.back_mut().map(Arc::make_mut)
    }

    /// Takes in by which names it is known; by which of its cards people are shown it. `as_shown`: its UUID is in the byte
    /// order that its iPXE shows; firmware sends it turned round.
    pub(super) fn is(&mut self, who: Who, as_shown: bool) -> Who {
        let (Who::Machine(known), Who::Machine(now)) = (self.who, who) else { return self.who };
        if now.has_card() && !self.cards.contains(&now.card) {
            self.cards.push(now.card);
            self.cards.truncate(Self::CARDS);
        }
        let first = self.cards.first().copied().unwrap_or(known.card);
        let said = now.uuid_as_said().filter(|_| as_shown).or(known.uuid_as_said());
        self.who = Who::Machine(now.with(known).said_as(said).by(first));
        self.who
    }

    /// Keeps a request that came, and forgets the oldest.
    pub(super) fn keep(&mut self, packet: Packet) {
        while self.packets.len() >= Self::PACKETS {
            self.packets.pop_front();
        }
        self.packets.push_back(packet);
    }

    pub(super) fn is_another_than(&self, machine: MachineId) -> bool {
        let Who::Machine(known) = self.who else { return true };
        known.uuid().zip(machine.uuid()).is_some_and(|(known, now)| known != now)
    }

    /// Adds what was seen of the same machine under another name.
    pub(super) fn absorb(&mut self, other: Self) {
        for card in other.cards.into_iter().filter(|card| !self.cards.contains(card)).collect::<Vec<_>>() {
            self.cards.push(card);
        }
        self.boots.extend(other.boots);
        self.boots.make_contiguous().sort_by_key(|boot| boot.began);
        while self.boots.len() > Self::BOOTS {
            self.boots.pop_front();
        }
        self.packets.extend(other.packets);
        while self.packets.len() > Self::PACKETS {
            self.packets.pop_front();
        }
    }

    pub(super) fn begin_unless_it_belongs_to_the_last(&mut self, what: &What, now: Moment) {
        let last = self.boots.back();
        if last.is_some_and(|boot| !boot.is_over_with(what, now)) {
            return;
        }
        let number = last.map_or(1, |boot| boot.number.saturating_add(1));
        // Firmware that comes no further than DHCP says nothing more, and its parts are the same.
        let known =
            last.map(|boot| (boot.hardware.clone(), boot.interface.clone(), boot.serial.clone())).unwrap_or_default();
        let installed = last.and_then(|boot| boot.has_installed());
        // Each script of one that loops is a boot of its own.
        let is_script = matches!(what, What::Script(_) | What::OwnScript(_));
        let scripts = last.filter(|boot| is_script && boot.scripts_go_on(now)).map(|boot| boot.scripts);
        let mut boot = Timeline::begin(number, now);
        (boot.hardware, boot.interface, boot.serial) = known;
        (boot.installed, boot.scripts) = (installed, scripts.unwrap_or_default());
        if let Some(last) = last {
            boot.go_on_from(last, now);
        }
        self.boots.push_back(Arc::new(boot));
        while self.boots.len() > Self::BOOTS {
            self.boots.pop_front();
        }
    }
}
