//! The one writer of what outlives a restart. Who reads takes what is in memory, and waits for no disk.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify, mpsc},
    time::sleep,
};
use tracing::{info, warn};

use super::sharing::Sharing;
use crate::{
    boot::{
        chain::Trust,
        happened::Happened,
        identity::{Key, MachineId},
        machine::{Live, Rules},
        roster::{Assignment, Begun, Change, Entry, Roster},
        shape::Shape,
        strangers::Permission,
    },
    state::{NotKept, State},
    timeline::{boot::Timeline, machines::Timelines, moment::Moment},
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

/// What was learned and has not reached the disk: it was full, most likely.
#[derive(Debug, Default)]
struct Unkept {
    /// Machines whose entry in memory goes before that on the disk.
    machines: BTreeSet<MachineId>,
    /// Entries on the disk that those take the place of.
    replaced: BTreeSet<Key>,
    shapes: HashMap<Key, Shape>,
    trust: HashMap<Key, Trust>,
    /// By the moments that they began.
    boots: BTreeMap<(MachineId, Moment), Arc<Timeline>>,
    /// It has been said that there is something.
    is_told: bool,
}

/// What was learned of machines' firmware before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The shapes of offers that were taken.
    pub shapes: Vec<(Key, Shape)>,
    /// The kinds of loaders that started.
    pub trust: Vec<(Key, Trust)>,
}

/// Something to be kept, of which nobody waits to hear that it was.
#[derive(Clone, Debug, PartialEq)]
pub enum ToKeep {
    /// A machine took an offer of this shape.
    Shape(MachineId, Shape),
    /// A loader of this kind started on a machine.
    Trust(MachineId, Trust),
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
    #[error("the state could not be written, so nothing was changed: {0}")]
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
    /// Takes over the state, and puts what it holds of machines into memory; the shapes of offers that were learned, and
    /// the boots that were seen. Where it cannot be read, nobody knows what machines have booted already.
    pub(super) async fn new(
        state: Option<State>,
        sharing: Option<Arc<Sharing>>,
        live: Arc<Live>,
    ) -> (Self, Learned, Timelines) {
        let mut learned = Learned::default();
        let mut timelines = Timelines::default();
        if let Some(state) = &state {
            match state.roster().await {
                // What is shared is known already.
                Ok(_) if sharing.is_some() => {}
                Ok(roster) => live.roster.store(Arc::new(roster)),
                Err(error) => {
                    warn!(
                        "the state cannot be read: {error}; one-time profiles are not given, since nobody knows who had them"
                    );
                    live.state_fault.store(Some(Arc::new(format!("it cannot be read: {error}"))));
                }
            }
            match tokio::try_join!(state.offer_shapes(), state.loader_trust(), state.boots("", usize::MAX)) {
                Ok((shapes, trust, boots)) => {
                    learned = Learned { shapes, trust };
                    boots.into_iter().for_each(|(machine, boots)| timelines.restore(machine, boots));
                }
                Err(error) => warn!("earlier boots and learned offers cannot be read from the state: {error}"),
            }
        }
        if let Some(sharing) = &sharing {
            learned.shapes.extend(sharing.offer_shapes().await);
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
        if !rules.profiles.contains_key(profile) && !Rules::BUILT_IN.contains(&profile) {
            let there = rules.profiles.keys().cloned().chain(Rules::BUILT_IN.map(String::from)).collect();
            return Err(Refusal::NoProfile { name: profile.to_owned(), there });
        }
        let assignment = Assignment { profile: profile.to_owned(), once };
        self.change(machine, Happened::Assigned(assignment)).await
    }

    /// Leaves a machine to its rule again; whether there was something to take back. What it has had once it is not given
    /// again: that is [`Self::renew`].
    ///
    /// # Errors
    /// [`Refusal::NotKept`]; nothing was changed then.
    pub async fn unassign(&self, machine: MachineId) -> Result<bool, Refusal> {
        let before = self.live.roster.load().of(machine).is_some_and(|entry| entry.assigned.is_some());
        self.change(machine, Happened::Unassigned).await?;
        Ok(before)
    }

    /// Gives a machine its one-time profile again; whether it had used it up, or tried it.
    ///
    /// # Errors
    /// [`Refusal::NotKept`]; nothing was changed then.
    pub async fn renew(&self, machine: MachineId) -> Result<bool, Refusal> {
        let before = self.live.roster.load().of(machine);
        self.change(machine, Happened::Renewed).await?;
        Ok(before.is_some_and(|entry| entry.has_had_any() || entry.tried.is_some() || entry.begun.is_some()))
    }

    /// Lets a machine in that no rule names, or no more; whether it was in.
    ///
    /// # Errors
    /// [`Refusal::NotKept`]; nothing was changed then.
    pub async fn approve(&self, machine: MachineId, approved: bool) -> Result<bool, Refusal> {
        let before = self.live.roster.load().of(machine).is_some_and(|entry| entry.approved);
        self.change(machine, Happened::Approved(approved)).await?;
        // It overrides what was said in this run.
        self.live.rules.load().strangers.forget(machine);
        self.permitted.notify_one();
        Ok(before)
    }

    /// Does what a person says about a machine that no rule names. Only an approval outlives the server.
    ///
    /// # Errors
    /// [`Refusal::NotKept`]; nothing was changed then.
    pub async fn permit(&self, machine: MachineId, permission: Permission) -> Result<(), Refusal> {
        let approved = permission == Permission::Always;
        let before = self.live.roster.load().of(machine).is_some_and(|entry| entry.approved);
        if approved != before {
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

    /// Forgets what was learned of a machine's firmware.
    ///
    /// # Errors
    /// [`Refusal::NotKept`].
    pub async fn forget_firmware(&self, machine: MachineId) -> Result<(), Refusal> {
        let mut unkept = self.turn.lock().await;
        for key in machine.keys() {
            unkept.shapes.remove(&key);
            unkept.trust.remove(&key);
        }
        if let Some(state) = &self.state {
            state.forget_firmware(machine).await?;
        }
        Ok(())
    }

    async fn change(&self, machine: MachineId, what: Happened) -> Result<(), Refusal> {
        if let Some(sharing) = &self.sharing {
            return Ok(sharing.change(machine, what).await?);
        }
        let mut unkept = self.turn.lock().await;
        let roster = self.live.roster.load_full();
        let change = roster.change(machine, &[], |before| alone(what, before));
        if let Some(state) = &self.state {
            // What it takes the place of is gone from the disk before the change is there, so that waits with it.
            let waiting = unkept.replaced.clone();
            let whole = Change { replaced: change.replaced.iter().copied().chain(waiting).collect(), ..change.clone() };
            state.set_entry(&whole).await.inspect_err(|error| unkept.tell(error))?;
            unkept.replaced.clear();
            unkept.machines.remove(&machine);
            unkept.tell_end();
        }
        self.live.roster.store(Arc::new(roster.changed(&change)));
        Ok(())
    }

    /// In memory whatever the disk says: a machine that installs itself once must not do so twice.
    async fn note(&self, machine: MachineId, beside: Vec<Key>, what: Happened) {
        if let Some(sharing) = &self.sharing {
            return sharing.note(machine, beside, what);
        }
        let mut unkept = self.turn.lock().await;
        let roster = self.live.roster.load_full();
        let change = roster.noted(machine, &beside, |before| alone(what, before));
        self.live.roster.store(Arc::new(roster.changed(&change)));
        unkept.replaced.extend(change.replaced);
        unkept.machines.insert(machine);
    }

    /// Keeps what comes until all senders have gone.
    pub async fn keep(self: Arc<Self>, mut to_keep: mpsc::Receiver<ToKeep>) {
        let mut is_behind = false;
        loop {
            tokio::select! {
                what = to_keep.recv() => match what {
                    Some(ToKeep::Begun(machine, cards, profile)) => self.begun(machine, cards, profile),
                    Some(ToKeep::Spent(machine, cards, profile)) => {
                        self.note(machine, cards, Happened::Spent(profile)).await;
                    }
                    Some(ToKeep::Tried(machine, cards, profile)) => {
                        self.note(machine, cards, Happened::Tried(profile)).await;
                    }
                    Some(ToKeep::Failed(machine, cards, profile, words)) => {
                        self.note(machine, cards, Happened::Failed(profile, words)).await;
                    }
                    Some(ToKeep::Shape(machine, shape)) => {
                        if let Some(sharing) = &self.sharing {
                            sharing.keep_shape(machine.key(), shape);
                        }
                        self.turn.lock().await.put_shape(machine.key(), shape);
                    }
                    Some(ToKeep::Boots(boots)) => {
                        if let Some(sharing) = &self.sharing {
                            sharing.keep_boots(&boots);
                        }
                        self.turn.lock().await.put_boots(boots);
                    }
                    Some(ToKeep::Trust(machine, trust)) => self.turn.lock().await.put_trust(machine.key(), trust),
                    None => break,
                },
                () = sleep(AGAIN), if is_behind => {}
            }
            is_behind = self.catch_up().await;
        }
        if let Some(state) = &self.state {
            state.clone().close().await;
        }
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
        match unkept.write(state, &self.live.roster.load()).await {
            Ok(()) => unkept.tell_end(),
            Err(error) => unkept.tell(&error),
        }
        !unkept.is_empty()
    }
}

impl Unkept {
    fn is_empty(&self) -> bool {
        self.machines.is_empty() && self.shapes.is_empty() && self.trust.is_empty() && self.boots.is_empty()
    }

    fn put_shape(&mut self, key: Key, shape: Shape) {
        // Strangers may send any card's address.
        if self.shapes.len() < MOST_SHAPES || self.shapes.contains_key(&key) {
            self.shapes.insert(key, shape);
        }
    }

    fn put_trust(&mut self, key: Key, trust: Trust) {
        if self.trust.len() < MOST_SHAPES || self.trust.contains_key(&key) {
            self.trust.insert(key, trust);
        }
    }

    /// A boot that goes on takes its own place.
    fn put_boots(&mut self, boots: Vec<(MachineId, Arc<Timeline>)>) {
        self.boots.extend(boots.into_iter().map(|(machine, boot)| ((machine, boot.began), boot)));
        while self.boots.len() > MOST_BOOTS {
            self.boots.pop_first();
        }
    }

    /// Writes until something cannot be written.
    async fn write(&mut self, state: &State, roster: &Roster) -> Result<(), sqlx::Error> {
        while let Some(machine) = self.machines.first().copied() {
            let change = roster.noted(machine, &[], |before| before);
            let replaced = change.replaced.iter().chain(&self.replaced).copied().filter(|key| *key != change.key);
            state.set_entry(&Change { replaced: replaced.collect(), ..change.clone() }).await?;
            self.replaced.clear();
            self.machines.remove(&machine);
        }
        while let Some((key, shape)) = self.shapes.iter().next().map(|(key, shape)| (*key, *shape)) {
            state.set_offer_shape(key, shape).await?;
            self.shapes.remove(&key);
        }
        while let Some((key, trust)) = self.trust.iter().next().map(|(key, trust)| (*key, *trust)) {
            state.set_loader_trust(key, trust).await?;
            self.trust.remove(&key);
        }
        if !self.boots.is_empty() {
            let boots: Vec<_> = self.boots.iter().map(|((machine, _), boot)| (*machine, boot.clone())).collect();
            state.set_boots(&boots, "").await?;
            self.boots.clear();
        }
        Ok(())
    }

    fn tell_end(&mut self) {
        if std::mem::take(&mut self.is_told) {
            info!("the state can be written again");
        }
    }

    /// Once, until it is over: each boot has something to keep.
    fn tell(&mut self, error: &sqlx::Error) {
        if !std::mem::replace(&mut self.is_told, true) {
            warn!(
                "the state cannot be written: {error}; boots continue, but changes are lost if netbootd restarts before it can be written"
            );
        }
    }
}

/// Who is alone sees each hand-over once.
fn alone(what: Happened, before: Entry) -> Entry {
    let after = what.apply(Entry { handed_over: None, ..before }, 0);
    Entry { handed_over: None, ..after }
}

/// Until what could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(3);
/// Offer shapes that wait for the disk, which are learned anew when they are lost.
const MOST_SHAPES: usize = 4096;
/// And boots, which would be shown after a restart.
const MOST_BOOTS: usize = Timelines::MACHINES;
