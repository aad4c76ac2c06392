//! `/api/v1/events`: what happens, as server-sent events.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::response::{
    IntoResponse as _, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::{
    known::Known,
    server::{Server, Steps, Told},
};
use crate::{boot::live::Live, timeline::event::Who};

/// The steps of all machines as they happen, each with its number as `id`; who comes back with `Last-Event-ID` (HTML
/// §9.2.4) first gets what it missed, as far as that is remembered. One that is too slow gets a `missed` event. All end
/// with `stop`: the steps themselves end only when everyone who may see one has gone, and this connection is among them.
pub(super) async fn events(
    live: Arc<Live>,
    server: Arc<dyn Server>,
    headers: &HeaderMap,
    stop: CancellationToken,
) -> Response {
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    match server.steps(after).await {
        Some(Steps { before, coming }) => {
            let steps = stream::unfold((VecDeque::from(before), coming, Names::new(live, server)), next)
                .take_until(stop.cancelled_owned());
            Sse::new(steps).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
        }
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

type Waiting = (VecDeque<Arc<Told>>, Receiver<Arc<Told>>, Names);

async fn next((mut before, mut coming, mut names): Waiting) -> Option<(Result<Event, Infallible>, Waiting)> {
    let event = match before.pop_front() {
        Some(told) => step(&mut names, &told).await,
        None => match coming.recv().await {
            Ok(told) => step(&mut names, &told).await,
            Err(RecvError::Lagged(missed)) => Event::default().event("missed").data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        },
    };
    Some((Ok(event), (before, coming, names)))
}

async fn step(names: &mut Names, Told { number, line }: &Told) -> Event {
    let step = &line.step;
    let machine = names.id(line.who).await;
    let data = json!({
        "machine": machine, "at": step.at, "stage": step.stage, "text": step.text, "failed": step.failed,
    });
    Event::default().event("step").id(number.to_string()).data(data.to_string())
}

/// By what machines are shown: as in the other views, their cards, unless other machines use these too.
struct Names {
    live: Arc<Live>,
    server: Arc<dyn Server>,
    ids: BTreeMap<Who, String>,
    made: Option<Instant>,
    took: Duration,
}

impl Names {
    fn new(live: Arc<Live>, server: Arc<dyn Server>) -> Self {
        Self { live, server, ids: BTreeMap::new(), made: None, took: Duration::ZERO }
    }

    /// Not looked up for each step: a thousand machines may begin to boot in a second. With many rules it takes longer,
    /// and is done as much more rarely.
    async fn id(&mut self, who: Who) -> String {
        let longest = if self.ids.contains_key(&who) { RENEWED } else { RENEWED_FOR_NEWS };
        if self.made.is_none_or(|made| made.elapsed() > longest.max(SHARE * self.took)) {
            let snapshot = self.server.snapshot().await;
            let began = Instant::now();
            let known = Known::new(&self.live.rules.load(), &self.live.roster.load(), &snapshot.machines);
            self.ids = snapshot.machines.iter().map(|seen| (seen.who, known.id(seen.who))).collect();
            self.took = began.elapsed();
            self.made = Some(Instant::now());
        }
        self.ids.get(&who).cloned().unwrap_or_else(|| who.to_string())
    }
}

const RENEWED: Duration = Duration::from_secs(1);
const RENEWED_FOR_NEWS: Duration = Duration::from_millis(100);
/// For each second of work, so many seconds without.
const SHARE: u32 = 50;

/// Often enough for what stands between, which forgets silent connections.
const ALIVE: Duration = Duration::from_secs(15);
