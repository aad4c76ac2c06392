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
    Page, encoded,
    viewer::{NO_COOKIE, cookie, is_own_form, may_post},
};
use crate::{boot::roster::Assignment, status::access::Via};

/// What was done, by the address that a form leads to.
#[derive(Debug, Deserialize)]
pub(super) struct Done {
    done: Option<String>,
}

impl Done {
    /// Only words of ours, whoever made the address.
    pub(super) fn words(&self) -> Option<&'static str> {
        Some(match self.done.as_deref()? {
            "assigned" => "Assigned. It boots this from now on.",
            "once" => "Assigned for its next boot that comes to its hand-over.",
            "unassigned" => "Taken back: it is left to its rule again.",
            _ => return None,
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    profile: String,
    /// `once`, or until told otherwise.
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
    if let Err(refused) = page.allowed(via, &headers) {
        return refused;
    }
    let viewer = page.viewer(via, &headers);
    let Ok(Form(Wanted { profile, when })) = wanted else {
        return page
            .machine(&machine, viewer, Some((false, "The form was not whole; nothing was changed.".into())))
            .await;
    };
    let mac = match page.api.mac(&machine) {
        Ok(mac) => mac,
        Err(_) => {
            return page
                .machine(
                    &machine,
                    viewer,
                    Some((false, "Only machines whose card is known are assigned anything.".into())),
                )
                .await;
        }
    };
    let once = when == "once";
    match page.api.server.assign(mac, Assignment { profile, once }).await {
        Ok(()) => back(&machine, if once { "once" } else { "assigned" }),
        Err(refusal) => page.machine(&machine, viewer, Some((false, format!("Nothing was changed: {refusal}.")))).await,
    }
}

pub(super) async fn unassign(
    State(page): State<Arc<Page>>,
    Extension(via): Extension<Via>,
    Path(machine): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Err(refused) = page.allowed(via, &headers) {
        return refused;
    }
    let viewer = page.viewer(via, &headers);
    let Ok(mac) = page.api.mac(&machine) else { return page.machine(&machine, viewer, None).await };
    match page.api.server.unassign(mac).await {
        Ok(_) => back(&machine, "unassigned"),
        Err(refusal) => page.machine(&machine, viewer, Some((false, format!("Nothing was changed: {refusal}.")))).await,
    }
}

fn back(machine: &str, done: &str) -> Response {
    Redirect::to(&format!("/machines/{}?done={done}", encoded(machine))).into_response()
}

impl Page {
    #[expect(clippy::result_large_err, reason = "it is sent at once")]
    fn allowed(&self, via: Via, headers: &HeaderMap) -> Result<(), Response> {
        may_post(via, headers, self.api.token.as_deref()).map_err(|(status, words)| {
            let text = format!("Nothing was changed: {words}.");
            let viewer = self.viewer(via, headers);
            (status, Html(self.message(viewer, "Not allowed", &text, false))).into_response()
        })
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
    match right.filter(|_| is_own_form(&headers)).and_then(|token| cookie(token, SystemTime::now())) {
        Some(cookie) => ([(header::SET_COOKIE, cookie)], Redirect::to("/")).into_response(),
        None => {
            let viewer = page.viewer(via, &headers);
            let html = page.message(viewer, "Sign in", "This is not the token.", token.is_some());
            (StatusCode::FORBIDDEN, Html(html)).into_response()
        }
    }
}

pub(super) async fn sign_out(headers: HeaderMap) -> Response {
    if !is_own_form(&headers) {
        return StatusCode::FORBIDDEN.into_response();
    }
    ([(header::SET_COOKIE, NO_COOKIE)], Redirect::to("/")).into_response()
}
