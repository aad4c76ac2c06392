//! The status page: all machines at `/`, one at `/machines/MACHINE`, leases of our own at `/leases`, and the forms that give a machine something else to
//! boot. Made on the server and readable as it is; a small script keeps it up to date ([`live`]).

mod board;
mod files;
mod forms;
mod link;
mod live;
mod packet;
mod render;
mod shared;
mod time;
mod viewer;
mod words;

use std::{sync::Arc, time::SystemTime};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Path, Query, State},
    middleware,
    response::{Html, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use minijinja::{Value, context, value::Serde};

pub use self::shared::{Page, Waiting};
use self::{board::Asked, shared::summary, time::Time};
use super::{
    access::Via,
    leases::{Lease, Leases},
};
use crate::{boot::machine::Rules, timeline::moment::Moment};

/// The routes. Each request has to bring an [`Extension`] of [`Via`].
pub fn router(page: Arc<Page>) -> Router {
    Router::new()
        .route("/", get(machines))
        .route("/leases", get(leases))
        .route("/machines/{machine}", get(machine))
        .route("/machines/{machine}/assign", post(forms::assign))
        .route("/machines/{machine}/wake", post(forms::wake))
        .route("/machines/{machine}/unassign", post(forms::unassign))
        .route("/machines/{machine}/once", post(forms::renew))
        .route("/machines/{machine}/permit", post(forms::permit))
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
        let faults = Value::from_safe_string(page.faults());
        let images = Serde(images(&page.api.live.rules.load()));
        let common = page.common(viewer, picture.at);
        render::page(
            "machines.html",
            context! { rows, live, faults, images, it => summary, waiting => Serde(&page.waiting), ..common },
        )
    });
    Html(rendered.await.unwrap_or_default())
}

async fn leases(State(page): State<Arc<Page>>, Extension(via): Extension<Via>, headers: HeaderMap) -> Html<String> {
    let (viewer, now) = (page.viewer(via, &headers), Moment::from(SystemTime::now()));
    let rendered = tokio::task::spawn_blocking(move || {
        let it = Leases::now(&page.api.live, &*page.api.server, now);
        let row = |lease: &Lease| context! { lease => Serde(lease), ends => Serde(Time::new(lease.ends)) };
        let rows: Vec<Value> = it.leases.iter().map(row).collect();
        let common = page.common(viewer, now);
        render::page("leases.html", context! { it => Serde(&it), rows, live => "", ..common })
    });
    Html(rendered.await.unwrap_or_default())
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

/// What each image is, and how it boots.
fn images(rules: &Rules) -> Vec<serde_json::Value> {
    let of_images = rules.profiles.iter().filter(|(_, profile)| !profile.about.is_empty());
    of_images.map(|(name, profile)| serde_json::json!({ "name": name, "about": profile.about })).collect()
}

/// Of a form, in bytes.
const FORM: usize = 4096;
