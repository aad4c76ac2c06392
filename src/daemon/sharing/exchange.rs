//! What an appliance tells the server of the state, and hears from it.

use std::{
    collections::BTreeSet,
    net::Ipv4Addr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::{SILENT_MS, Sharing, TOGETHER, TURN};
use crate::{
    boot::happened::Note,
    daemon::waiting::Stored,
    state::{Appliance, NotKept},
    timeline::moment::Moment,
};

impl Sharing {
    pub(super) async fn turn(&self) -> Result<(), sqlx::Error> {
        let _turn = self.turn.lock().await;
        let mut exchange = pin!(self.exchange());
        let left = (self.memory().answered + FRESH).saturating_duration_since(Instant::now());
        let result = tokio::select! {
            result = &mut exchange => result,
            () = sleep(left) => {
                self.lose(&"it does not answer");
                exchange.await
            }
        };
        if let Err(error) = &result {
            if self.memory().answered.elapsed() >= FRESH {
                self.lose(error);
            }
            self.store_waiting().await;
        }
        result
    }

    pub(super) async fn exchange(&self) -> Result<(), sqlx::Error> {
        self.tell(None).await.map_err(|error| match error {
            NotKept::Not(error) | NotKept::Perhaps(error) => error,
        })?;
        // An appliance that hears of us knows that all that we saw before was reported.
        let is_due = self.memory().said_there.is_none_or(|at| at.elapsed() >= TURN - TOGETHER);
        if is_due {
            let ours = self.ours.borrow().clone();
            let appliances = self.server.is_there(&self.name, &ours).await?;
            self.hear(&appliances);
        }
        self.find();
        self.store_waiting().await;
        self.tell_boots().await?;
        if self.memory().forgot.is_none_or(|at| at.elapsed() >= FORGET) {
            let before = Moment::from(SystemTime::now()).since(Moment::default()).saturating_sub(self.keep_boots);
            self.server.forget(before.as_secs_f64()).await?;
            self.memory().forgot = Some(Instant::now());
        }
        Ok(())
    }

    /// Tells the server what waits, and learns what others did. Needs the turn.
    pub(super) async fn tell(&self, wanted: Option<Note>) -> Result<(), NotKept> {
        let (mut known, mut notes) = {
            let memory = self.memory();
            (memory.known.clone(), memory.waiting.iter().take(BATCH).cloned().collect::<Vec<_>>())
        };
        let count = notes.len();
        notes.extend(wanted);
        let changes = match notes.is_empty() {
            true => self.server.refresh(&mut known).await?,
            false => self.server.happened(&mut known, &notes).await?,
        };
        {
            let mut memory = self.memory();
            memory.known = known;
            memory.waiting.drain(..count);
            memory.is_copy_behind |= count > 0;
            memory.answered = Instant::now();
            self.publish(&memory);
        }
        if let Some(copy) = self.copy.as_ref().filter(|_| changes.is_whole || !changes.entries.is_empty())
            && let Err(error) = copy.copy(&changes).await
        {
            debug!("the copy of the state cannot be written: {error}");
        }
        Ok(())
    }

    async fn tell_boots(&self) -> Result<(), sqlx::Error> {
        let (boots, shapes): (Vec<_>, Vec<_>) = {
            let memory = self.memory();
            (memory.boots.iter().take(BOOTS).map(|(key, boot)| (*key, boot.clone())).collect(), {
                memory.shapes.iter().map(|(key, shape)| (*key, *shape)).collect()
            })
        };
        for (key, shape) in shapes {
            self.server.set_offer_shape(key, shape).await?;
            self.memory().shapes.remove(&key);
        }
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
        let mut memory = self.memory();
        if !std::mem::replace(&mut memory.is_lost, true) {
            drop(memory);
            warn!(
                "the server that keeps the state cannot be reached: {error}; boots continue from the last known state, \
                 one-time profiles are not served, and what is learned waits"
            );
            let fault = format!("its server cannot be reached ({error}), and is tried again and again");
            self.live.state_fault.store(Some(Arc::new(fault)));
        }
    }

    fn find(&self) {
        let mut memory = self.memory();
        memory.is_full = false;
        let was_lost = std::mem::take(&mut memory.is_lost);
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

/// What is known is as old as this at most, where a one-time profile is given. No machine that was handed over asks for a
/// script again so soon.
const FRESH: Duration = Duration::from_secs(3);
/// An appliance is still a peer on the network for so many milliseconds: a day.
const PEER_MS: u64 = 86_400_000;
const FORGET: Duration = Duration::from_secs(3600);
/// In one exchange.
const BATCH: usize = 500;
/// Boots in one exchange: a server that is busy has to keep them in the time that it has for an answer.
const BOOTS: usize = 100;
