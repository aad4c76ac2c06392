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
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use tokio::sync::{
    Mutex, OwnedSemaphorePermit, Semaphore,
    broadcast::{Receiver, error::RecvError},
};
use tokio_util::sync::CancellationToken;

use super::{
    access::Via,
    known::Known,
    server::{Server, Steps, Told},
};
use crate::{boot::live::Live, timeline::event::Who};

/// The steps of all machines as they happen, each with its number as `id`; who comes back with `Last-Event-ID` (HTML
/// §9.2.4) first gets what it missed, as far as that is remembered. One that is too slow gets a `missed` event. All end
/// with `stop`: the steps themselves end only when everyone who may see one has gone, and this connection is among them.
pub(super) async fn events(
    readers: &Arc<Readers>,
    server: &dyn Server,
    (via, headers): (Via, &HeaderMap),
    stop: CancellationToken,
) -> Response {
    let Ok(place) = readers.place(via) else {
        let words = "too many programs read events; ask again later\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "15")], words).into_response();
    };
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    match server.steps(after).await {
        Some(Steps { before, coming }) => {
            let reader = Reader { before: before.into(), coming, readers: readers.clone(), _place: place };
            let steps = stream::unfold(reader, next).take_until(stop.cancelled_owned());
            Sse::new(steps).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
        }
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// What all readers of events share.
pub(super) struct Readers {
    names: Mutex<Names>,
    places: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(live: Arc<Live>, server: Arc<dyn Server>) -> Arc<Self> {
        Arc::new(Self { names: Mutex::new(Names::new(live, server)), places: Arc::new(Semaphore::new(READERS)) })
    }

    /// Everyone on the network may read, but not take the place of who is on this host.
    fn place(&self, via: Via) -> Result<Option<OwnedSemaphorePermit>, ()> {
        match via {
            Via::ControlSocket => Ok(None),
            Via::Tcp(_) => self.places.clone().try_acquire_owned().map(Some).map_err(drop),
        }
    }
}

struct Reader {
    before: VecDeque<Arc<Told>>,
    coming: Receiver<Arc<Told>>,
    readers: Arc<Readers>,
    _place: Option<OwnedSemaphorePermit>,
}

async fn next(mut reader: Reader) -> Option<(Result<Event, Infallible>, Reader)> {
    let event = match reader.before.pop_front() {
        Some(told) => step(&reader.readers, &told).await,
        None => match reader.coming.recv().await {
            Ok(told) => step(&reader.readers, &told).await,
            Err(RecvError::Lagged(missed)) => Event::default().event("missed").data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        },
    };
    Some((Ok(event), reader))
}

async fn step(readers: &Readers, Told { number, line }: &Told) -> Event {
    let step = &line.step;
    let machine = readers.names.lock().await.id(line.who).await;
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

/// At the same time, over the network: each holds a connection and its buffers.
const READERS: usize = 64;
const RENEWED: Duration = Duration::from_secs(1);
const RENEWED_FOR_NEWS: Duration = Duration::from_millis(100);
/// For each second of work, so many seconds without.
const SHARE: u32 = 50;

/// Often enough for what stands between, which forgets silent connections.
const ALIVE: Duration = Duration::from_secs(15);
