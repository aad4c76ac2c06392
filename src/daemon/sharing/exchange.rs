//! What an appliance tells the server of the state, and hears from it.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    pin::pin,
    sync::{Arc, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{ANSWERS, SILENT_MS, Sharing, TOGETHER, TURN, unix_ms};
use crate::{
    boot::{
        happened::{Happened, Note},
        identity::Key,
        learned::Learned,
        live::Live,
        roster::Entry,
    },
    daemon::waiting::Stored,
    net::boot_time,
    state::{Appliance, Changes, Known, NotKept, words},
    timeline::moment::Moment,
};

impl Sharing {
    pub(super) async fn turn(&self) -> Result<(), sqlx::Error> {
        let _turn = self.turn.lock().await;
        let mut exchange = pin!(self.exchange());
        let result = loop {
            let left = (self.memory().answered + FRESH).saturating_duration_since(Instant::now());
            tokio::select! {
                result = &mut exchange => break result,
                () = sleep(left) => {
                    // A part of a long exchange was answered in between.
                    if self.memory().answered.elapsed() < FRESH {
                        continue;
                    }
                    let refused = self.memory().refused.clone();
                    self.lose(&refused.as_deref().unwrap_or("the server does not answer"));
                    break exchange.await;
                }
            }
        };
        if let Err(error) = &result {
            let words = words(error);
            if self.memory().answered.elapsed() >= FRESH {
                self.lose(&words);
            }
            self.memory().refused = Some(words);
            self.store_waiting().await;
        }
        result
    }

    pub(super) async fn exchange(&self) -> Result<(), sqlx::Error> {
        let mut left = self.memory().waiting.len();
        let as_of = loop {
            let as_of = boot_time::now();
            self.tell(None).await.map_err(|error| match error {
                NotKept::Not(error) | NotKept::Perhaps(error) => error,
            })?;
            left = left.saturating_sub(BATCH);
            if left == 0 {
                break as_of;
            }
        };
        // An appliance that hears of us knows that all that we saw before was reported.
        let is_due = self.memory().said_there.is_none_or(|at| at.elapsed() >= TURN - TOGETHER);
        if is_due {
            let ours = self.ours.borrow().clone();
            let appliances = self.server.is_there(&self.name, &ours).await?;
            self.hear(&appliances);
        }
        // Of the machines, and of the appliances that are silent.
        self.live.state_known_as_of(as_of);
        self.find();
        self.store_waiting().await;
        self.agree_on_the_key().await?;
        self.share_learned().await?;
        self.tell_boots().await?;
        if self.memory().forgot.is_none_or(|at| at.elapsed() >= FORGET) {
            let before = Moment::from(SystemTime::now()).since(Moment::default()).saturating_sub(self.keep_boots);
            self.server.forget(before.as_secs_f64()).await?;
            self.memory().forgot = Some(Instant::now());
        }
        Ok(())
    }

    /// Tells the server what waits, and learns what others did; what was said before of the machine of what is
    /// wanted. Needs the turn.
    pub(super) async fn tell(&self, wanted: Option<Note>) -> Result<Option<Entry>, NotKept> {
        let (mut known, mut notes) = {
            let memory = self.memory();
            (memory.known.clone(), memory.waiting.iter().take(BATCH).cloned().collect::<Vec<_>>())
        };
        known.roster = self.live.among(&known.roster);
        let count = notes.len();
        notes.extend(wanted);
        let changes = match notes.is_empty() {
            true => self.server.refresh(&mut known).await?,
            false => self.server.happened(&mut known, &notes).await?,
        };
        {
            let mut memory = self.memory();
            let before = std::mem::replace(&mut memory.known, known);
            memory.waiting.drain(..count);
            let forgotten = forgotten(&before, &memory.known);
            memory.is_copy_behind |= !forgotten.is_empty();
            memory.waiting.extend(forgotten);
            memory.told.iter_mut().for_each(|(left, _)| *left = left.saturating_sub(count));
            memory.is_copy_behind |= count > 0;
            memory.answered = Instant::now();
            memory.refused = None;
            self.publish(&memory);
            // Who waits looks at what was published.
            memory.told.extract_if(.., |(left, _)| *left == 0).for_each(|(_, kept)| kept.tell());
        }
        self.write_copy(&changes).await;
        Ok(changes.before)
    }

    /// Writes what changed to the copy. What could not be written, as on a full disk, is in it after the next time.
    async fn write_copy(&self, changes: &Changes) {
        let Some(copy) = &self.copy else { return };
        let all = {
            let memory = self.memory();
            let entries = || memory.known.roster.entries().map(|(key, entry)| (key, entry.clone())).collect();
            memory.is_copy_incomplete.then(|| Changes { entries: entries(), is_whole: true, before: None })
        };
        let changes = all.as_ref().unwrap_or(changes);
        if !changes.is_whole && changes.entries.is_empty() {
            return;
        }
        let written = copy.copy(changes).await;
        self.memory().is_copy_incomplete = written.is_err();
        if let Err(error) = written {
            debug!("the copy of the state cannot be written: {error}");
        }
    }

    /// One that started without the server has a key of its own. What it signed with that stays good here.
    async fn agree_on_the_key(&self) -> Result<(), sqlx::Error> {
        let Some(key) = self.answer_key.get().filter(|_| !self.memory().is_key_shared) else { return Ok(()) };
        let shared = self.server.secret(ANSWERS, &key.bytes()).await?;
        match shared.as_slice().try_into() {
            Ok(bytes) if key.adopt(bytes) => {
                info!(
                    "addresses are signed with the key of all appliances from now on; those that were signed before are good \
                     here until netbootd is started again"
                );
                if let Some(copy) = &self.copy {
                    let _ = copy.set_secret(ANSWERS, &shared).await;
                }
            }
            Ok(_) => {}
            Err(_) => warn!(
                "the key of answer files in the state has {} bytes, so addresses that were signed here are good here only",
                shared.len()
            ),
        }
        self.memory().is_key_shared = true;
        Ok(())
    }

    /// Tells what was learned here of machines' firmware, and learns what others did.
    async fn share_learned(&self) -> Result<(), sqlx::Error> {
        let (ours, since, number): (Vec<_>, _, _) = {
            let memory = self.memory();
            let ours = memory.learned.iter().take(BATCH).map(|(key, learned)| (*key, *learned)).collect();
            (ours, memory.learned_up_to, memory.known.revision)
        };
        if ours.is_empty() && since == number {
            return Ok(());
        }
        if !ours.is_empty() {
            self.server.learn(&ours).await?;
            // What was learned of a machine meanwhile is reported the next time.
            self.memory().learned.retain(|key, learned| !ours.contains(&(*key, *learned)));
        }
        let (known, number) = self.server.learned(since).await?;
        let known = self.know(known, number);
        if let Some(copy) = self.copy.as_ref().filter(|_| !known.is_empty())
            && let Err(error) = copy.copy_learned(&known).await
        {
            debug!("the copy of the state cannot be written: {error}");
        }
        Ok(())
    }

    /// Offers are as the server says from now on, except where something newer waits for it: that is left out.
    fn know(&self, mut known: Vec<(Key, Learned)>, number: i64) -> Vec<(Key, Learned)> {
        {
            let mut memory = self.memory();
            memory.learned_up_to = number;
            known.retain(|(key, _)| !memory.learned.contains_key(key));
        }
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().for_each(|(key, learned)| attempts.know(*key, *learned));
        known
    }

    async fn tell_boots(&self) -> Result<(), sqlx::Error> {
        let boots: Vec<_> = self.memory().boots.iter().take(BOOTS).map(|(key, boot)| (*key, boot.clone())).collect();
        if boots.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = boots.iter().map(|((machine, _), boot)| (*machine, boot.clone())).collect();
        self.server.set_boots(&rows, &self.name).await?;
        let mut memory = self.memory();
        for (key, boot) in boots {
            // One that went on meanwhile is written again.
            if memory.boots.get(&key).is_some_and(|now| Arc::ptr_eq(now, &boot)) {
                memory.boots.remove(&key);
            }
        }
        Ok(())
    }

    fn hear(&self, appliances: &[Appliance]) {
        let heard = appliances.iter().filter(|appliance| appliance.silent_ms < SILENT_MS);
        let mut heard: BTreeSet<String> = heard.map(|appliance| appliance.name.clone()).collect();
        heard.insert(self.name.clone());
        // One that is silent for a moment, or restarts, is no stranger either.
        let others = appliances.iter().filter(|other| other.name != self.name && other.silent_ms < PEER_MS);
        let peers: Vec<Ipv4Addr> = others.flat_map(|other| other.addresses.iter().copied()).collect();
        if **self.live.peers.load() != peers {
            self.live.peers.store(Arc::new(peers));
        }
        let mut memory = self.memory();
        memory.said_there = Some(Instant::now());
        for name in heard.difference(&memory.heard) {
            info!("the appliance {name} shares the state");
        }
        for name in memory.heard.difference(&heard) {
            warn!("the appliance {name} is silent");
        }
        if memory.heard != heard {
            memory.heard = heard;
            self.publish(&memory);
        }
    }

    /// One-time profiles are not given while nobody knows who had them elsewhere.
    pub(super) fn lose(&self, error: &dyn std::fmt::Display) {
        let error = error.to_string();
        let mut memory = self.memory();
        memory.told.clear();
        let was_lost = std::mem::replace(&mut memory.is_lost, true);
        if memory.lost_by.replace(error.clone()).as_ref() == Some(&error) {
            return;
        }
        drop(memory);
        match was_lost {
            true => warn!("the server that keeps the state still cannot be reached: {error}"),
            false => warn!(
                "the server that keeps the state cannot be reached: {error}; boots continue from the last known state, \
                 one-time profiles are not served, and what is learned waits"
            ),
        }
        let fault = format!("its server cannot be reached ({error}), and is tried again and again");
        self.live.state_fault.store(Some(Arc::new(fault)));
    }

    fn find(&self) {
        let mut memory = self.memory();
        memory.is_full = false;
        let was_lost = std::mem::take(&mut memory.is_lost);
        memory.lost_by = None;
        // It may be another database now.
        memory.is_key_shared &= !was_lost;
        drop(memory);
        if was_lost || self.live.state_fault.load().is_some() {
            info!("the server that keeps the state answers again");
            self.listen_again.notify_one();
            self.live.state_fault.store(None);
        }
    }

    pub(super) async fn store_waiting(&self) {
        let Some(copy) = &self.copy else { return };
        let notes: Vec<String> = {
            let mut memory = self.memory();
            if !std::mem::take(&mut memory.is_copy_behind) {
                return;
            }
            memory.waiting.iter().filter_map(Stored::written).collect()
        };
        if let Err(error) = copy.set_waiting(&notes).await {
            self.memory().is_copy_behind = true;
            debug!("what waits cannot be written: {error}");
        }
    }
}

const FRESH: Duration = Live::FRESH;

/// The one-time profiles of which the state knew before that machines booted them, where it went back: a backup was
/// restored. Their disks would be wiped, so they are reported again.
fn forgotten(before: &Known, now: &Known) -> Vec<Note> {
    if now.revision >= before.revision {
        return Vec::new();
    }
    let at = unix_ms();
    let mut notes = Vec::new();
    for (machine, entry) in before.roster.iter() {
        let known = now.roster.of(machine).unwrap_or_default();
        let had = entry.had.iter().chain(&entry.spent).filter(|profile| !known.has_had(profile, false));
        let beside: Vec<Key> = entry.known_as.iter().copied().collect();
        notes.extend(had.map(|profile| {
            let what = Happened::Spent(profile.clone());
            Note { machine, beside: beside.clone(), what, at }
        }));
    }
    warn!(
        "the state went back from change {} to {}, as after a backup was restored: {} one-time profiles that machines booted \
         since are recorded again; look at assignments and approvals",
        before.revision,
        now.revision,
        notes.len()
    );
    notes
}
/// An appliance is still a peer on the network for so many milliseconds: a day.
const PEER_MS: u64 = 86_400_000;
const FORGET: Duration = Duration::from_secs(3600);
/// In one change of the state.
const BATCH: usize = 500;
/// Boots in one exchange: a server that is busy has to keep them in the time that it has for an answer.
const BOOTS: usize = 100;
