//! `/api/v1`: machines, and what they are to boot. Errors are problem details (RFC 9457).

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use axum::{
    Extension, Json, Router,
    extract::{Path, Request, State, rejection::JsonRejection},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    access::{Via, may_change},
    events::events,
    server::{Refusal, Server},
    view,
};
use crate::boot::{
    client::MacAddr,
    event::Who,
    loader::Loader,
    machine::{Live, MachineRule, Rules},
    moment::Moment,
    roster::Assignment,
    timeline::{Step, Timeline},
    timelines,
};

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
        .route("/api/v1/boots", get(boots))
        .route("/api/v1/profiles", get(profiles))
        .route("/api/v1/loaders", get(loaders))
        .route("/api/v1/events", get(happenings))
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

async fn machines(State(api): State<Arc<Api>>) -> Json<Vec<view::Machine>> {
    Json(api.machines().await)
}

/// A machine with everything that is remembered of it.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    machine: view::Machine,
    /// Its boots, the last one first.
    boots: Vec<WholeBoot>,
}

#[derive(Debug, Serialize)]
struct WholeBoot {
    #[serde(flatten)]
    boot: view::Boot,
    /// What was seen, in order.
    steps: Vec<Step>,
    /// How many were left out in the middle of them.
    left_out: u32,
}

async fn machine(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<Whole>, Problem> {
    let who = api.who(&machine)?;
    let (snapshot, now) = (api.server.snapshot().await, Moment::from(SystemTime::now()));
    let seen = snapshot.machines.iter().find(|seen| seen.who == who);
    let whole = |timeline: &Arc<Timeline>| WholeBoot {
        boot: view::Boot::new(timeline, now),
        steps: timeline.steps.clone(),
        left_out: timeline.left_out,
    };
    let boots = seen.map(|seen| seen.boots.iter().rev().map(whole).collect());
    let machine = view::Machine::new(&api.live, &*api.server, who, seen, now);
    Ok(Json(Whole { machine, boots: boots.unwrap_or_default() }))
}

/// All boots that are remembered, the last one first.
async fn boots(State(api): State<Arc<Api>>) -> Json<Vec<Value>> {
    let (snapshot, now) = (api.server.snapshot().await, Moment::from(SystemTime::now()));
    let of = |seen: &timelines::Machine| {
        let machine = seen.who.to_string();
        seen.boots.iter().map(move |timeline| (timeline.began, machine.clone(), timeline.clone())).collect::<Vec<_>>()
    };
    let mut boots: Vec<_> = snapshot.machines.iter().flat_map(of).collect();
    boots.sort_by(|(a, ..), (b, ..)| b.cmp(a));
    let json = |(_, machine, timeline): (_, String, Arc<Timeline>)| json!({ "machine": machine, "boot": view::Boot::new(&timeline, now) });
    Json(boots.into_iter().map(json).collect())
}

async fn happenings(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    events(&*api.server, &headers).await
}

async fn profiles(State(api): State<Arc<Api>>) -> Json<Vec<Value>> {
    let rules = api.live.rules.load();
    let own = rules.profiles.iter().map(|(name, profile)| {
        let variants: Vec<&String> = profile.variants.keys().collect();
        json!({ "name": name, "title": profile.title, "files": profile.boot.files(), "arch": variants, "built_in": false })
    });
    let built_in = Rules::BUILT_IN
        .iter()
        .map(|name| json!({ "name": name, "title": null, "files": [], "arch": [], "built_in": true }));
    Json(own.chain(built_in).collect())
}

async fn loaders(State(api): State<Arc<Api>>) -> Json<Vec<Value>> {
    let rules = api.live.rules.load();
    let found = Loader::ALL.into_iter().filter_map(|loader| {
        let file = rules.loaders.of(loader)?;
        Some(json!({
            "for": loader.title(), "name": file.name, "origin": file.origin.to_string(), "size": file.bytes.len(), "sha256": file.sha256,
        }))
    });
    Json(found.collect())
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
) -> Result<Json<view::Machine>, Problem> {
    let Json(Wanted { profile, once }) =
        wanted.map_err(|rejection| Problem(StatusCode::BAD_REQUEST, rejection.body_text()))?;
    let mac = api.mac(&machine)?;
    api.server.assign(mac, Assignment { profile, once }).await?;
    Ok(api.changed(mac))
}

async fn unassign(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<view::Machine>, Problem> {
    let mac = api.mac(&machine)?;
    if !api.server.unassign(mac).await? {
        return Err(Problem(StatusCode::NOT_FOUND, format!("nothing was assigned to {machine}")));
    }
    Ok(api.changed(mac))
}

async fn approve(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<view::Machine>, Problem> {
    let mac = api.mac(&machine)?;
    api.server.approve(mac, true).await?;
    Ok(api.changed(mac))
}

async fn unapprove(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<view::Machine>, Problem> {
    let mac = api.mac(&machine)?;
    if !api.server.approve(mac, false).await? {
        return Err(Problem(StatusCode::NOT_FOUND, format!("{machine} was not approved")));
    }
    Ok(api.changed(mac))
}

impl Api {
    /// Everything that was seen, named by a rule or assigned something.
    pub(super) async fn machines(&self) -> Vec<view::Machine> {
        let (snapshot, now) = (self.server.snapshot().await, Moment::from(SystemTime::now()));
        let rules = self.live.rules.load();
        let roster = self.live.roster.load();
        let named = rules.machines.iter().flat_map(|(selector, _)| selector.macs.iter().copied());
        let known = named.chain(roster.iter().map(|(mac, _)| *mac)).map(|mac| (Who::Machine(mac), None));
        let mut all: BTreeMap<Who, Option<&timelines::Machine>> = known.collect();
        all.extend(snapshot.machines.iter().map(|seen| (seen.who, Some(seen))));
        all.into_iter().map(|(who, seen)| view::Machine::new(&self.live, &*self.server, who, seen, now)).collect()
    }

    /// A MAC address, the name that a rule gives one, or the IP address of a machine of which no more is known.
    pub(super) fn who(&self, machine: &str) -> Result<Who, Problem> {
        match machine.parse() {
            Ok(address) => Ok(Who::Address(address)),
            Err(_) => self.mac(machine).map(Who::Machine),
        }
    }

    /// A MAC address, or the name that a rule gives one.
    pub(super) fn mac(&self, machine: &str) -> Result<MacAddr, Problem> {
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

    fn changed(&self, mac: MacAddr) -> Json<view::Machine> {
        Json(view::Machine::new(&self.live, &*self.server, Who::Machine(mac), None, Moment::from(SystemTime::now())))
    }
}

/// An error, in words for people in a shape for programs.
pub(super) struct Problem(pub(super) StatusCode, pub(super) String);

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
