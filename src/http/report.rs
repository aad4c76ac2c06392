//! `/report`: what booted says how it goes. Always answered in words, and open to all (see [`crate::boot::report`]).

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use tracing::debug;

use super::routes::{App, Ends, ipv4};
use crate::boot::{
    event::{Event, ReportEvent, What, Who},
    report::read,
};

type Fields = Vec<(String, String)>;

/// By a query, or by a body (a form, or JSON), or half by the one and half by the other: cloud-init posts keys that mean
/// nothing here to an address whose query says it all. What is in the query counts.
pub(super) async fn report(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    query: Result<Query<Fields>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let mut fields = query.map_or_else(|_| Vec::new(), |Query(fields)| fields);
    match body {
        Ok(body) => fields.extend(fields_of(&headers, &body)),
        Err(rejection) => return (rejection.status(), format!("{}\n", rejection.body_text())).into_response(),
    }
    let (mac, report) = match read(&fields) {
        Ok(read) => read,
        Err(wrong) => {
            debug!(peer = %ends.peer, "a report was refused: {wrong}");
            return (StatusCode::BAD_REQUEST, format!("{wrong}\n")).into_response();
        }
    };
    let Some(who) = mac.map(Who::from).or_else(|| ipv4(ends.peer).map(Who::Address)) else {
        return (StatusCode::BAD_REQUEST, "mac is missing, and your address tells nothing\n").into_response();
    };
    let word = match &report.event {
        ReportEvent::Installed => "installed",
        ReportEvent::Failed => "failed",
        ReportEvent::Other(word) => word,
    };
    let noted = format!("noted of {who}: {word}\n");
    // Other events may be lost under load. A machine that reports once would be shown as one that never did.
    match app.events.try_send(Event { who, what: What::Report(report) }) {
        Ok(()) => noted.into_response(),
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], "busy: say it again\n").into_response()
        }
    }
}

/// What a body says; what is neither a form nor JSON says nothing.
fn fields_of(headers: &HeaderMap, body: &[u8]) -> Fields {
    let of_type = |wanted: &str| {
        let named = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        named.is_some_and(|named| named.starts_with(wanted))
    };
    // cloud-init names no type for its JSON (cloudinit/reporting/handlers.py, `WebHookHandler`).
    if of_type("application/json") || body.trim_ascii_start().starts_with(b"{") {
        let members: serde_json::Map<_, _> = serde_json::from_slice(body).unwrap_or_default();
        let texts = members.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())));
        return texts.collect();
    }
    if of_type("application/x-www-form-urlencoded") {
        return serde_urlencoded::from_bytes(body).unwrap_or_default();
    }
    Vec::new()
}

/// Bytes of a body: a screenful of log, or a machine's host keys.
pub(super) const LARGEST: usize = 64 << 10;
