//! `/api/v1`: machines, and what they boot. Errors are problem details (RFC 9457).

use std::{cmp::Reverse, sync::Arc, time::SystemTime};

use axum::{
    Extension, Json, Router,
    extract::{Path, Query, Request, State, rejection::JsonRejection},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post, put},
};
use http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    access::{Via, is_of_own_page, may_change},
    bundle::bundle,
    events::{Readers, events},
    known::{self, Known},
    leases::Leases,
    openapi::document,
    server::{Refusal, Server},
    shapes::{Loader, OneBoot, Permitted, Problem, Profile, Version, Wanted, Whole, Woken},
    view::{self, WholeBoot},
};
use crate::{
    boot::{
        identity::MachineId,
        live::Live,
        loader,
        mac::MacAddr,
        machine::{MachineRule, Rules},
        roster::Assignment,
        urls::without_password,
    },
    timeline::{
        boot::Timeline,
        event::Who,
        machines::{self, Snapshot},
        moment::Moment,
    },
};

/// What the routes share.
pub struct Api {
    /// What decides.
    pub live: Arc<Live>,
    /// Who does.
    pub server: Arc<dyn Server>,
    /// `control.token`.
    pub token: Option<String>,
    /// Ends streams that have no end of their own.
    pub stop: CancellationToken,
}

/// The routes. Each request has to bring an [`Extension`] of [`Via`].
pub fn router(api: Arc<Api>) -> Router {
    let all = routes().into_iter().fold(Router::new(), |router, (path, route)| router.route(path, route));
    let nothing = get(async || Problem::of(StatusCode::NOT_FOUND, "the API has no such path"));
    let all = all.route("/api/v1", nothing.clone()).route("/api/v1/{*rest}", nothing);
    let readers = Readers::new(api.live.clone(), api.server.clone());
    all.layer(Extension(readers)).layer(middleware::from_fn_with_state(api.clone(), guard)).with_state(api)
}

/// Refuses every request of a user who may not use the control socket.
pub fn stranger() -> Router {
    let words = "only root and the server's user may use the control socket: run this with sudo";
    Router::new().fallback(async move || Problem::of(StatusCode::FORBIDDEN, words))
}

/// What can be asked and changed; [`super::openapi`] describes each.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<Api>>)> {
    vec![
        ("/api/v1/version", get(async || Json(Version { version: env!("CARGO_PKG_VERSION").into() }))),
        ("/api/v1/openapi.json", get(async || Json(document()))),
        ("/api/v1/machines", get(machines)),
        ("/api/v1/machines/{machine}", get(machine)),
        ("/api/v1/machines/{machine}/report", get(report)),
        ("/api/v1/machines/{machine}/assignment", put(assign).delete(unassign)),
        ("/api/v1/machines/{machine}/once", put(renew)),
        ("/api/v1/machines/{machine}/learned", delete(forget)),
        ("/api/v1/machines/{machine}/approval", put(approve).delete(unapprove)),
        ("/api/v1/machines/{machine}/permission", put(permit)),
        ("/api/v1/machines/{machine}/wake", post(wake)),
        ("/api/v1/boots", get(boots)),
        ("/api/v1/leases", get(leases)),
        ("/api/v1/profiles", get(profiles)),
        ("/api/v1/loaders", get(loaders)),
        ("/api/v1/events", get(happenings)),
    ]
}

/// Anyone may read; changes need permission.
async fn guard(State(api): State<Arc<Api>>, Extension(via): Extension<Via>, request: Request, next: Next) -> Response {
    let is_question = matches!(*request.method(), Method::GET | Method::HEAD);
    if is_question {
        return in_words(next.run(request).await).await;
    }
    if !is_of_own_page(request.headers()) {
        // A browser sends a plain form to any address, whatever page it is on.
        let words = "this change was sent by a page of another site";
        return Problem::of(StatusCode::FORBIDDEN, words).into_response();
    }
    match may_change(via, request.headers(), api.token.as_deref()) {
        Err((status, words)) => Problem::of(status, words).into_response(),
        Ok(()) => in_words(next.run(request).await).await,
    }
}

/// Every error as problem details, also those of the parts that read a request before a route does.
async fn in_words(response: Response) -> Response {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    if !(status.is_client_error() || status.is_server_error()) || kind == Some(Problem::KIND) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let said = axum::body::to_bytes(body, LONGEST_PROBLEM).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let words = match (said.trim(), status) {
        ("", StatusCode::METHOD_NOT_ALLOWED) => {
            "this path does not take the method; the header Allow has those that it takes"
        }
        ("", _) => status.canonical_reason().unwrap_or("the request failed"),
        (said, _) => said,
    };
    let mut problem = Problem::of(status, words).into_response();
    let kept = parts.headers.into_iter().filter_map(|(name, value)| Some((name?, value)));
    let kept = kept.filter(|(name, _)| ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name));
    problem.headers_mut().extend(kept);
    problem
}

/// Bytes of the words of an error.
const LONGEST_PROBLEM: usize = 4096;

async fn machines(State(api): State<Arc<Api>>, Query(Wish { q, all }): Query<Wish>) -> Json<Vec<view::Machine>> {
    let mut machines = api.machines(all).await;
    machines.retain(|machine| machine.has_words(&q));
    Json(machines)
}

/// Which machines are asked for.
#[derive(Debug, Deserialize)]
struct Wish {
    /// Words that each of them has to have; none: all machines.
    #[serde(default)]
    q: String,
    /// Also machines that other appliances saw long ago.
    #[serde(default)]
    all: bool,
}

async fn machine(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<Whole>, Problem> {
    let (snapshot, now) = (api.server.snapshot().await, Moment::from(SystemTime::now()));
    let known = api.known(&snapshot);
    let who = api.who(&machine, &known)?;
    let seen = snapshot.find(who);
    let boots = seen.map(|seen| seen.boots.iter().rev().map(|boot| WholeBoot::new(boot, now)).collect());
    let machine = view::Machine::new(&api.live, &*api.server, &known, (who, seen), now);
    Ok(Json(Whole { machine, boots: boots.unwrap_or_default() }))
}

/// What to attach to a question. It says what the configuration holds of the machine, which is not for everyone.
async fn report(
    State(api): State<Arc<Api>>,
    Extension(via): Extension<Via>,
    headers: HeaderMap,
    Path(machine): Path<String>,
) -> Result<Json<Value>, Problem> {
    may_change(via, &headers, api.token.as_deref()).map_err(|(status, words)| Problem::of(status, words))?;
    let (snapshot, now) = (api.server.snapshot().await, Moment::from(SystemTime::now()));
    let known = api.known(&snapshot);
    let who = api.who(&machine, &known)?;
    Ok(Json(bundle(&api.live, &*api.server, &known, (who, snapshot.find(who)), now)))
}

async fn boots(State(api): State<Arc<Api>>) -> Json<Vec<OneBoot>> {
    let (snapshot, now) = (api.server.snapshot().await, Moment::from(SystemTime::now()));
    let known = api.known(&snapshot);
    let all = snapshot.machines.iter().flat_map(|seen| seen.boots.iter().map(|boot| (boot.began, seen.who, boot)));
    let mut boots: Vec<_> = all.collect();
    boots.sort_by_key(|(began, who, _)| (Reverse(*began), *who));
    let one =
        |(_, who, boot): (_, Who, &Arc<Timeline>)| OneBoot { machine: known.id(who), boot: view::Boot::new(boot, now) };
    Json(boots.into_iter().map(one).collect())
}

async fn leases(State(api): State<Arc<Api>>) -> Json<Leases> {
    Json(Leases::now(&api.live, &*api.server, Moment::from(SystemTime::now())))
}

async fn happenings(
    State(api): State<Arc<Api>>,
    Extension(readers): Extension<Arc<Readers>>,
    Extension(via): Extension<Via>,
    headers: HeaderMap,
) -> Response {
    events(&readers, &*api.server, (via, &headers), api.stop.clone()).await
}

async fn profiles(State(api): State<Arc<Api>>) -> Json<Vec<Profile>> {
    let rules = api.live.rules.load();
    let own = rules.profiles.iter().map(|(name, profile)| Profile {
        name: name.clone(),
        title: profile.title.clone(),
        about: profile.about.clone(),
        files: profile.boot.named().into_iter().map(without_password).collect(),
        arch: profile.variants.keys().cloned().collect(),
        built_in: false,
    });
    let built_in = Rules::BUILT_IN.iter().map(|name| Profile {
        name: (*name).to_owned(),
        title: None,
        about: Vec::new(),
        files: Vec::new(),
        arch: Vec::new(),
        built_in: true,
    });
    Json(own.chain(built_in).collect())
}

async fn loaders(State(api): State<Arc<Api>>) -> Json<Vec<Loader>> {
    let rules = api.live.rules.load();
    let found = loader::Loader::ALL.into_iter().filter_map(|loader| {
        let file = rules.loaders.of(loader)?;
        Some(Loader {
            of: loader.title(),
            name: file.name.clone(),
            origin: file.origin.to_string(),
            size: file.bytes.len(),
            sha256: file.sha256.to_string(),
        })
    });
    Json(found.collect())
}

async fn assign(
    State(api): State<Arc<Api>>,
    Path(machine): Path<String>,
    wanted: Result<Json<Wanted>, JsonRejection>,
) -> Result<Json<view::Machine>, Problem> {
    let Json(Wanted { profile, once }) =
        wanted.map_err(|why| misread(&why, r#"{"profile": "debian", "once": true}"#))?;
    let id = api.id(&machine).await?;
    api.server.assign(id, Assignment { profile, once }).await?;
    Ok(api.changed(id).await)
}

/// A body is not what the request needs.
fn misread(why: &JsonRejection, example: &str) -> Problem {
    let why = why.body_text();
    Problem::of(
        StatusCode::BAD_REQUEST,
        format!("{why}; send a body such as {example}, with Content-Type: application/json"),
    )
}

async fn unassign(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<view::Machine>, Problem> {
    let id = api.id(&machine).await?;
    if !api.server.unassign(id).await? {
        return Err(Problem::of(
            StatusCode::NOT_FOUND,
            format!("nothing was assigned to {machine}; netbootd once gives a machine its one-time profile again"),
        ));
    }
    Ok(api.changed(id).await)
}

async fn renew(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<view::Machine>, Problem> {
    let id = api.id(&machine).await?;
    if !api.server.renew(id).await? {
        let words = format!("{machine} has not booted its one-time profile yet, or has none");
        return Err(Problem::of(StatusCode::NOT_FOUND, words));
    }
    Ok(api.changed(id).await)
}

async fn forget(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<view::Machine>, Problem> {
    let id = api.id(&machine).await?;
    if !api.server.forget(id).await? {
        let words = format!(
            "nothing was learned of {machine}'s firmware: it takes the first offer, and a signed loader if there is one"
        );
        return Err(Problem::of(StatusCode::NOT_FOUND, words));
    }
    Ok(api.changed(id).await)
}

async fn approve(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<view::Machine>, Problem> {
    let id = api.id(&machine).await?;
    api.server.approve(id, true).await?;
    Ok(api.changed(id).await)
}

async fn unapprove(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<view::Machine>, Problem> {
    let id = api.id(&machine).await?;
    if !api.server.approve(id, false).await? {
        return Err(Problem::of(StatusCode::NOT_FOUND, format!("{machine} was not approved")));
    }
    Ok(api.changed(id).await)
}

async fn permit(
    State(api): State<Arc<Api>>,
    Path(machine): Path<String>,
    permitted: Result<Json<Permitted>, JsonRejection>,
) -> Result<Json<view::Machine>, Problem> {
    let Json(Permitted { permission }) = permitted.map_err(|why| misread(&why, r#"{"permission": "once"}"#))?;
    let id = api.id(&machine).await?;
    api.server.permit(id, permission).await?;
    Ok(api.changed(id).await)
}

async fn wake(State(api): State<Arc<Api>>, Path(machine): Path<String>) -> Result<Json<Woken>, Problem> {
    let id = api.id(&machine).await?;
    let (interface, cards) = api.wake(id).await?;
    Ok(Json(Woken { interface, cards: cards.iter().map(ToString::to_string).collect() }))
}

impl Api {
    /// Sends the magic packet for every card of a machine. On which interface, and for which cards.
    pub(super) async fn wake(&self, machine: MachineId) -> Result<(String, Vec<MacAddr>), Refusal> {
        let snapshot = self.server.snapshot().await;
        let seen = snapshot.find(Who::Machine(machine));
        let rules = self.live.rules.load();
        let is_its =
            |rule: &MachineRule| rule.name.as_ref().map(|name| name.to_lowercase()).as_deref() == machine.name();
        let named = rules.machines.iter().filter(|(_, rule)| machine.name().is_some() && is_its(rule));
        let named = named.flat_map(|(selector, _)| selector.macs.iter().copied());
        let heard = seen.map(|seen| seen.cards.as_slice()).unwrap_or_default().iter().copied();
        let mut cards: Vec<MacAddr> = Vec::new();
        for card in heard.chain(machine.has_card().then_some(machine.card)).chain(named) {
            if !cards.contains(&card) {
                cards.push(card);
            }
        }
        if cards.is_empty() {
            return Err(Refusal::Wrong(format!("no MAC address of {machine} is known: name one in its rule")));
        }
        let known = seen.and_then(machines::Machine::boot).and_then(|boot| boot.interface.clone());
        let interface = self.server.wake(machine, cards.clone(), known).await?;
        Ok((interface, cards))
    }

    /// Everything that was seen, named by a rule or assigned something.
    pub(super) async fn machines(&self, all: bool) -> Vec<view::Machine> {
        let snapshot = if all { self.server.whole_snapshot() } else { self.server.snapshot() };
        let (snapshot, now) = (snapshot.await, Moment::from(SystemTime::now()));
        let known = self.known(&snapshot);
        known.rows.iter().map(|row| view::Machine::new(&self.live, &*self.server, &known, *row, now)).collect()
    }

    pub(super) fn known<'a>(&self, snapshot: &'a Snapshot) -> Known<'a> {
        Known::new(&self.live.rules.load(), &self.live.roster.load(), &snapshot.machines)
    }

    /// A MAC address, a UUID, the name that a rule gives, or the IP address of a machine of which no more is known.
    pub(super) fn who(&self, machine: &str, known: &Known<'_>) -> Result<Who, Problem> {
        match machine.parse() {
            Ok(address) => Ok(Who::Address(address)),
            Err(_) => self.named(machine, known).map(Who::Machine),
        }
    }

    fn named(&self, machine: &str, known: &Known<'_>) -> Result<MachineId, Problem> {
        let problem = |status, words: &str| Problem::of(status, format!("{machine:?} {words}"));
        let named = known::named(&self.live.rules.load(), machine);
        let named = named.map_err(|words| problem(StatusCode::NOT_FOUND, words))?;
        known.only(named).map_err(|words| problem(StatusCode::CONFLICT, &words))
    }

    /// As [`Self::who`], with all other names that the machine was seen under; an IP address is not enough.
    pub(super) async fn id(&self, machine: &str) -> Result<MachineId, Problem> {
        let snapshot = self.server.snapshot().await;
        let id = self.named(machine, &self.known(&snapshot))?;
        let seen = snapshot.find(Who::Machine(id)).and_then(machines::Machine::id);
        Ok(seen.map_or(id, |seen| if id.has_card() { id.with(seen) } else { id.with_names(seen.keys()) }))
    }

    async fn changed(&self, machine: MachineId) -> Json<view::Machine> {
        let (who, snapshot) = (Who::Machine(machine), self.server.snapshot().await);
        let now = Moment::from(SystemTime::now());
        let known = self.known(&snapshot);
        Json(view::Machine::new(&self.live, &*self.server, &known, (who, snapshot.find(who)), now))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let document = document();
        let described = document.get("paths").and_then(Value::as_object).expect("paths");
        let described: BTreeSet<&str> = described.keys().map(String::as_str).collect();
        assert_eq!(described, routes().iter().map(|(path, _)| *path).collect::<BTreeSet<_>>());
    }
}
