//! The one owner of the timelines: events in, lines out.

use std::time::Duration;

use tokio::{sync::mpsc, time::sleep};
use tracing::{info, warn};

use crate::boot::timeline::{Event, Line, Timelines};

/// Records until every stage has gone.
pub async fn record(mut events: mpsc::Receiver<Event>) {
    let mut timelines = Timelines::default();
    let mut batch = Vec::new();
    while events.recv_many(&mut batch, BATCH).await > 0 {
        for Line { who, stage, text, failed } in batch.drain(..).flat_map(|event| timelines.apply(event)) {
            let stage = stage.name();
            if failed {
                warn!(machine = %who, stage, "{text}");
            } else {
                info!(machine = %who, stage, "{text}");
            }
        }
        if events.is_empty() {
            sleep(PAUSE).await;
        }
    }
}

/// Events taken at once.
const BATCH: usize = 256;
/// Whoever sends an event to one that waits for it wakes a thread, which costs more than a small file: under load there
/// is one wake-up for many events.
const PAUSE: Duration = Duration::from_millis(5);
