//! `/report`: what booted says how it goes. Always answered in words, and open to all (see [`crate::boot::report`]).

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, header};
use tracing::debug;

use super::{
    app::App,
    beginning::kept,
    ends::{Ends, ipv4},
};
use crate::{
    boot::{answer::report_scope, mac::MacAddr, reason::Denied},
    timeline::{
        event::{Event, Report, ReportEvent, Signed, What, Who},
        report::read,
    },
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
    let (mac, report) = match heard(ends, query, &headers, body) {
        Ok(heard) => heard,
        Err(refused) => return *refused,
    };
    match mac.map(Who::from).or_else(|| ipv4(ends.peer).map(Who::Address)) {
        Some(who) => noted(&app, who, report, None),
        None => (StatusCode::BAD_REQUEST, "mac is missing, and no machine is known at your address\n").into_response(),
    }
}

/// By an address that was signed for its machine, which no field names then.
pub(super) async fn signed(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(token): Path<String>,
    query: Result<Query<Fields>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let opened = [true, false].map(|decides| (decides, app.open(&token, report_scope(decides))));
    let denied = opened.iter().find_map(|(_, opened)| opened.as_ref().err().filter(|why| **why == Denied::Expired));
    let denied = denied.copied().unwrap_or(Denied::NotSigned);
    let Some((decides, said)) = opened.into_iter().find_map(|(decides, opened)| Some((decides, opened.ok()?))) else {
        let words = match denied {
            Denied::Expired => "the signed address of this report has expired",
            Denied::NotSigned => "the address of this report is not signed: use report(\"installed\") of a template",
        };
        debug!(peer = %ends.peer, "a report was refused: {words}");
        return (StatusCode::FORBIDDEN, format!("{words}\n")).into_response();
    };
    let report = match heard(ends, query, &headers, body) {
        Ok((_, report)) => report,
        Err(refused) => return *refused,
    };
    let mac = said.mac().ok().flatten().unwrap_or(MacAddr([0; 6]));
    let machine = app.live.rules.load().identity(&said.facts(mac));
    // What was signed before the machine was given its profile again is of an installation before this one.
    let renewed = app.live.roster.load().of(machine).map_or(0, |entry| entry.renewed);
    let decides = decides && said.renewed.unwrap_or_default() >= renewed;
    let signed = Signed { profile: said.profile.clone().unwrap_or_default(), decides };
    let response = noted(&app, Who::Machine(machine), report, Some(signed));
    if decides && response.status().is_success() {
        // The machine may not say it again, and would be installed again.
        kept(&app, machine).await;
    }
    response
}

/// HEAD reports nothing (RFC 9110 §9.3.2): programs that look at an address send it.
pub(super) async fn look() -> &'static str {
    "a report is sent with GET or POST\n"
}

fn heard(
    ends: Ends,
    query: Result<Query<Fields>, QueryRejection>,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(Option<MacAddr>, Report), Box<Response>> {
    let mut fields = query.map_or_else(|_| Vec::new(), |Query(fields)| fields);
    match body {
        Ok(body) => fields.extend(fields_of(headers, &body)),
        Err(rejection) => {
            return Err(Box::new((rejection.status(), format!("{}\n", rejection.body_text())).into_response()));
        }
    }
    read(&fields).map_err(|wrong| {
        debug!(peer = %ends.peer, "a report was refused: {wrong}");
        Box::new((StatusCode::BAD_REQUEST, format!("{wrong}\n")).into_response())
    })
}

fn noted(app: &App, who: Who, report: Report, signed: Option<Signed>) -> Response {
    let word = match &report.event {
        ReportEvent::Installed => "installed",
        ReportEvent::Failed => "failed",
        ReportEvent::Other(word) => word,
    };
    let noted = format!("recorded for {who}: {word}\n");
    // Other events may be lost under load. A machine that reports once would be shown as one that never did.
    let what = match signed {
        Some(signed) => What::SignedReport(report, signed),
        None => What::Report(report),
    };
    match app.events.try_send(Event { who, what }) {
        Ok(()) => noted.into_response(),
        Err(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], "busy: send it again\n").into_response()
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
