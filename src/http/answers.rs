//! Answer files, for those who may have them.

use std::sync::Arc;

use axum::{
    Extension,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, header};

use super::{
    app::{App, Asked, in_words},
    ends::Ends,
};
use crate::{
    boot::{
        answer::{Answer, Signer, answer},
        installer::Installer,
        query::Query,
        reason::{Denied, Reason},
    },
    timeline::event::What,
};

/// By an address that a machine's script named. What an installer posts of its machine is not needed then.
pub(super) async fn signed(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((token, name)): Path<(String, String)>,
) -> Response {
    match app.open(&token, &name) {
        Ok(query) => app.answer(ends, &name, &query),
        Err(denied) => app.refuse(ends, &Reason::denied(&name, denied)),
    }
}

/// By what a machine says of itself, where that is enough: in the query, in a body or in headers.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(name): Path<String>,
    asked: Asked,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    if !app.live.rules.load().answers.open {
        return app.refuse(ends, &Reason::denied(&name, Denied::NotSigned));
    }
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return (rejection.status(), format!("{}\n", rejection.body_text())).into_response(),
    };
    match asked {
        Ok(axum::extract::Query(query)) => {
            let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
            let installer = Installer::of_body(&body).or(Installer::of_headers(headers));
            let query = installer.complete(query, &app.live.rules.load(), &app.live.roster.load());
            app.answer(ends, &name, &app.heard(ends, query))
        }
        Err(rejection) => app.refuse(ends, &Reason::BadQuery(format!("query is wrong: {}", in_words(&rejection)))),
    }
}

impl App {
    fn answer(&self, ends: Ends, name: &str, query: &Query) -> Response {
        let rules = self.live.rules.load();
        let signer = Signer { key: &self.answer_key, now: self.now() };
        // An installer may have another address than iPXE had, which another machine may have used. One that a rule
        // knows by its serial number may have named no card.
        let machine = query.mac().ok().flatten().map(|mac| rules.identity(&query.facts(mac)));
        let machine = machine.filter(|machine| machine.keys().next().is_some());
        match answer(&rules, &self.live.roster.load(), &self.base(ends), name, query, Some(signer)) {
            Ok(Answer { body, content_type, .. }) => {
                let told = What::Answer { name: name.to_owned(), size: body.len() as u64, to: ends.peer.ip() };
                self.tell_to(ends, machine, told);
                let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")];
                (headers, body).into_response()
            }
            Err(why) => self.refuse_to(ends, machine, &why),
        }
    }
}

/// Bytes of a body: the Proxmox installer's has a few hundred for each card.
pub(super) const LARGEST: usize = 256 << 10;
