//! The one owner of the timelines: events in, lines out; and what the stages have to know of each other goes back by it.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{
        broadcast,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};

use super::{clerk::ToKeep, logging::Together};
use crate::{
    boot::{
        identity::{Key, MachineId},
        learned::Learned,
        outcome::Outcome,
        strangers::Strangers,
    },
    offers::attempts::Attempts,
    status::{
        metrics::Metrics,
        server::{Steps, Told},
        tally::Tally,
    },
    timeline::{
        boot::{Chosen, Ending},
        event::{Discover, Event, ReportEvent, What, Who},
        kept::Kept,
        machines::{Line, Snapshot, Timelines},
        moment::Moment,
        stage::Stage,
    },
};

/// The recorder's hands.
pub(super) struct Recorder {
    /// What machines have tried lately.
    attempts: Arc<Mutex<Attempts>>,
    /// Who may boot once.
    strangers: Arc<Strangers>,
    /// To the clerk. Where the disk does not keep up, the next boot reports the same again.
    to_keep: mpsc::Sender<ToKeep>,
    /// The boots.
    timelines: Timelines,
    /// What changed after this version of them, which was at this moment, is not kept yet.
    kept: (u64, Moment),
    /// The same for all boots, also those of machines that only asked for offers.
    kept_all: (u64, Moment),
    ticks: u32,
    /// The last steps, for a client that reconnects and has missed some.
    told: VecDeque<Arc<Told>>,
    /// And how many there were.
    count: u64,
    tell: broadcast::Sender<Arc<Told>>,
    /// The last picture that was asked for.
    snapshot: Arc<Snapshot>,
    metrics: Arc<Metrics>,
    /// To the clerk, who is behind.
    waiting: VecDeque<ToKeep>,
    /// Something was seen of a boot that uses up a one-time profile.
    is_urgent: bool,
    /// Who waits until what was seen is kept.
    waiting_for_it: Vec<Kept>,
}

/// A signed report that decides.
struct Reported {
    machine: MachineId,
    profile: String,
    /// Its words where it failed.
    failed: Option<String>,
}

impl Reported {
    fn of(event: &Event) -> Option<Self> {
        let Event { who: Who::Machine(machine), what: What::SignedReport(report, signed) } = event else { return None };
        let failed = match report.event {
            ReportEvent::Installed => None,
            ReportEvent::Failed => Some(report.text.clone()),
            ReportEvent::Other(_) => return None,
        };
        signed.decides.then(|| Self { machine: *machine, profile: signed.profile.clone(), failed })
    }
}

/// What the views ask.
#[derive(Debug)]
pub(super) enum Question {
    /// What was seen of all machines.
    Snapshot(oneshot::Sender<Arc<Snapshot>>),
    /// The steps after this one, and those to come.
    Steps {
        /// The last one that is known.
        after: Option<u64>,
        /// Where they go.
        answer: oneshot::Sender<Steps>,
    },
}

impl Recorder {
    /// Goes on where another one stopped.
    pub(super) fn new(
        attempts: Arc<Mutex<Attempts>>,
        strangers: Arc<Strangers>,
        to_keep: mpsc::Sender<ToKeep>,
        timelines: Timelines,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (kept, ticks) = ((timelines.version(), Moment::default()), 0);
        let (tell, _) = broadcast::channel(STEPS_WAITING);
        let (told, snapshot) = (VecDeque::new(), Arc::default());
        let waiting = VecDeque::new();
        Self {
            attempts,
            strangers,
            to_keep,
            timelines,
            kept,
            kept_all: kept,
            ticks,
            told,
            count: 0,
            tell,
            snapshot,
            metrics,
            waiting,
            is_urgent: false,
            waiting_for_it: Vec::new(),
        }
    }

    /// Records until every stage has gone, and answers what it is asked.
    pub(super) async fn record(mut self, mut events: mpsc::Receiver<Event>, mut questions: mpsc::Receiver<Question>) {
        let mut batch = Vec::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let received = tokio::select! {
                received = events.recv_many(&mut batch, BATCH) => received,
                Some(question) = questions.recv() => {
                    self.answer(question);
                    continue;
                }
                _ = ticks.tick() => {
                    self.tick();
                    continue;
                }
            };
            if received == 0 {
                return self.keep_boots(true);
            }
            let together = Together::hold();
            let now = Moment::from(SystemTime::now());
            batch.drain(..).for_each(|event| self.take(event, now));
            drop(together);
            // A machine whose last file comes behind a crash would be installed again if the files before it were forgotten.
            if mem::take(&mut self.is_urgent) {
                self.keep_boots(false);
            }
            for kept in mem::take(&mut self.waiting_for_it) {
                self.keep(ToKeep::Told(kept));
            }
            if events.is_empty() {
                sleep(PAUSE).await;
            }
        }
    }

    fn take(&mut self, event: Event, now: Moment) {
        // `netbootd doctor` plays machines that are not there.
        if matches!(event.who, Who::Machine(machine) if machine.card.is_doctor()) {
            return;
        }
        if let What::Kept(kept) = event.what {
            self.is_urgent = true;
            return self.waiting_for_it.push(kept);
        }
        if let Event { who: Who::Machine(machine), what: What::TookOffer(shape) } = event {
            self.keep(ToKeep::Learned(machine, Learned::shape(shape)));
        }
        if let Event { who: Who::Machine(machine), what: What::Script(outcome) | What::OwnScript(outcome) } = &event
            && let Outcome::Chosen { once: true, profile, .. } = outcome
        {
            let cards = self.cards(Who::Machine(*machine));
            self.keep(ToKeep::Begun(*machine, cards, profile.clone()));
        }
        if let (Who::Machine(machine), Some(address)) = (event.who, event.what.address()) {
            self.attempts.lock().unwrap_or_else(PoisonError::into_inner).took_address(machine, address);
        }
        let discover = event.what.discover();
        if let (Who::Machine(machine), Some(Discover { is_ipxe: true, was_offered_loader: true, .. })) =
            (&event.who, discover)
        {
            self.loader_started(*machine, now);
        }
        let reported = Reported::of(&event);
        // Beside what it came to.
        if matches!(&event.what, What::Request(_)) && discover.is_some() {
            self.metrics.count(Tally::DISCOVER, &[], || None, now);
        }
        let tally = Tally::of(&event.what);
        let lines = self.timelines.apply(event, now);
        let who = lines.first().map(|line| line.who);
        self.is_urgent |= who.and_then(|who| self.timelines.chosen(who)).is_some_and(|chosen| chosen.once);
        self.metrics.count(tally, &lines, || self.timelines.boot(who?), now);
        for line in lines {
            self.pass_on(&line, now);
            self.show(line);
        }
        if let Some(Reported { machine, profile, failed }) = reported {
            let cards = self.cards(Who::Machine(machine));
            self.keep(match failed {
                None => ToKeep::Spent(machine, cards, profile),
                Some(words) => ToKeep::Failed(machine, cards, profile, words),
            });
        }
    }

    fn cards(&self, who: Who) -> Vec<Key> {
        self.timelines.cards(who).iter().copied().map(Key::Card).collect()
    }

    /// What a line means to the other stages.
    fn pass_on(&mut self, Line { who, step }: &Line, now: Moment) {
        let Who::Machine(machine) = *who else { return };
        // Most lines mean nothing to them, and the DHCP server waits for this lock.
        if !matches!(step.stage, Stage::Loader | Stage::Script | Stage::HandedOver) {
            return;
        }
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match step.stage {
            Stage::Loader if !step.failed => {
                let learned = attempts.loader_fetched(machine, Instant::now());
                drop(attempts);
                if let Some(shape) = learned {
                    self.keep(ToKeep::Learned(machine, Learned::shape(shape)));
                    self.tell(*who, What::TookOffer(shape), now);
                }
            }
            Stage::Script => {
                let is_grub = self.timelines.boot(*who).is_some_and(|boot| boot.has_grub && boot.chosen.is_none());
                // The local disk is a boot too, and nothing is heard of it later.
                if self.timelines.boot(*who).is_some_and(|boot| boot.ending == Some(Ending::Local)) {
                    self.strangers.handed_over(machine);
                }
                let shape = if is_grub { attempts.grub_started(machine, Instant::now()) } else { None };
                drop(attempts);
                if let Some(shape) = shape {
                    self.keep(ToKeep::Learned(machine, Learned::shape(shape)));
                    self.tell(*who, What::TookOffer(shape), now);
                }
                self.loader_started(machine, now);
            }
            Stage::HandedOver => {
                attempts.handed_over(machine);
                drop(attempts);
                self.strangers.handed_over(machine);
                let cards = self.cards(*who);
                let chosen = self.timelines.chosen(*who).filter(|chosen| chosen.once);
                if let Some(Chosen { profile, until_installed, .. }) = chosen.cloned() {
                    self.keep(match until_installed {
                        true => ToKeep::Tried(machine, cards, profile),
                        false => ToKeep::Spent(machine, cards, profile),
                    });
                }
            }
            _ => {}
        }
    }

    /// What firmware fetched runs: an iPXE or a GRUB was heard.
    fn loader_started(&mut self, machine: MachineId, now: Moment) {
        let learned = self.attempts.lock().unwrap_or_else(PoisonError::into_inner).started(machine);
        if let Some(trust) = learned {
            self.keep(ToKeep::Learned(machine, Learned::trust(trust)));
            self.tell(Who::Machine(machine), What::TookLoader(trust), now);
        }
    }

    fn tell(&mut self, who: Who, what: What, now: Moment) {
        let lines = self.timelines.apply(Event { who, what }, now);
        lines.into_iter().for_each(|line| self.show(line));
    }

    fn tick(&mut self) {
        let together = Together::hold();
        let now = Moment::from(SystemTime::now());
        let lines = self.timelines.tick(now);
        for line in lines {
            let boot = self.timelines.boot(line.who);
            // A boot may also stop there: no report came. That is no second hand-over.
            if line.step.stage == Stage::HandedOver && !line.step.failed {
                self.metrics.count_hand_over(boot, now);
                self.pass_on(&line, now);
            } else {
                let cause = boot.and_then(|boot| boot.told.clone());
                cause.into_iter().for_each(|cause| self.metrics.count_stop(cause));
            }
            self.show(line);
        }
        drop(together);
        self.send_waiting();
        self.ticks = self.ticks.wrapping_add(1);
        self.keep_boots(self.ticks.is_multiple_of(TICKS_TO_ALL));
    }

    fn show(&mut self, line: Line) {
        let (machine, stage, text) = (line.who, line.step.stage.name(), &line.step.text);
        let boot = self.timelines.boot(line.who).map(|boot| boot.number);
        if line.step.failed {
            warn!(%machine, stage, boot, "{text}");
        } else {
            info!(%machine, stage, boot, "{text}");
        }
        self.count += 1;
        let told = Arc::new(Told { number: self.count, line });
        // Nobody may be there to hear it.
        let _ = self.tell.send(told.clone());
        self.told.push_back(told);
        while self.told.len() > STEPS {
            self.told.pop_front();
        }
    }

    fn answer(&mut self, question: Question) {
        // Who asked may have gone.
        match question {
            Question::Snapshot(answer) => {
                if self.snapshot.version != self.timelines.version() {
                    self.snapshot = Arc::new(self.timelines.snapshot(Moment::from(SystemTime::now())));
                }
                let _ = answer.send(self.snapshot.clone());
            }
            Question::Steps { after, answer } => {
                // A number that was not reached yet is of a server before this one: all of this one's are news.
                let after = after.map(|after| if after > self.count { 0 } else { after });
                let is_after = |told: &&Arc<Told>| after.is_some_and(|after| told.number > after);
                let before = self.told.iter().filter(is_after).cloned().collect();
                let _ = answer.send(Steps { before, coming: self.tell.subscribe() });
            }
        }
    }

    /// What changed since the last time; where the disk does not keep up it waits, and a boot that goes on meanwhile is
    /// kept as it is then. Of a machine that only asked for offers, every tenth time: a thousand may ask in a second.
    fn keep_boots(&mut self, all: bool) {
        let mark = (self.timelines.version(), Moment::from(SystemTime::now()));
        let (version, then) = if all { self.kept_all } else { self.kept };
        let changed = self.timelines.changed_since(version, then).filter(|(_, boot)| all || boot.is_past_offers());
        let changed: Vec<_> = changed.map(|(machine, boot)| (machine, boot.clone())).collect();
        if changed.is_empty() || self.to_keep.try_send(ToKeep::Boots(changed)).is_ok() {
            self.kept = mark;
            if all {
                self.kept_all = mark;
            }
        }
    }

    /// What uses something up waits for its turn; what the next boot reports again does not.
    fn keep(&mut self, what: ToKeep) {
        if self.waiting.len() < WAITING || what.is_lost_for_ever() {
            self.waiting.push_back(what);
        }
        self.send_waiting();
    }

    fn send_waiting(&mut self) {
        while let Some(what) = self.waiting.pop_front() {
            if let Err(TrySendError::Full(what)) = self.to_keep.try_send(what) {
                self.waiting.push_front(what);
                return;
            }
        }
    }
}

/// What waits for the clerk, beside what must not be lost.
const WAITING: usize = 256;
/// Events taken at once.
const BATCH: usize = 256;
/// An event wakes the thread of a recorder that waits, which costs more than a small file: under load there
/// is one wake-up for many events.
const PAUSE: Duration = Duration::from_millis(1);
/// Ticks between two times at which all boots are kept that changed.
const TICKS_TO_ALL: u32 = 10;
/// Between two checks for boots that have stopped.
const TICK: Duration = Duration::from_secs(1);
/// How many steps are remembered for a client that reconnects.
const STEPS: usize = 4096;
/// And how many wait for a slow client.
const STEPS_WAITING: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::{
            mac::MacAddr,
            machine::By,
            outcome::Way,
            over::{Of, Over},
        },
        offers::attempts::Rates,
        timeline::transfer::Transfer,
    };

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    /// A recorder, and what it has kept.
    fn recorder() -> (Recorder, mpsc::Receiver<ToKeep>) {
        let (to_keep, kept) = mpsc::channel(64);
        let attempts = Arc::new(Mutex::new(Attempts::new(Rates::default(), [])));
        (Recorder::new(attempts, Arc::default(), to_keep, Timelines::default(), Arc::default()), kept)
    }

    fn installs(report_within: Duration) -> What {
        What::Script(Outcome::Chosen {
            mac: MAC,
            profile: "install".into(),
            by: By::Rule,
            once: true,
            until_installed: true,
            report_within: Some(report_within),
            way: Way::Boot(vec!["vmlinuz".into()]),
        })
    }

    fn fetched(name: &str) -> What {
        let took = Duration::from_secs(1);
        let (of, name, over) = (Of::Asset, name.into(), Over::Http);
        What::Transfer(Transfer { of, name, sent: 9, size: 9, took, failure: None, fresh: 9, over })
    }

    #[test]
    fn a_report_that_does_not_come_is_a_stop_and_no_second_hand_over() {
        let (mut recorder, mut kept) = recorder();
        let began = Moment::from(SystemTime::now()).before(Duration::from_secs(60));
        for what in [installs(Duration::from_secs(10)), fetched("vmlinuz")] {
            recorder.take(Event { who: Who::from(MAC), what }, began);
        }
        recorder.tick();
        let tried = std::iter::from_fn(|| kept.try_recv().ok()).filter(|kept| matches!(kept, ToKeep::Tried(..)));
        assert_eq!(tried.count(), 1, "it was handed over once");
        let now = Moment::from(SystemTime::now());
        let metrics = recorder.metrics.exposition(&recorder.timelines.snapshot(now), now).expect("written");
        for line in [
            "netbootd_stops_total{cause=\"never_reported\"} 1",
            "netbootd_stopped_boots{cause=\"never_reported\"} 1",
            "netbootd_handed_over_total{profile=\"install\"} 1",
        ] {
            assert!(metrics.contains(line), "no {line} in {metrics}");
        }
    }
}
