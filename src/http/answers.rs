//! Answer files, for those who may have them.

use std::{sync::Arc, time::SystemTime};

use axum::{
    Extension,
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::header;

use super::routes::{App, Asked, Ends, seconds};
use crate::boot::{
    answer::{Answer, Denied, answer},
    event::{What, Who},
    script::Query,
    why::Why,
};

/// By an address that a machine's script named.
pub(super) async fn signed(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path((token, name)): Path<(String, String)>,
) -> Response {
    match app.answer_key.open(&token, &name, seconds(SystemTime::now())) {
        Ok(query) => app.answer(ends, &name, &query),
        Err(denied) => app.refuse(ends, &Why::denied(&name, denied)),
    }
}

/// By a machine's MAC address, where that is enough.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    Path(name): Path<String>,
    asked: Asked,
) -> Response {
    if !app.live.rules.load().answers.open {
        return app.refuse(ends, &Why::denied(&name, Denied::NotSigned));
    }
    match asked {
        Ok(axum::extract::Query(query)) => app.answer(ends, &name, &app.heard(ends, query)),
        Err(rejection) => app.refuse(ends, &Why::BadQuery(format!("query is wrong: {}", rejection.body_text()))),
    }
}

impl App {
    fn answer(&self, ends: Ends, name: &str, query: &Query) -> Response {
        let rules = self.live.rules.load();
        match answer(&rules, &self.live.roster.load(), &self.base(ends), name, query) {
            Ok(Answer { mac, body, content_type }) => {
                let told = What::Answer { name: name.to_owned(), size: body.len() as u64, to: ends.peer.ip() };
                self.tell(Who::Machine(mac), told);
                let headers = [(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, "no-store")];
                (headers, body).into_response()
            }
            Err(why) => self.refuse(ends, &why),
        }
    }
}
