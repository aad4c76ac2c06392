//! The status page: all machines at `/`, one at `/machines/MACHINE`, and the forms that give a machine something else to
//! boot. Made on the server and readable as it is; a small script keeps it up to date ([`live`]).

mod board;
mod files;
mod forms;
mod live;
mod packet;
mod render;
mod viewer;
mod words;

use std::{sync::Arc, time::SystemTime};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    middleware,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use minijinja::{Value, context, value::Serde};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio::sync::Semaphore;

use self::{
    board::{Asked, Board, Picture},
    viewer::Viewer,
    words::{Time, Whole},
};
use super::{access::Via, api::Api, known, view};
use crate::boot::{event::Who, machine::Rules, moment::Moment, timelines::Snapshot};

/// What the page's routes share.
pub struct Page {
    api: Arc<Api>,
    waiting: Waiting,
    board: Board,
    viewers: Arc<Semaphore>,
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

/// The routes. Each request has to bring an [`Extension`] of [`Via`].
pub fn router(page: Arc<Page>) -> Router {
    Router::new()
        .route("/", get(machines))
        .route("/machines/{machine}", get(machine))
        .route("/machines/{machine}/assign", post(forms::assign))
        .route("/machines/{machine}/wake", post(forms::wake))
        .route("/machines/{machine}/unassign", post(forms::unassign))
        .route("/machines/{machine}/once", post(forms::renew))
        .route("/machines/{machine}/approve", post(forms::approve))
        .route("/machines/{machine}/unapprove", post(forms::unapprove))
        .route("/sign-in", get(forms::sign_in_form).post(forms::sign_in))
        .route("/sign-out", post(forms::sign_out))
        .route("/live", get(live::live))
        .route("/static/{name}", get(files::file))
        .layer(DefaultBodyLimit::max(FORM))
        .layer(middleware::map_response(protect))
        .with_state(page)
}

/// Nothing of the page comes from elsewhere, and nothing elsewhere holds it in a frame. The referrer stays on in the
/// page's own requests: without it a browser would call the origin of its forms `null`.
async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in PROTECTION {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

const PROTECTION: [(&str, &str); 4] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
];

async fn machines(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    Query(asked): Query<Asked>,
    headers: HeaderMap,
) -> Html<String> {
    let picture = page.board.look().await;
    let viewer = page.viewer(via, &headers);
    let rendered = tokio::task::spawn_blocking(move || {
        let (lines, more) = picture.select(&asked);
        let rows = lines.iter().map(|line| Value::from_safe_string(line.html().to_owned())).collect::<Vec<_>>();
        let live = page.live_address(&picture, &asked);
        let summary = Serde(summary(&picture, &asked, more));
        let faults = page.api.live.fault_lines();
        let common = page.common(viewer, picture.at);
        render::page(
            "machines.html",
            context! { rows, live, faults, it => summary, waiting => Serde(&page.waiting), ..common },
        )
    });
    Html(rendered.await.unwrap_or_default())
}

/// The counts above the list.
fn summary(picture: &Picture, asked: &Asked, more: usize) -> impl Serialize + use<> {
    let Asked { q, state, .. } = asked;
    let whole = format!("/?all=1&state={}&q={}", encoded(state), encoded(q));
    serde_json::json!({ "counts": picture.counts(), "more": more, "q": q, "state": state, "whole": whole })
}

async fn machine(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    Path(machine): Path<String>,
    Query(done): Query<forms::Done>,
    headers: HeaderMap,
) -> Response {
    let viewer = page.viewer(via, &headers);
    page.machine(&machine, viewer, done.words().map(|words| (true, words.to_owned()))).await
}

impl Page {
    fn viewer(&self, via: Via, headers: &HeaderMap) -> Viewer {
        Viewer::new(via, headers, self.api.token.as_deref())
    }

    /// What every page is given.
    fn common(&self, viewer: Viewer, now: Moment) -> Value {
        let version = env!("CARGO_PKG_VERSION");
        context! { viewer => Serde(viewer), now => Time::new(now).millis, version }
    }

    /// A page that says one thing.
    fn message(&self, viewer: Viewer, title: &str, text: &str, sign_in: bool) -> String {
        let common = self.common(viewer, Moment::from(SystemTime::now()));
        render::page("message.html", context! { title, text, sign_in, live => "", ..common })
    }

    /// A machine's page, with what became of a form above it.
    async fn machine(&self, machine: &str, viewer: Viewer, news: Option<(bool, String)>) -> Response {
        let who = match self.api.who(machine) {
            Ok(who) => who,
            Err(problem) => {
                let text = format!("{}.", problem.detail);
                let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::NOT_FOUND);
                return (status, Html(self.message(viewer, "No such machine", &text, false))).into_response();
            }
        };
        let now = Moment::from(SystemTime::now());
        let whole = self.whole(&*self.api.server.snapshot().await, who, now);
        let status = match &news {
            Some((false, _)) => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::OK,
        };
        let rules = self.api.live.rules.load();
        let profiles: Vec<String> = rules.profiles.keys().cloned().chain(Rules::BUILT_IN.map(String::from)).collect();
        let live = format!("/live?machine={}", encoded(&who.to_string()));
        let (ok, news) = news.map_or((true, None), |(ok, words)| (ok, Some(words)));
        let said = match who {
            Who::Machine(machine) => self.api.live.roster.load().of(known::of_rules(&rules, machine)),
            Who::Address(_) => None,
        };
        let (has_card, known_only) = (matches!(who, Who::Machine(_)), rules.known_only);
        let html = Value::from_safe_string(render::whole(&whole));
        let common = self.common(viewer, now);
        let page = context! {
            it => Serde(&whole.row), html, profiles, live, ok, news, said => Serde(said), has_card, known_only, ..common
        };
        (status, Html(render::page("machine.html", page))).into_response()
    }

    fn whole(&self, snapshot: &Snapshot, who: Who, now: Moment) -> Whole {
        let seen = snapshot.find(who);
        let machine = view::Machine::new(&self.api.live, &*self.api.server, who, seen, now);
        Whole::new(&machine, seen, now)
    }

    fn live_address(&self, picture: &Picture, Asked { q, state, all }: &Asked) -> String {
        let after = self.board.name(picture);
        format!("/live?after={after}&q={}&state={}&all={}", encoded(q), encoded(state), encoded(all))
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// As they stand in MAC addresses, IP addresses and names.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b':').remove(b'.').remove(b'-').remove(b'_');

/// Pages that are followed at once. More are shown, and stay as they are.
const VIEWERS: usize = 64;
/// Of a form, in bytes.
const FORM: usize = 4096;
