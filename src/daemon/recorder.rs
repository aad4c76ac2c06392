//! The one owner of the timelines: events in, lines out; and what the stages have to know of each other goes back by it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::{
    boot::{
        attempts::{Attempts, Shape},
        client::MacAddr,
        timeline::{Event, Line, Stage, Timelines, What, Who},
    },
    state::State,
};

/// Records until every stage has gone.
pub async fn record(mut events: mpsc::Receiver<Event>, attempts: Arc<Mutex<Attempts>>, learned: mpsc::Sender<Learned>) {
    let mut timelines = Timelines::default();
    while let Some(event) = events.recv().await {
        if let Event { who: Who::Machine(mac), what: What::TookOffer(shape) } = event {
            keep(&learned, (mac, shape));
        }
        let lines = timelines.apply(event);
        for line in &lines {
            show(line);
        }
        for Line { who, stage, failed, .. } in lines {
            let Who::Machine(mac) = who else { continue };
            let mut attempts = attempts.lock().unwrap_or_else(PoisonError::into_inner);
            match stage {
                Stage::Loader if !failed => {
                    let Some(shape) = attempts.loader_fetched(mac, Instant::now()) else { continue };
                    keep(&learned, (mac, shape));
                    timelines.apply(Event { who, what: What::TookOffer(shape) }).iter().for_each(show);
                }
                Stage::HandedOver => attempts.handed_over(mac),
                _ => {}
            }
        }
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

/// Something to be kept over a restart.
pub type Learned = (MacAddr, Shape);

fn keep(learned: &mpsc::Sender<Learned>, what: Learned) {
    // Where the disk does not keep up, the next boot tells the same again.
    let _ = learned.try_send(what);
}

/// Keeps what is learned, until the recorder has gone. The disk's errors are told and stop nobody.
pub async fn keep_learned(state: Option<State>, mut learned: mpsc::Receiver<Learned>) {
    while let Some((mac, shape)) = learned.recv().await {
        let Some(state) = &state else { continue };
        if let Err(error) = state.set_offer_shape(mac, shape).await {
            warn!("what {mac} takes will be forgotten at a restart: {error}");
        }
    }
    if let Some(state) = state {
        state.close().await;
    }
}
