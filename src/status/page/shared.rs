//! What the page's routes share.

use std::{sync::Arc, time::SystemTime};

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use minijinja::{Value, context, value::Serde};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{
    board::{Asked, Board, Picture},
    files,
    link::encoded,
    render,
    time::Time,
    viewer::Viewer,
    words::Whole,
};
use crate::{
    boot::machine::Rules,
    status::{access::Via, api::Api, known, view},
    timeline::{event::Who, machines::Snapshot, moment::Moment},
};

/// What the page's routes share.
pub struct Page {
    pub(super) api: Arc<Api>,
    pub(super) waiting: Waiting,
    pub(super) board: Board,
    pub(super) viewers: Arc<Semaphore>,
}

/// What the server waits for, for those who see no machine.
#[derive(Clone, Debug, Serialize)]
pub struct Waiting {
    /// The interfaces with their addresses, in words.
    pub on: String,
    /// The kinds of firmware that it has loaders for, in words.
    pub clients: String,
}

impl Page {
    /// A page; what is followed live ends with the API's `stop`.
    #[must_use]
    pub fn new(api: Arc<Api>, waiting: Waiting) -> Arc<Self> {
        let (board, viewers) = (Board::new(api.clone()), Arc::new(Semaphore::new(VIEWERS)));
        Arc::new(Self { api, waiting, board, viewers })
    }
}

impl Page {
    pub(super) fn viewer(&self, via: Via, headers: &HeaderMap) -> Viewer {
        Viewer::new(via, headers, self.api.token.as_deref())
    }

    /// What every page is given.
    pub(super) fn common(&self, viewer: Viewer, now: Moment) -> Value {
        let version = env!("CARGO_PKG_VERSION");
        context! { viewer => Serde(viewer), now => Serde(Time::new(now)), version }
    }

    /// A page that says one thing.
    pub(super) fn message(&self, viewer: Viewer, title: &str, text: &str, sign_in: bool) -> String {
        let common = self.common(viewer, Moment::from(SystemTime::now()));
        render::page("message.html", context! { title, text, sign_in, live => "", ..common })
    }

    /// A machine's page, with what became of a form above it.
    pub(super) async fn machine(&self, machine: &str, viewer: Viewer, news: Option<(bool, String)>) -> Response {
        let snapshot = self.api.server.snapshot().await;
        let known = self.api.known(&snapshot);
        let who = match self.api.who(machine, &known) {
            Ok(who) => who,
            Err(problem) => {
                let text = format!("{}.", problem.detail);
                let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::NOT_FOUND);
                let title = if status == StatusCode::CONFLICT { "Several machines" } else { "No such machine" };
                return (status, Html(self.message(viewer, title, &text, false))).into_response();
            }
        };
        let now = Moment::from(SystemTime::now());
        let whole = self.whole(&snapshot, who, now);
        let status = match &news {
            Some((false, _)) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::OK,
        };
        let rules = self.api.live.rules.load();
        let profiles: Vec<String> = rules.profiles.keys().cloned().chain(Rules::BUILT_IN.map(String::from)).collect();
        let live = format!("/live?made={}&machine={}", files::made(), encoded(&known.id(who)));
        let (ok, news) = news.map_or((true, None), |(ok, words)| (ok, Some(words)));
        let said = match who {
            Who::Machine(machine) => self.api.live.roster.load().of(known::of_rules(&rules, machine)),
            Who::Address(_) => None,
        };
        let permission = match who {
            Who::Machine(machine) => rules.strangers.said(known::of_rules(&rules, machine)),
            Who::Address(_) => None,
        };
        let (has_card, known_only) = (matches!(who, Who::Machine(_)), rules.answers_known_only());
        let html = Value::from_safe_string(render::whole(&whole));
        let common = self.common(viewer, now);
        let page = context! {
            it => Serde(&whole.row), html, profiles, live, ok, news, said => Serde(said), has_card, known_only,
            permission => Serde(permission), ..common
        };
        (status, Html(render::page("machine.html", page))).into_response()
    }

    pub(super) fn whole(&self, snapshot: &Snapshot, who: Who, now: Moment) -> Whole {
        let seen = snapshot.find(who);
        let known = self.api.known(snapshot);
        let machine = view::Machine::new(&self.api.live, &*self.api.server, &known, (who, seen), now);
        Whole::new(&machine, seen, now)
    }

    /// What of the configuration and the network keeps something from being served, for the list.
    pub(super) fn faults(&self) -> String {
        render::fragment("faults.html", self.api.live.fault_lines())
    }

    pub(super) fn live_address(&self, picture: &Picture, Asked { q, state, all }: &Asked) -> String {
        let (after, made) = (self.board.name(picture), files::made());
        format!("/live?made={made}&after={after}&q={}&state={}&all={}", encoded(q), encoded(state), encoded(all))
    }
}

/// The counts above the list.
pub(super) fn summary(picture: &Picture, asked: &Asked, more: usize) -> impl Serialize + use<> {
    let Asked { q, state, .. } = asked;
    let whole = format!("/?all=1&state={}&q={}", encoded(state), encoded(q));
    serde_json::json!({ "counts": picture.counts(), "more": more, "q": q, "state": state, "whole": whole })
}

/// Pages that are followed at once. More are shown, and stay as they are.
const VIEWERS: usize = 64;
