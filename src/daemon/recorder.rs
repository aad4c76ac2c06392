//! The one owner of the timelines: events in, lines out.

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::boot::timeline::{Event, Line, Timelines};

/// Records until every stage has gone.
pub async fn record(mut events: mpsc::Receiver<Event>) {
    let mut timelines = Timelines::default();
    while let Some(event) = events.recv().await {
        for Line { who, stage, text, failed } in timelines.apply(event) {
            let stage = stage.name();
            if failed {
                warn!(machine = %who, stage, "{text}");
            } else {
                info!(machine = %who, stage, "{text}");
            }
        }
    }
}
