//! The one writer of what outlives a restart. Who reads takes what is in memory, and waits for no disk.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Notify, mpsc},
    time::sleep,
};
use tracing::{info, warn};

use super::{sharing::Sharing, unkept::Unkept};
use crate::{
    boot::{
        happened::Happened,
        identity::{Key, MachineId},
        learned::Learned,
        live::Live,
        machine::Rules,
        roster::{Assignment, Begun, Change, Entry},
        strangers::Permission,
    },
    state::{NotKept, State, words},
    timeline::{boot::Timeline, kept::Kept, machines::Timelines},
};

/// Keeps the state and the roster in memory the same.
pub struct Clerk {
    /// The file; where a server keeps the state of several appliances, what this one saw.
    state: Option<State>,
    sharing: Option<Arc<Sharing>>,
    live: Arc<Live>,
    /// Changes come one after the other.
    turn: Mutex<Unkept>,
    /// Something was said of a machine that no rule names.
    permitted: Notify,
}

/// Something to be kept, of which nobody waits to hear that it was.
#[derive(Clone, Debug, PartialEq)]
pub enum ToKeep {
    /// A machine took an offer, or its loader started.
    Learned(MachineId, Learned),
    /// A machine was given the script of a one-time profile. Beside it, its other cards.
    Begun(MachineId, Vec<Key>, String),
    /// A machine has booted its one-time profile.
    Spent(MachineId, Vec<Key>, String),
    /// A machine has everything of a profile that is served until it reports that it is installed.
    Tried(MachineId, Vec<Key>, String),
    /// It reported that such a profile failed, in these words.
    Failed(MachineId, Vec<Key>, String, String),
    /// Boots as they are now.
    Boots(Vec<(MachineId, Arc<Timeline>)>),
    /// Somebody waits until all before this is kept.
    Told(Kept),
}

impl ToKeep {
    /// Whether a machine may be installed twice where this is lost.
    #[must_use]
    pub fn is_lost_for_ever(&self) -> bool {
        matches!(self, Self::Begun(..) | Self::Spent(..) | Self::Tried(..) | Self::Failed(..))
    }
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no profile of that name.
    #[error("there is no profile {name:?}; there are: {}", .there.join(", "))]
    NoProfile {
        /// The name.
        name: String,
        /// Those that there are.
        there: Vec<String>,
    },
    /// It could not be kept.
    #[error("the state could not be written, so nothing was changed: {}", words(.0))]
    NotKept(#[from] sqlx::Error),
    /// Its server did not say whether it was kept.
    #[error("{0}; look at the machine before you try again")]
    Perhaps(NotKept),
}

impl From<NotKept> for Refusal {
    fn from(error: NotKept) -> Self {
        match error {
            NotKept::Not(error) => Self::NotKept(error),
            perhaps @ NotKept::Perhaps(_) => Self::Perhaps(perhaps),
        }
    }
}

impl Clerk {
    /// Takes over the state, and puts what it holds of machines into memory; what was learned of their firmware, and the
    /// boots that were seen. Where it cannot be read, nobody knows what machines have booted already.
    pub(super) async fn new(
        state: Option<State>,
        sharing: Option<Arc<Sharing>>,
        live: Arc<Live>,
    ) -> (Self, Vec<(Key, Learned)>, Timelines) {
        let mut learned = Vec::new();
        let mut timelines = Timelines::default();
        if let Some(state) = &state {
            match state.roster().await {
                // What is shared is known already.
                Ok(_) if sharing.is_some() => {}
                Ok(roster) => live.put_roster(&Arc::new(roster)),
                Err(error) => {
                    warn!(
                        "the state cannot be read: {error}; one-time profiles are not given, since nobody knows who had them"
                    );
                    live.state_fault.store(Some(Arc::new(format!("it cannot be read: {error}"))));
                }
            }
            match tokio::try_join!(state.learned(State::NOTHING_LEARNED), state.boots("", usize::MAX)) {
                Ok(((kept, _), boots)) => {
                    // What is shared is known already.
                    learned = if sharing.is_some() { learned } else { kept };
                    boots.into_iter().for_each(|(machine, boots)| timelines.restore(machine, boots));
                }
                Err(error) => warn!("earlier boots and learned offers cannot be read from the state: {error}"),
            }
        }
        (Self { state, sharing, live, turn: Mutex::default(), permitted: Notify::new() }, learned, timelines)
    }

    /// Whether what is said outlives a restart.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.state.is_some() || self.sharing.is_some()
    }

    /// Gives a machine a profile, until it is changed or for one boot. When this returns, it is on the disk.
    ///
    /// # Errors
    /// [`Refusal`]; nothing was changed then.
    pub async fn assign(&self, machine: MachineId, profile: &str, once: bool) -> Result<(), Refusal> {
        let rules = self.live.rules.load();
        if !rules.has_profile(profile) {
            let there = rules.profiles.keys().cloned().chain(Rules::BUILT_IN.map(String::from)).collect();
            return Err(Refusal::NoProfile { name: profile.to_owned(), there });
        }
        let assignment = Assignment { profile: profile.to_owned(), once };
        self.change(machine, Happened::Assigned(assignment)).await.map(drop)
    }

    /// Leaves a machine to its rule again; whether there was something to take back. What it has had once it is not given
    /// again: that is [`Self::renew`].
    ///
    /// # Errors
    /// [`Refusal::NotKept`]; nothing was changed then.
    pub async fn unassign(&self, machine: MachineId) -> Result<bool, Refusal> {
        let before = self.change(machine, Happened::Unassigned).await?;
        Ok(before.is_some_and(|entry| entry.assigned.is_some()))
    }

    /// Gives a machine its one-time profile again; whether it had used it up, or tried it.
    ///
    /// # Errors
    /// [`Refusal::NotKept`]; nothing was changed then.
    pub async fn renew(&self, machine: MachineId) -> Result<bool, Refusal> {
        let before = self.change(machine, Happened::Renewed).await?;
        Ok(before.is_some_and(|entry| entry.has_had_any() || entry.tried.is_some() || entry.begun.is_some()))
    }

    /// Lets a machine in that no rule names, or no more; whether it was in.
    ///
    /// # Errors
    /// [`Refusal::NotKept`]; nothing was changed then.
    pub async fn approve(&self, machine: MachineId, approved: bool) -> Result<bool, Refusal> {
        let before = self.change(machine, Happened::Approved(approved)).await?;
        // It overrides what was said in this run.
        self.live.rules.load().strangers.forget(machine);
        self.permitted.notify_one();
        Ok(before.is_some_and(|entry| entry.approved))
    }

    /// Does what a person says about a machine that no rule names. Only an approval outlives the server.
    ///
    /// # Errors
    /// [`Refusal::NotKept`]; nothing was changed then.
    pub async fn permit(&self, machine: MachineId, permission: Permission) -> Result<(), Refusal> {
        let approved = permission == Permission::Always;
        // Another appliance may have taken an approval back a moment ago, so one is always written. The rest works while
        // their server cannot be reached.
        let before = self.live.roster.load().of(machine).is_some_and(|entry| entry.approved);
        if approved || before {
            self.change(machine, Happened::Approved(approved)).await?;
        }
        self.live.rules.load().strangers.say(machine, permission);
        info!("{}", permission.words(machine));
        self.permitted.notify_one();
        Ok(())
    }

    /// Waits until something was said or approved.
    pub(super) async fn permitted(&self) {
        self.permitted.notified().await;
    }

    /// Forgets what was learned of a machine's firmware; whether there was something. On all appliances: the server says
    /// so, not the copy here.
    ///
    /// # Errors
    /// [`Refusal::NotKept`]; nothing was forgotten then.
    pub async fn forget_firmware(&self, machine: MachineId) -> Result<bool, Refusal> {
        let mut unkept = self.turn.lock().await;
        let was_shared = match &self.sharing {
            Some(sharing) => sharing.forget_firmware(machine).await?,
            None => false,
        };
        let was_kept = match &self.state {
            Some(state) => state.forget_firmware(machine).await?,
            None => false,
        };
        let was_learned = machine.keys().filter(|key| unkept.learned.remove(key).is_some()).count() > 0;
        Ok(was_shared || was_learned || (was_kept && self.sharing.is_none()))
    }

    /// What was said of the machine before: where several appliances change it, their server decides what comes first.
    async fn change(&self, machine: MachineId, what: Happened) -> Result<Option<Entry>, Refusal> {
        if let Some(sharing) = &self.sharing {
            return Ok(sharing.change(machine, what).await?);
        }
        let mut unkept = self.turn.lock().await;
        let roster = self.live.roster.load_full();
        let before = roster.of(machine);
        let change = roster.change(machine, &[], |before| alone(what, before));
        if let Some(state) = &self.state {
            // What it takes the place of is gone from the disk before the change is there, so that waits with it.
            let waiting = unkept.replaced.clone();
            let whole = Change { replaced: change.replaced.iter().copied().chain(waiting).collect(), ..change.clone() };
            state.is_in_place()?;
            state.set_entry(&whole).await.inspect_err(|error| unkept.tell(error, &self.live))?;
            unkept.replaced.clear();
            unkept.machines.remove(&machine);
            unkept.tell_end(&self.live);
        }
        self.live.put_roster(&Arc::new(roster.changed(&change)));
        Ok(before)
    }

    /// In memory whatever the disk says: a machine that installs itself once must not do so twice.
    async fn note(&self, machine: MachineId, beside: Vec<Key>, what: Happened) {
        if let Some(sharing) = &self.sharing {
            return sharing.note(machine, beside, what);
        }
        let mut unkept = self.turn.lock().await;
        let roster = self.live.roster.load_full();
        let change = roster.noted(machine, &beside, |before| alone(what, before));
        self.live.put_roster(&Arc::new(roster.changed(&change)));
        unkept.replaced.extend(change.replaced);
        let others = change.also.iter().map(|(key, entry)| MachineId::of_key(*key, entry.known_as.iter().copied()));
        unkept.machines.extend(others.chain([machine]));
    }

    /// Keeps what comes until all senders have gone.
    pub async fn keep(self: Arc<Self>, mut to_keep: mpsc::Receiver<ToKeep>) {
        let mut is_behind = false;
        loop {
            let mut told = Vec::new();
            tokio::select! {
                what = to_keep.recv() => match what {
                    Some(what) => told.extend(self.take(what).await),
                    None => break,
                },
                () = sleep(AGAIN), if is_behind => {}
            }
            // When a thousand machines begin at once, one write is for all of them.
            while let Ok(what) = to_keep.try_recv() {
                told.extend(self.take(what).await);
            }
            is_behind = self.catch_up().await;
            for kept in told {
                match &self.sharing {
                    Some(sharing) => sharing.tell_when_kept(kept),
                    None if is_behind => {}
                    None => kept.tell(),
                }
            }
        }
        if let Some(state) = &self.state {
            state.clone().close().await;
        }
    }

    /// Takes in what is to be kept; who waits for it.
    async fn take(&self, what: ToKeep) -> Option<Kept> {
        match what {
            ToKeep::Begun(machine, cards, profile) => self.begun(machine, cards, profile),
            ToKeep::Spent(machine, cards, profile) => self.note(machine, cards, Happened::Spent(profile)).await,
            ToKeep::Tried(machine, cards, profile) => self.note(machine, cards, Happened::Tried(profile)).await,
            ToKeep::Failed(machine, cards, profile, words) => {
                self.note(machine, cards, Happened::Failed(profile, words)).await;
            }
            ToKeep::Learned(machine, learned) => {
                if let Some(sharing) = &self.sharing {
                    sharing.keep_learned(machine.key(), learned);
                }
                self.turn.lock().await.put_learned(machine.key(), learned);
            }
            ToKeep::Boots(boots) => {
                if let Some(sharing) = &self.sharing {
                    sharing.keep_boots(&boots);
                }
                self.turn.lock().await.put_boots(boots);
            }
            ToKeep::Told(kept) => return Some(kept),
        }
        None
    }

    /// Other appliances must know that the machine may be on its way to its hand-over. Alone, there is nobody to tell.
    fn begun(&self, machine: MachineId, cards: Vec<Key>, profile: String) {
        if let Some(sharing) = &self.sharing {
            sharing.note(machine, cards, Happened::Begun(Begun { profile, by: sharing.name().to_owned() }));
        }
    }

    /// Writes what has not been written; whether something is left.
    async fn catch_up(&self) -> bool {
        let mut unkept = self.turn.lock().await;
        let Some(state) = &self.state else {
            *unkept = Unkept::default();
            return false;
        };
        if unkept.is_empty() {
            return false;
        }
        let written = match state.is_in_place() {
            Ok(()) => unkept.write(state, &self.live.roster.load()).await,
            Err(removed) => Err(removed),
        };
        match (written, &self.sharing) {
            (Ok(()), _) => unkept.tell_end(&self.live),
            (Err(error), None) => unkept.tell(&error, &self.live),
            // Here, the file is only a copy.
            (Err(error), Some(_)) => unkept.say(&error, ""),
        }
        !unkept.is_empty()
    }
}

/// Who is alone sees each hand-over once.
fn alone(what: Happened, before: Entry) -> Entry {
    let after = what.apply(Entry { handed_over: None, ..before }, 0);
    Entry { handed_over: None, ..after }
}

/// Until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(3);
