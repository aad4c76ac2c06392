//! What was learned and has not reached the disk: it was full, most likely.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tracing::{info, warn};

use crate::{
    boot::{
        identity::{Key, MachineId},
        learned::Learned,
        live::Live,
        roster::{Change, Roster},
    },
    state::{State, words},
    timeline::{boot::Timeline, machines::Timelines, moment::Moment},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unkept {
    /// Machines whose entry in memory goes before that on the disk.
    pub(super) machines: BTreeSet<MachineId>,
    /// Entries on the disk that those take the place of.
    pub(super) replaced: BTreeSet<Key>,
    pub(super) learned: HashMap<Key, Learned>,
    /// By the moments that they began.
    boots: BTreeMap<(MachineId, Moment), Arc<Timeline>>,
    /// It has been said that there is something.
    is_told: bool,
    /// Because of that, no one-time profiles are given.
    is_fault: bool,
}

impl Unkept {
    pub(super) fn is_empty(&self) -> bool {
        self.machines.is_empty() && self.learned.is_empty() && self.boots.is_empty()
    }

    pub(super) fn put_learned(&mut self, key: Key, learned: Learned) {
        // Strangers may send any card's address.
        if self.learned.len() < MOST_LEARNED || self.learned.contains_key(&key) {
            let before = self.learned.get(&key).copied().unwrap_or_default();
            self.learned.insert(key, learned.or(before));
        }
    }

    /// A boot that goes on takes its own place.
    pub(super) fn put_boots(&mut self, boots: Vec<(MachineId, Arc<Timeline>)>) {
        self.boots.extend(boots.into_iter().map(|(machine, boot)| ((machine, boot.began), boot)));
        while self.boots.len() > MOST_BOOTS {
            self.boots.pop_first();
        }
    }

    /// Writes until something cannot be written.
    pub(super) async fn write(&mut self, state: &State, roster: &Roster) -> Result<(), sqlx::Error> {
        while let Some(machine) = self.machines.first().copied() {
            let change = roster.noted(machine, &[], |before| before);
            let replaced = change.replaced.iter().chain(&self.replaced).copied();
            state.set_entry(&Change { replaced: replaced.collect(), ..change.clone() }).await?;
            self.replaced.clear();
            self.machines.remove(&machine);
        }
        if !self.learned.is_empty() {
            let learned: Vec<_> = self.learned.iter().map(|(key, learned)| (*key, *learned)).collect();
            state.learn(&learned).await?;
            self.learned.clear();
        }
        if !self.boots.is_empty() {
            let boots: Vec<_> = self.boots.iter().map(|((machine, _), boot)| (*machine, boot.clone())).collect();
            state.set_boots(&boots, "").await?;
            self.boots.clear();
        }
        Ok(())
    }

    pub(super) fn tell_end(&mut self, live: &Live) {
        // First: a machine may ask again as soon as the line is there.
        if std::mem::take(&mut self.is_fault) {
            live.state_fault.store(None);
        }
        if std::mem::take(&mut self.is_told) {
            info!("the state can be written again");
        }
    }

    /// A one-time profile is not given while nobody would remember after a restart who had it.
    pub(super) fn tell(&mut self, error: &sqlx::Error, live: &Live) {
        self.say(error, ", except those of one-time profiles,");
        if live.state_fault.load().is_none() {
            let fault = format!("it cannot be written, so this boot could be forgotten ({})", words(error));
            live.state_fault.store(Some(Arc::new(fault)));
            self.is_fault = true;
        }
    }

    /// Once, until it is over: each boot has something to keep.
    pub(super) fn say(&mut self, error: &sqlx::Error, except: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            warn!(
                "the state cannot be written: {}; boots continue{except} but changes are lost if netbootd restarts before it can be written",
                words(error)
            );
        }
    }
}

/// What waits for the disk of machines' firmware, which is learned anew when it is lost.
const MOST_LEARNED: usize = 4096;
/// And boots, which would be shown after a restart.
const MOST_BOOTS: usize = Timelines::MACHINES;
