//! `/api/v1/events`: what happens, as server-sent events.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::response::{
    IntoResponse as _, Response, Sse,
    sse::{Event, KeepAlive},
};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::server::{Server, Steps, Told};

/// The steps of all machines as they happen, each with its number as `id`; who comes back with `Last-Event-ID` (HTML
/// §9.2.4) first gets what it missed, as far as that is remembered. One that is too slow gets a `missed` event. All end
/// with `stop`: the steps themselves end only when everyone who may see one has gone, and this connection is among them.
pub(super) async fn events(server: &dyn Server, headers: &HeaderMap, stop: CancellationToken) -> Response {
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    match server.steps(after).await {
        Some(Steps { before, coming }) => {
            let steps = stream::unfold((VecDeque::from(before), coming), next).take_until(stop.cancelled_owned());
            Sse::new(steps).keep_alive(KeepAlive::new().interval(ALIVE)).into_response()
        }
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

type Waiting = (VecDeque<Arc<Told>>, Receiver<Arc<Told>>);

async fn next((mut before, mut coming): Waiting) -> Option<(Result<Event, Infallible>, Waiting)> {
    let event = match before.pop_front() {
        Some(told) => step(&told),
        None => match coming.recv().await {
            Ok(told) => step(&told),
            Err(RecvError::Lagged(missed)) => Event::default().event("missed").data(missed.to_string()),
            Err(RecvError::Closed) => return None,
        },
    };
    Some((Ok(event), (before, coming)))
}

fn step(Told { number, line }: &Told) -> Event {
    let step = &line.step;
    let data = json!({
        "machine": line.who.to_string(), "at": step.at, "stage": step.stage, "text": step.text, "failed": step.failed,
    });
    Event::default().event("step").id(number.to_string()).data(data.to_string())
}

/// Often enough for what stands between, which forgets silent connections.
const ALIVE: Duration = Duration::from_secs(15);
