//! The one owner of the timelines: events in, lines out; and what the stages have to know of each other goes back by it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::mpsc;
use tracing::{info, warn};

use super::clerk::ToKeep;
use crate::boot::{
    attempts::Attempts,
    timeline::{Event, Line, Stage, Timelines, What, Who},
};

/// The recorder's hands.
pub struct Recorder {
    /// What machines have tried lately.
    pub attempts: Arc<Mutex<Attempts>>,
    /// To the clerk. Where the disk does not keep up, the next boot tells the same again.
    pub to_keep: mpsc::Sender<ToKeep>,
    /// The boots.
    pub timelines: Timelines,
}

impl Recorder {
    /// Records until every stage has gone.
    pub async fn record(mut self, mut events: mpsc::Receiver<Event>) {
        while let Some(event) = events.recv().await {
            if let Event { who: Who::Machine(mac), what: What::TookOffer(shape) } = event {
                self.keep(ToKeep::Shape(mac, shape));
            }
            for line in self.timelines.apply(event) {
                show(&line);
                self.pass_on(&line);
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
