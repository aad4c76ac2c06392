//! What is done by the page's forms. Each answers with another page to look at (303), so that a reload repeats nothing.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Extension, Form,
    extract::{Path, State, rejection::FormRejection},
    response::{Html, IntoResponse, Redirect, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::{
    link::encoded,
    shared::Page,
    viewer::{NO_COOKIE, cookie, may_post},
};
use crate::{
    boot::{identity::MachineId, roster::Assignment, strangers::Permission},
    status::{
        access::{Via, is_of_own_page},
        server::Refusal,
    },
};

/// What was done, by the address that a form leads to.
#[derive(Debug, Deserialize)]
pub(super) struct Done {
    done: Option<String>,
}

impl Done {
    /// Only words of ours, also where someone else made the address.
    pub(super) fn words(&self) -> Option<&'static str> {
        Some(match self.done.as_deref()? {
            "assigned" => "Assigned. The machine boots this from now on.",
            "once" => "Assigned for the next boot that reaches its hand-over.",
            "unassigned" => {
                "Assignment removed. The machine's rule applies again. A one-time profile that it already booted stays used up."
            }
            "woken" => "Magic packet sent. The machine starts if its firmware allows Wake-on-LAN.",
            "renewed" => "Its one-time profile is served again.",
            "allowed_once" => "Allowed. The machine is answered until its next hand-over.",
            "allowed" => "Allowed. The machine is answered from now on.",
            "denied" => "The machine is not answered while this server runs.",
            "unapproved" => "Approval removed.",
            _ => return None,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    profile: String,
    /// `once`, or until it is changed.
    #[serde(default)]
    when: String,
}

pub(super) async fn assign(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    Path(machine): Path<String>,
    headers: HeaderMap,
    wanted: Result<Form<Wanted>, FormRejection>,
) -> Response {
    let Ok(Form(Wanted { profile, when })) = wanted else {
        return (StatusCode::BAD_REQUEST, "the form was incomplete; nothing was changed\n").into_response();
    };
    let once = when == "once";
    let done = if once { "once" } else { "assigned" };
    let assignment = Assignment { profile, once };
    page.act(via, &headers, &machine, done, async |id| page.api.server.assign(id, assignment).await).await
}

pub(super) async fn unassign(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    Path(machine): Path<String>,
    headers: HeaderMap,
) -> Response {
    page.act(via, &headers, &machine, "unassigned", async |id| page.api.server.unassign(id).await.map(drop)).await
}

pub(super) async fn wake(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    Path(machine): Path<String>,
    headers: HeaderMap,
) -> Response {
    page.act(via, &headers, &machine, "woken", async |id| page.api.wake(id).await.map(drop)).await
}

pub(super) async fn renew(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    Path(machine): Path<String>,
    headers: HeaderMap,
) -> Response {
    page.act(via, &headers, &machine, "renewed", async |id| page.api.server.renew(id).await.map(drop)).await
}

#[derive(Debug, Deserialize)]
pub(super) struct Permitted {
    permission: Permission,
}

pub(super) async fn permit(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    Path(machine): Path<String>,
    headers: HeaderMap,
    permitted: Result<Form<Permitted>, FormRejection>,
) -> Response {
    let Ok(Form(Permitted { permission })) = permitted else {
        return (StatusCode::BAD_REQUEST, "the form says neither once, always nor no; nothing was changed\n")
            .into_response();
    };
    let done = match permission {
        Permission::Once => "allowed_once",
        Permission::Always => "allowed",
        Permission::No => "denied",
    };
    page.act(via, &headers, &machine, done, async |id| page.api.server.permit(id, permission).await).await
}

pub(super) async fn unapprove(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    Path(machine): Path<String>,
    headers: HeaderMap,
) -> Response {
    page.act(via, &headers, &machine, "unapproved", async |id| page.api.server.approve(id, false).await.map(drop)).await
}

fn back(machine: &str, done: &str) -> Response {
    Redirect::to(&format!("/machines/{}?done={done}", encoded(machine))).into_response()
}

impl Page {
    /// Changes something about a machine for a viewer who may, and leads back to its page.
    async fn act(
        &self,
        via: Via,
        headers: &HeaderMap,
        machine: &str,
        done: &str,
        change: impl AsyncFnOnce(MachineId) -> Result<(), Refusal>,
    ) -> Response {
        let viewer = self.viewer(via, headers);
        if let Err((status, words)) = may_post(via, headers, self.api.token.as_deref()) {
            // Signed in for 12 hours, or with a token that is another now.
            let sign_in = status == StatusCode::UNAUTHORIZED;
            let words = if sign_in { "you are not signed in any more. Sign in, and do it again" } else { words };
            let text = format!("Nothing was changed: {words}.");
            return (status, Html(self.message(viewer, "Not allowed", &text, sign_in))).into_response();
        }
        let changed = match self.api.id(machine).await {
            Ok(id) => change(id).await.map_err(|refusal| refusal.to_string()),
            Err(problem) => Err(problem.detail),
        };
        match changed {
            Ok(()) => back(machine, done),
            Err(words) => self.machine(machine, viewer, Some((false, format!("Nothing was changed: {words}.")))).await,
        }
    }
}

pub(super) async fn sign_in_form(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    headers: HeaderMap,
) -> Html<String> {
    let (viewer, has_token) = (page.viewer(via, &headers), page.api.token.is_some());
    let text = match has_token {
        true => "The token is control.token of the server's configuration. You stay signed in for 12 hours.",
        false => "No control.token is set in the server's configuration: changes are made on the server's host only.",
    };
    Html(page.message(viewer, "Sign in", text, has_token))
}

#[derive(Debug, Deserialize)]
pub(super) struct SignIn {
    token: String,
}

pub(super) async fn sign_in(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    headers: HeaderMap,
    given: Result<Form<SignIn>, FormRejection>,
) -> Response {
    let given = given.map(|Form(SignIn { token })| token).unwrap_or_default();
    let token = page.api.token.as_deref();
    let right = token.filter(|token| bool::from(token.as_bytes().ct_eq(given.trim().as_bytes())));
    let is_own = is_of_own_page(&headers);
    match right.filter(|_| is_own).and_then(|token| cookie(token, SystemTime::now())) {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        None => {
            let viewer = page.viewer(via, &headers);
            let words = if is_own { "This is not the token." } else { OTHER_SITE };
            (StatusCode::FORBIDDEN, Html(page.message(viewer, "Sign in", words, token.is_some()))).into_response()
        }
    }
}

pub(super) async fn sign_out(headers: HeaderMap) -> Response {
    if !is_of_own_page(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    ([(header::SET_COOKIE, NO_COOKIE)], Redirect::to("/")).into_response()
}

const OTHER_SITE: &str = "This form was sent by a page of another site. A proxy in front of netbootd has to pass on the \
                          browser's header Host (nginx: proxy_set_header Host $http_host).";
