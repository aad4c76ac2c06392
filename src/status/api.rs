//! `/api/v1`: machines, and what they are to boot. Errors are problem details (RFC 9457).

use std::{collections::BTreeSet, future::Future, pin::Pin, sync::Arc, time::SystemTime};

use axum::{
    Extension, Json, Router,
    extract::{Path, Request, State, rejection::JsonRejection},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access::{Via, may_change};
use crate::boot::{
    client::MacAddr,
    machine::{By, Live, MachineRule},
    roster::{Assignment, Roster},
    selector::Facts,
};

/// What the API asks of the running server.
pub trait Server: Send + Sync + 'static {
    /// Gives a machine a profile; returns when that is on the disk.
    fn assign(&self, mac: MacAddr, assignment: Assignment) -> Answer<'_, Result<(), Refusal>>;
    /// Takes back what was said of a machine; whether there was something.
    fn unassign(&self, mac: MacAddr) -> Answer<'_, Result<bool, Refusal>>;
    /// Lets a machine in that no rule names, or no more; whether it was in. Returns when that is on the disk.
    fn approve(&self, mac: MacAddr, approved: bool) -> Answer<'_, Result<bool, Refusal>>;
    /// Whether there is a disk to keep what is said.
    fn keeps(&self) -> bool;
    /// The interface that a machine was heard on last.
    fn heard_on(&self, mac: MacAddr) -> Option<Arc<str>>;
    /// The machines that were seen lately, each with its last line.
    fn seen(&self) -> Answer<'_, Vec<(MacAddr, Seen)>>;
}

/// An answer that takes its time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request is at fault.
    #[error("{0}")]
    Wrong(String),
    /// The server is: a full disk.
    #[error("{0}")]
    Failed(String),
}

/// The last line of a machine's boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Seconds since 1970.
    #[serde(serialize_with = "unix_seconds")]
    pub at: SystemTime,
    /// The stage's name.
    pub stage: &'static str,
    /// What happened.
    pub text: String,
    /// Whether it stopped the boot.
    pub failed: bool,
}

fn unix_seconds<S: serde::Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// What the routes share.
pub struct Api {
    /// What decides.
    pub live: Arc<Live>,
    /// Who does.
    pub server: Arc<dyn Server>,
    /// `control.token`.
    pub token: Option<String>,
}

/// The routes. Each request has to bring an [`Extension`] of [`Via`].
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/api/v1/version", get(async || Json(json!({ "version": env!("CARGO_PKG_VERSION") }))))
        .route("/api/v1/machines", get(machines))
        .route("/api/v1/machines/{machine}", get(machine))
        .route("/api/v1/machines/{machine}/assignment", axum::routing::put(assign).delete(unassign))
        .route("/api/v1/machines/{machine}/approval", axum::routing::put(approve).delete(unapprove))
        .route(
            "/api/v1/{*rest}",
            get(async || Problem(StatusCode::NOT_FOUND, "there is no such thing in the API".into())),
        )
        .layer(middleware::from_fn_with_state(api.clone(), guard))
        .with_state(api)
}

/// Whoever asks is answered; whoever changes something has to be allowed to.
async fn guard(State(api): State<Arc<Api>>, Extension(via): Extension<Via>, request: Request, next: Next) -> Response {
    let is_question = matches!(*request.method(), Method::GET | Method::HEAD);
    match may_change(via, request.headers(), api.token.as_deref()) {
        Err((status, words)) if !is_question => Problem(status, words.into()).into_response(),
        _ => next.run(request).await,
    }
}

/// A machine, as it is to boot and as it was seen.
#[derive(Clone, Debug, Serialize)]
struct Machine {
    mac: String,
    name: Option<String>,
    /// What it boots next, so far as its MAC address decides, and the interface that it was heard on; none where it is
    /// not known by these, and only known machines are answered.
    profile: Option<String>,
    by: Option<By>,
    once: bool,
    assigned: Option<Assignment>,
    approved: bool,
    spent: Option<String>,
    /// Whether what is said of it outlives a restart.
    kept: bool,
    last: Option<Seen>,
}

async fn machines(State(api): State<Arc<Api>>) -> Json<Vec<Machine>> {
    let seen = api.server.seen().await;
    let rules = api.live.rules.load();
    let roster = api.live.roster.load();
    let named = rules.machines.iter().flat_map(|(selector, _)| selector.macs.iter().copied());
    let all = named.chain(roster.iter().map(|(mac, _)| *mac)).chain(seen.iter().map(|(mac, _)| *mac));
    let last = |mac: MacAddr| seen.iter().find(|(seen, _)| *seen == mac).map(|(_, last)| last.clone());
    let all: BTreeSet<MacAddr> = all.collect();
    Json(all.into_iter().map(|mac| api.machine(&roster, mac, last(mac))).collect())
}

async fn machine(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<Machine>, Problem> {
    let mac = api.mac(&machine)?;
    let last = api.server.seen().await.into_iter().find(|(seen, _)| *seen == mac).map(|(_, last)| last);
    Ok(Json(api.machine(&api.live.roster.load(), mac, last)))
}

/// What `PUT …/assignment` brings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    profile: String,
    #[serde(default)]
    once: bool,
}

async fn assign(
    State(api): State<Arc<Api>>,
    Path(machine): Path<String>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<Machine>, Problem> {
    let Json(Wanted { profile, once }) =
        wanted.map_err(|rejection| Problem(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let mac = api.mac(&machine)?;
    api.server.assign(mac, Assignment { profile, once }).await?;
    Ok(Json(api.machine(&api.live.roster.load(), mac, None)))
}

async fn unassign(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<Machine>, Problem> {
    let mac = api.mac(&machine)?;
    if !api.server.unassign(mac).await? {
        return Err(Problem(StatusCode::NOT_FOUND, format!("nothing was assigned to {machine}")));
    }
    Ok(Json(api.machine(&api.live.roster.load(), mac, None)))
}

async fn approve(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<Machine>, Problem> {
    let mac = api.mac(&machine)?;
    api.server.approve(mac, true).await?;
    Ok(Json(api.machine(&api.live.roster.load(), mac, None)))
}

async fn unapprove(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<Machine>, Problem> {
    let mac = api.mac(&machine)?;
    if !api.server.approve(mac, false).await? {
        return Err(Problem(StatusCode::NOT_FOUND, format!("{machine} was not approved")));
    }
    Ok(Json(api.machine(&api.live.roster.load(), mac, None)))
}

impl Api {
    /// A MAC address, or the name that a rule gives one.
    fn mac(&self, machine: &str) -> Result<MacAddr, Problem> {
        if let Ok(mac) = machine.parse() {
            return Ok(mac);
        }
        let rules = self.live.rules.load();
        let is_named = |rule: &MachineRule| rule.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(machine));
        let named = rules.machines.iter().find(|(_, rule)| is_named(rule));
        let problem = |words: &str| Problem(StatusCode::NOT_FOUND, format!("{machine:?} {words}"));
        match named.map(|(selector, _)| selector.macs.as_slice()) {
            Some([mac]) => Ok(*mac),
            Some([]) => Err(problem("is not named by a MAC address in its rule: use the MAC address itself")),
            Some(_) => Err(problem("has several MAC addresses in its rule: use the one that it boots from")),
            None => Err(problem("is neither a MAC address nor the name of a machine in a rule")),
        }
    }

    fn machine(&self, roster: &Roster, mac: MacAddr, last: Option<Seen>) -> Machine {
        let rules = self.live.rules.load();
        let interface = self.server.heard_on(mac);
        let facts = Facts { mac, uuid: None, serial: None, arch: None, interface: interface.as_deref() };
        let rule = rules.machines.of(&facts).map(|(_, rule)| rule);
        let said = roster.of(mac);
        let choice = rules.rule(&facts, roster).and_then(|rule| rules.choose(rule, said, None, "")).ok();
        Machine {
            mac: mac.to_string(),
            name: rule.and_then(|rule| rule.name.clone()),
            profile: choice.map(|choice| choice.profile.to_owned()),
            by: choice.map(|choice| choice.by),
            once: choice.is_some_and(|choice| choice.once),
            assigned: said.and_then(|said| said.assigned.clone()),
            approved: said.is_some_and(|said| said.approved),
            spent: said.and_then(|said| said.spent.clone()),
            kept: self.server.keeps(),
            last,
        }
    }
}

/// An error, in words for people in a shape for programs.
struct Problem(StatusCode, String);

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Wrong(words) => Self(StatusCode::UNPROCESSABLE_ENTITY, words),
            Refusal::Failed(words) => Self(StatusCode::INTERNAL_SERVER_ERROR, words),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self(status, detail) = self;
        let title = status.canonical_reason().unwrap_or_default();
        let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail });
        (status, [(header::CONTENT_TYPE, "application/problem+json")], Json(body)).into_response()
    }
}
