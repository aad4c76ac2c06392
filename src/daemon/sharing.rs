//! One state of several appliances. What decides is in memory: the last known state, and what happened here since. The
//! server gets that, and is asked what others did, several times a second, off the path of any boot.

mod exchange;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::waiting::Stored;
use crate::{
    boot::{
        answer,
        happened::{Happened, Note},
        identity::{Key, MachineId},
        learned::Learned,
        live::Live,
        roster::{Entry, Roster},
    },
    config::fixed::StateServer,
    net::boot_time,
    offers::attempts::Attempts,
    state::{Appliance, Known, NotKept, State, StateError, words},
    timeline::{boot::Timeline, kept::Kept, machines::Timelines, moment::Moment},
};

/// See the module.
pub(super) struct Sharing {
    server: State,
    /// For views, which must not delay changes.
    views: State,
    /// The last known copy, and what waits, for a restart while the server cannot be reached.
    copy: Option<State>,
    live: Arc<Live>,
    /// What is learned of machines' firmware.
    attempts: Arc<Mutex<Attempts>>,
    /// Signs addresses. All appliances have the same, as soon as they reached the server.
    answer_key: OnceLock<answer::Key>,
    name: String,
    keep_boots: Duration,
    ours: watch::Receiver<Vec<Ipv4Addr>>,
    memory: Mutex<Memory>,
    /// Changes reach the server one after the other.
    turn: tokio::sync::Mutex<()>,
    wake: Notify,
    listen_again: Notify,
    seen_by_others: tokio::sync::Mutex<Option<(Instant, Arc<Boots>)>>,
}

/// Boots of machines.
pub(super) type Boots = Vec<(MachineId, Vec<Timeline>)>;

struct Memory {
    known: Known,
    /// What happened here, and is not on the server yet.
    waiting: VecDeque<Note>,
    /// Who waits until so many of these are there.
    told: Vec<(usize, Kept)>,
    /// Whether the copy lacks something of that, or has something that is reported by now.
    is_copy_behind: bool,
    /// Whether a change of the machines could not be written to the copy: then it needs all of them.
    is_copy_incomplete: bool,
    /// The appliances that were heard just now.
    heard: BTreeSet<String>,
    boots: BTreeMap<(MachineId, Moment), Arc<Timeline>>,
    /// What was learned here of machines' firmware, and is not on the server yet.
    learned: HashMap<Key, Learned>,
    /// The number up to which the server's is known here.
    learned_up_to: i64,
    /// Whether the key that signs addresses is known to be the server's.
    is_key_shared: bool,
    /// When the server answered last.
    answered: Instant,
    /// Why the last exchange since then failed.
    refused: Option<String>,
    is_lost: bool,
    /// Why, as the log has it.
    lost_by: Option<String>,
    is_full: bool,
    said_there: Option<Instant>,
    forgot: Option<Instant>,
}

impl Sharing {
    /// Begins with what the server says, or with the last known copy where it does not answer; without waiting for long.
    ///
    /// # Errors
    /// The URL.
    pub(super) async fn start(
        at: &StateServer,
        copy: Option<State>,
        live: Arc<Live>,
        ours: watch::Receiver<Vec<Ipv4Addr>>,
        attempts: Arc<Mutex<Attempts>>,
    ) -> Result<Arc<Self>, StateError> {
        let open = || State::on_server(&at.url, at.password.as_deref(), &at.appliance);
        let (server, views) = (open()?, open()?);
        let mut known = Known::default();
        let mut waiting = VecDeque::new();
        if let Some(copy) = &copy {
            match tokio::try_join!(copy.roster(), copy.waiting(), copy.learned(State::NOTHING_LEARNED)) {
                Ok((roster, kept, (learned, _))) => {
                    {
                        let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
                        learned.into_iter().for_each(|(key, learned)| attempts.know(key, learned));
                    }
                    known.roster = Arc::new(roster);
                    waiting = kept.iter().filter_map(|note| Stored::read(note)).collect();
                }
                Err(error) => warn!("the copy of the state cannot be read: {error}"),
            }
        }
        let memory = Memory {
            known,
            waiting,
            told: Vec::new(),
            is_copy_behind: false,
            is_copy_incomplete: false,
            heard: BTreeSet::from([at.appliance.clone()]),
            boots: BTreeMap::new(),
            learned: HashMap::new(),
            learned_up_to: State::NOTHING_LEARNED,
            is_key_shared: false,
            answered: Instant::now(),
            refused: None,
            is_lost: false,
            lost_by: None,
            is_full: false,
            said_there: None,
            forgot: None,
        };
        let _ = live.state_clock.set(boot_time::now);
        let sharing = Self {
            server,
            views,
            copy,
            live,
            attempts,
            answer_key: OnceLock::new(),
            name: at.appliance.clone(),
            keep_boots: at.keep_boots,
            ours,
            memory: Mutex::new(memory),
            turn: tokio::sync::Mutex::default(),
            wake: Notify::new(),
            listen_again: Notify::new(),
            seen_by_others: tokio::sync::Mutex::default(),
        };
        sharing.publish(&sharing.memory());
        let started = async {
            sharing.warn_of_a_namesake().await?;
            sharing.exchange().await
        };
        if let Err(error) = started.await {
            sharing.lose(&words(&error));
        }
        Ok(Arc::new(sharing))
    }

    /// Two appliances of one name would take each other's boots for their own.
    async fn warn_of_a_namesake(&self) -> Result<(), sqlx::Error> {
        let is_there = self.server.appliances().await?;
        let now = |appliance: &&Appliance| appliance.name == self.name && appliance.silent_ms < SILENT_MS;
        if let Some(Appliance { addresses, .. }) = is_there.iter().find(now) {
            warn!(
                "another appliance with the name {} was heard just now, with the addresses {addresses:?}: if it still runs, \
                 give one of the two another name with state.appliance",
                self.name
            );
        }
        Ok(())
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The key that signs addresses here. As long as the server was not reached, it may be another one than the others have.
    pub(super) fn share_key(&self, key: answer::Key) {
        let _ = self.answer_key.set(key);
    }

    /// The secret of all appliances. Where the server does not answer: the last one that was known.
    pub(super) async fn last_secret(&self, name: &str, fresh: &[u8]) -> Result<Vec<u8>, sqlx::Error> {
        let shared = match self.is_lost() {
            true => Err(sqlx::Error::PoolTimedOut),
            false => self.server.secret(name, fresh).await,
        };
        match (shared, &self.copy) {
            (Ok(secret), copy) => {
                if let Some(copy) = copy {
                    let _ = copy.set_secret(name, &secret).await;
                }
                Ok(secret)
            }
            (Err(_), Some(copy)) => copy.secret(name, fresh).await,
            (Err(error), None) => Err(error),
        }
    }

    /// Something that happened here, which counts from now on and is reported when that can be done.
    pub(super) fn note(&self, machine: MachineId, beside: Vec<Key>, what: Happened) {
        let note = Note { machine, beside, what, at: unix_ms() };
        let mut memory = self.memory();
        if memory.waiting.len() >= MOST_WAITING {
            memory.waiting.pop_front();
            if !std::mem::replace(&mut memory.is_full, true) {
                warn!(
                    "more than {MOST_WAITING} changes wait for the server that keeps the state: the oldest are dropped, and \
                     what they say of one-time profiles is known here only"
                );
            }
        }
        memory.waiting.push_back(note);
        memory.is_copy_behind = true;
        self.publish(&memory);
        drop(memory);
        self.wake.notify_one();
    }

    /// Tells that all that waits now is on the server, as soon as it is; never where the server cannot be reached.
    pub(super) fn tell_when_kept(&self, kept: Kept) {
        let mut memory = self.memory();
        match memory.waiting.len() {
            0 => kept.tell(),
            _ if memory.is_lost => {}
            count => memory.told.push((count, kept)),
        }
    }

    /// What a person wants. When this returns, the server has it; what was said of the machine there before.
    ///
    /// # Errors
    /// [`NotKept`].
    pub(super) async fn change(&self, machine: MachineId, what: Happened) -> Result<Option<Entry>, NotKept> {
        let note = Note { machine, beside: Vec::new(), what, at: unix_ms() };
        let _turn = self.turn.lock().await;
        self.tell(Some(note)).await
    }

    /// Boots as they are now.
    pub(super) fn keep_boots(&self, boots: &[(MachineId, Arc<Timeline>)]) {
        let mut memory = self.memory();
        memory.boots.extend(boots.iter().map(|(machine, boot)| ((*machine, boot.began), boot.clone())));
        while memory.boots.len() > MOST_BOOTS {
            memory.boots.pop_first();
        }
    }

    pub(super) fn keep_learned(&self, key: Key, learned: Learned) {
        let mut memory = self.memory();
        if memory.learned.len() < MOST_BOOTS || memory.learned.contains_key(&key) {
            let before = memory.learned.get(&key).copied().unwrap_or_default();
            memory.learned.insert(key, learned.or(before));
        }
        drop(memory);
        self.wake.notify_one();
    }

    /// Forgets what was learned of a machine's firmware on all appliances; whether there was something.
    ///
    /// # Errors
    /// Those of the server; nothing was forgotten then.
    pub(super) async fn forget_firmware(&self, machine: MachineId) -> Result<bool, sqlx::Error> {
        let _turn = self.turn.lock().await;
        let was_known = self.server.forget_firmware(machine).await?;
        let mut memory = self.memory();
        let was_waiting = machine.keys().filter(|key| memory.learned.remove(key).is_some()).count() > 0;
        Ok(was_known || was_waiting)
    }

    /// The boots that other appliances saw, as they were a moment ago; of so many machines at most.
    pub(super) async fn others(&self, machines: usize) -> Arc<Boots> {
        let mut cached = self.seen_by_others.lock().await;
        let is_all = machines > Timelines::MACHINES;
        if let Some((at, boots)) = cached.as_ref().filter(|_| !is_all)
            && at.elapsed() < LOOK_AGAIN
        {
            return boots.clone();
        }
        if self.is_lost() {
            return cached.as_ref().map(|(_, boots)| boots.clone()).unwrap_or_default();
        }
        match self.views.boots(&self.name, machines).await {
            Ok(boots) => {
                let boots = Arc::new(boots);
                if !is_all {
                    *cached = Some((Instant::now(), boots.clone()));
                }
                boots
            }
            Err(error) => {
                debug!("the boots of other appliances cannot be read: {error}");
                let last = cached.as_ref().map(|(_, boots)| boots.clone()).unwrap_or_default();
                // Not at each look of each viewer.
                *cached = Some((Instant::now(), last.clone()));
                last
            }
        }
    }

    /// Exchanges with the server until `stop`, and then once more.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let listening = tokio::spawn(self.clone().listen());
        let mut pause = TURN;
        loop {
            let is_lost = self.is_lost();
            tokio::select! {
                () = self.wake.notified() => {}
                () = sleep(pause) => {}
                () = stop.cancelled() => break,
            }
            if is_lost && pause > TURN {
                // Woken or not: what waits is safe on our own disk first.
                self.store_waiting().await;
            }
            pause = match self.turn().await {
                Ok(()) => TURN,
                Err(_) => (pause * 2).min(LONGEST_PAUSE),
            };
            // One exchange for many changes.
            sleep(if is_lost { TURN } else { TOGETHER }).await;
        }
        listening.abort();
        while self.turn().await.is_ok() {
            // Who leaves says that it reported everything: others may give again what was begun here.
            if self.memory().waiting.is_empty() {
                let _ = self.server.leaves(&self.name).await;
                break;
            }
        }
        self.store_waiting().await;
        self.server.clone().close().await;
    }

    async fn listen(self: Arc<Self>) {
        loop {
            tokio::select! {
                ended = self.server.listen(|| self.wake.notify_one()) => {
                    let error = ended.err().map(|error| error.to_string()).unwrap_or_default();
                    debug!("changes of other appliances are heard a second later: {error}");
                }
                // The old connection may be silent for a long time before it ends.
                () = self.listen_again.notified() => {}
            }
            sleep(TURN).await;
        }
    }

    /// Puts what decides in its place.
    fn publish(&self, memory: &Memory) {
        let mut roster = self.live.among(&memory.known.roster);
        if !memory.waiting.is_empty() {
            let mut after = Roster::clone(&roster);
            for note in &memory.waiting {
                let change = after.after(note, note.at / 1000);
                after.take(change);
            }
            roster = Arc::new(after);
        }
        self.live.put_roster(&roster.in_doubt(&memory.heard));
    }

    fn is_lost(&self) -> bool {
        self.memory().is_lost
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What the state calls the key of answer files.
pub(super) const ANSWERS: &str = "answers";
/// Between two exchanges where nothing happens.
const TURN: Duration = Duration::from_secs(1);
/// For what happens close together.
const TOGETHER: Duration = Duration::from_millis(50);
/// Between two tries while the server cannot be reached.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// An appliance that was not heard for so many milliseconds is silent.
const SILENT_MS: u64 = 3000;
/// For views.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
const MOST_WAITING: usize = 10_000;
const MOST_BOOTS: usize = 4 * Timelines::MACHINES;

#[cfg(test)]
mod tests {
    use netbootd_lab::Postgres;

    use super::*;
    use crate::boot::{mac::MacAddr, machine::Rules, roster::Assignment};

    /// An appliance, and the server that keeps its state.
    struct Site {
        sharing: Arc<Sharing>,
        copy: State,
        at: StateServer,
        _addresses: watch::Sender<Vec<Ipv4Addr>>,
        folder: tempfile::TempDir,
        _postgres: Postgres,
    }

    impl Site {
        async fn start(waiting: impl Iterator<Item = Note>) -> Self {
            let postgres = Postgres::start(None).expect("PostgreSQL");
            let folder = tempfile::tempdir().expect("a folder");
            let copy = State::open(&file(&folder)).await.expect("opened");
            let notes: Vec<String> = waiting.filter_map(|note| Stored::written(&note)).collect();
            copy.set_waiting(&notes).await.expect("written");
            let (url, appliance) = (postgres.local_url("netbootd"), "a".into());
            let keep_boots = Duration::from_secs(3600);
            let at = StateServer { url, password: None, password_file: None, appliance, keep_boots };
            let live = Live::new(Rules::default(), Roster::default());
            let attempts = Arc::new(Mutex::new(Attempts::new(Default::default(), [])));
            let (_addresses, ours) = watch::channel(Vec::new());
            let sharing = Sharing::start(&at, Some(copy.clone()), live, ours, attempts).await.expect("a URL");
            Self { sharing, copy, at, _addresses, folder, _postgres: postgres }
        }
    }

    fn file(folder: &tempfile::TempDir) -> String {
        format!("sqlite://{}/copy.db", folder.path().display())
    }

    fn card(number: u16) -> MachineId {
        let [high, low] = number.to_be_bytes();
        MacAddr([2, 0, 0, 0, high, low]).into()
    }

    /// Else they give a machine its one-time profile again whose hand-over is still to be reported.
    #[tokio::test]
    async fn others_hear_of_an_appliance_when_all_that_waited_is_reported() {
        let spent = |number| {
            let (machine, what) = (card(number), Happened::Spent("demo".into()));
            Note { machine, beside: Vec::new(), what, at: unix_ms() }
        };
        let site = Site::start((0..1200).map(spent)).await;
        let b = State::on_server(&site.at.url, None, "b").expect("a URL");
        let is_heard = b.appliances().await.expect("read").iter().any(|appliance| appliance.name == "a");
        let mut known = Known::default();
        b.refresh(&mut known).await.expect("read");
        assert_eq!((is_heard, known.roster.iter().count()), (true, 1200));
    }

    #[tokio::test]
    async fn what_could_not_be_copied_is_in_the_copy_as_soon_as_it_can_be_written() {
        let site = Site::start([].into_iter()).await;
        let sql = sqlx::SqlitePool::connect(&file(&site.folder)).await.expect("opened");
        let rename = async |statement| sqlx::query(statement).execute(&sql).await.map(drop).expect("run");
        let local = || Happened::Assigned(Assignment { profile: "local".into(), once: false });
        rename("ALTER TABLE machines RENAME TO away").await;
        site.sharing.change(card(1), local()).await.expect("kept on the server");
        rename("ALTER TABLE away RENAME TO machines").await;
        site.sharing.turn().await.expect("an exchange");
        let copy = site.copy.roster().await.expect("read");
        assert!(copy.of(card(1)).is_some(), "{copy:?}");
        site.sharing.change(card(2), local()).await.expect("kept");
        assert_eq!(site.copy.roster().await.expect("read").iter().count(), 2);
    }
}
