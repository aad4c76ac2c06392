//! `GET /live`: what has changed on a page, as server-sent events: pieces of HTML by their ids.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::{Query, State},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use futures_util::stream;
use http::{HeaderMap, StatusCode, header};
use serde::{Deserialize, Serialize};
use tokio::{select, sync::OwnedSemaphorePermit, time::sleep};

use super::{
    board::{Asked, Key, Line},
    files, render,
    shared::{self, Page},
    time::Time,
};
use crate::{
    boot::machine::Rules,
    timeline::{event::Who, moment::Moment},
};

/// What a page asks for.
#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// One machine's page; else the list of those that are asked for.
    machine: Option<String>,
    /// The picture that the page was made of.
    after: Option<String>,
    /// [`files::made`] of the page.
    made: Option<String>,
    #[serde(flatten)]
    asked: Asked,
}

/// One event.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Changes {
    /// The server's time, in milliseconds since 1970: the page shows how long ago something was.
    now: u64,
    /// Pieces by the ids of the elements whose place they take.
    html: BTreeMap<String, String>,
    /// The ids of all rows from the first to the last, where it is another order than before.
    order: Option<Vec<String>>,
}

/// A page that somebody looks at, and what it is known to show.
struct Viewed {
    page: Arc<Page>,
    of: Of,
    pause: Duration,
    _place: OwnedSemaphorePermit,
}

enum Of {
    List { asked: Asked, known: BTreeMap<String, u64>, order: Vec<String>, pieces: BTreeMap<String, String> },
    Machine { who: Who, known: Option<Box<(Key, Arc<Rules>)>> },
}

/// Goes on until the viewer leaves, or the server stops.
pub(super) async fn live(State(page): State<Arc<Page>>, Query(wanted): Query<Wanted>, headers: HeaderMap) -> Response {
    if wanted.made.as_deref().is_some_and(|made| made != files::made()) {
        // A page of another version would not know what to do with the pieces of this one.
        let reload = stream::iter([Ok::<_, Infallible>(Event::default().event("reload").data("-"))]);
        return Sse::new(reload).into_response();
    }
    let Ok(place) = page.viewers.clone().try_acquire_owned() else {
        let words = "too many pages have live updates; reload this page to update it\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "15")], words).into_response();
    };
    let who = match wanted.machine.as_deref() {
        Some(machine) => {
            let snapshot = page.api.server.snapshot().await;
            Some(page.api.who(machine, &page.api.known(&snapshot)))
        }
        None => None,
    };
    let of = match who {
        None => {
            // A viewer that reconnects may have missed an order: it gets everything.
            let after = wanted.after.filter(|_| !headers.contains_key("last-event-id"));
            let number = after.and_then(|after| page.board.number(&after));
            let known = match number {
                Some(number) => {
                    page.board.look().await.select(&wanted.asked).0.iter().map(|l| (l, number)).map(known).collect()
                }
                None => BTreeMap::new(),
            };
            Of::List { asked: wanted.asked, known, order: Vec::new(), pieces: BTreeMap::new() }
        }
        Some(Ok(who)) => Of::Machine { who, known: None },
        Some(Err(_)) => return (StatusCode::NOT_FOUND, "there is no such machine\n").into_response(),
    };
    let viewed = Viewed { page, of, pause: Duration::ZERO, _place: place };
    let changes = stream::unfold(viewed, async |mut viewed| {
        let event = viewed.next().await?;
        Some((Ok::<_, Infallible>(event), viewed))
    });
    // An event, not a comment: a page does not see comments, and is to know whether its server is there.
    let alive = KeepAlive::new().interval(ALIVE).event(Event::default().event("alive").data("-"));
    let events = Sse::new(changes).keep_alive(alive);
    // For nginx, which would otherwise wait until it has a buffer full of events.
    ([("x-accel-buffering", "no")], events).into_response()
}

/// A row that the page has as it was then.
fn known((line, number): (&Arc<Line>, u64)) -> (String, u64) {
    (line.row.id.clone(), number.min(line.since))
}

impl Viewed {
    async fn next(&mut self) -> Option<Event> {
        let stop = self.page.api.stop.clone();
        loop {
            select! {
                () = sleep(self.pause) => {}
                () = stop.cancelled() => return None,
            }
            let (name, changes) = match &mut self.of {
                Of::List { .. } => self.list().await,
                Of::Machine { .. } => self.machine().await,
            };
            self.pause = PAUSE;
            if !changes.html.is_empty() || changes.order.is_some() {
                // What is sent counts, which is more than the HTML in it.
                let text = serde_json::to_string(&changes).unwrap_or_default();
                self.pause = PAUSE.max(Duration::from_millis(text.len() as u64 / BYTES_PER_MS));
                return Some(Event::default().id(name).data(text));
            }
        }
    }

    async fn list(&mut self) -> (String, Changes) {
        let picture = self.page.board.look().await;
        let name = self.page.board.name(&picture);
        let page = self.page.clone();
        let Of::List { asked, known, order, pieces } = &mut self.of else { return (name, Changes::default()) };
        let (rows, more) = picture.select(asked);
        let ids: Vec<String> = rows.iter().map(|line| line.row.id.clone()).collect();
        let changed: Vec<Arc<Line>> =
            rows.iter().filter(|line| known.get(&line.row.id) != Some(&line.since)).cloned().collect();
        *known = rows.iter().map(|line| (line.row.id.clone(), line.since)).collect();
        let mut changes = Changes { now: Time::new(picture.at).millis, ..Changes::default() };
        let context = shared::summary(&picture, asked, more);
        // The threads that serve downloads do not wait for a thousand rows.
        let rendered = tokio::task::spawn_blocking(move || {
            let html = |line: &Arc<Line>| (line.row.id.clone(), line.html().to_owned());
            let summary = render::fragment("summary.html", context);
            (changed.iter().map(html).collect(), [("summary", summary), ("faults", page.faults())])
        });
        let Ok((html, rendered)) = rendered.await else { return (name, changes) };
        changes.html = html;
        for (id, piece) in rendered {
            if pieces.insert(id.into(), piece.clone()).as_ref() != Some(&piece) {
                changes.html.insert(id.into(), piece);
            }
        }
        if *order != ids {
            changes.order = Some(ids.clone());
            *order = ids;
        }
        (name, changes)
    }

    async fn machine(&mut self) -> (String, Changes) {
        let name = String::from("machine");
        let Of::Machine { who, known } = &mut self.of else { return (name, Changes::default()) };
        let (snapshot, now) = (self.page.api.server.snapshot().await, Moment::from(SystemTime::now()));
        let mut changes = Changes { now: Time::new(now).millis, ..Changes::default() };
        let rules = self.page.api.live.rules.load_full();
        let key = Key::new(snapshot.find(*who), *who, (&rules, &self.page.api.live.roster.load()), now);
        let is_known = |(before, by): &(Key, Arc<Rules>)| *before == key && Arc::ptr_eq(by, &rules);
        if !known.as_deref().is_some_and(is_known) {
            let whole = self.page.whole(&snapshot, *who, now);
            changes.html.insert("machine".into(), render::whole(&whole));
            *known = Some(Box::new((key, rules)));
        }
        (name, changes)
    }
}

/// Between two looks for one viewer.
const PAUSE: Duration = Duration::from_millis(500);
/// And longer where much has changed: to one viewer go no more bytes than these, since downloads go before.
const BYTES_PER_MS: u64 = 500;
/// Often enough for what stands between, which forgets silent connections.
const ALIVE: Duration = Duration::from_secs(15);
