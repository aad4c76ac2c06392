//! The one owner of the timelines: events in, lines out; and what the stages have to know of each other goes back by it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tokio::{sync::mpsc, time::sleep};
use tracing::{info, warn};

use super::{
    clerk::ToKeep,
    control::{Ask, LastSeen},
    logging::Together,
};
use crate::boot::{
    attempts::Attempts,
    client::MacAddr,
    recent::Recent,
    timeline::{Event, Line, Stage, Timelines, What, Who},
};

/// The recorder's hands.
pub(super) struct Recorder {
    /// What machines have tried lately.
    pub(super) attempts: Arc<Mutex<Attempts>>,
    /// To the clerk. Where the disk does not keep up, the next boot tells the same again.
    pub(super) to_keep: mpsc::Sender<ToKeep>,
    /// The boots.
    pub(super) timelines: Timelines,
    /// Each machine's last line.
    pub(super) last: Recent<MacAddr, LastSeen>,
}

impl Recorder {
    /// Records until every stage has gone, and answers what it is asked.
    pub(super) async fn record(mut self, mut events: mpsc::Receiver<Event>, mut questions: mpsc::Receiver<Ask>) {
        let mut batch = Vec::new();
        loop {
            let received = tokio::select! {
                received = events.recv_many(&mut batch, BATCH) => received,
                Some(ask) = questions.recv() => {
                    let _ = ask.send(self.last.iter().map(|(mac, last)| (*mac, last.clone())).collect());
                    continue;
                }
            };
            if received == 0 {
                return;
            }
            let together = Together::hold();
            batch.drain(..).for_each(|event| self.take(event));
            drop(together);
            if events.is_empty() {
                sleep(PAUSE).await;
            }
        }
    }

    fn take(&mut self, event: Event) {
        if let Event { who: Who::Machine(mac), what: What::TookOffer(shape) } = event {
            self.keep(ToKeep::Shape(mac, shape));
        }
        for line in self.timelines.apply(event) {
            show(&line);
            self.pass_on(&line);
            if let Who::Machine(mac) = line.who {
                self.last.insert(mac, (SystemTime::now(), line));
            }
        }
    }

    /// What a line means to the other stages.
    fn pass_on(&mut self, Line { who, stage, failed, .. }: &Line) {
        let Who::Machine(mac) = *who else { return };
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match stage {
            Stage::Loader if !failed => {
                let learned = attempts.loader_fetched(mac, Instant::now());
                drop(attempts);
                if let Some(shape) = learned {
                    self.keep(ToKeep::Shape(mac, shape));
                    self.timelines.apply(Event { who: *who, what: What::TookOffer(shape) }).iter().for_each(show);
                }
            }
            Stage::HandedOver => {
                attempts.handed_over(mac);
                drop(attempts);
                if let Some(chosen) = self.timelines.chosen(*who).filter(|chosen| chosen.once) {
                    self.keep(ToKeep::Spent(mac, chosen.profile.clone()));
                }
            }
            _ => {}
        }
    }

    fn keep(&self, what: ToKeep) {
        let _ = self.to_keep.try_send(what);
    }
}

fn show(Line { who, stage, text, failed }: &Line) {
    let stage = stage.name();
    if *failed {
        warn!(machine = %who, stage, "{text}");
    } else {
        info!(machine = %who, stage, "{text}");
    }
}

/// Events taken at once.
const BATCH: usize = 256;
/// Whoever sends an event to one that waits for it wakes a thread, which costs more than a small file: under load there
/// is one wake-up for many events.
const PAUSE: Duration = Duration::from_millis(5);
