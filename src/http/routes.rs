//! The route table, which is the list of what can be fetched.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use axum::{
    Extension, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Query, RawQuery, State},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use percent_encoding::percent_decode_str;
use tower::ServiceExt;
use tracing::debug;

use super::{
    answers,
    app::{App, Asked, apart, in_words},
    assets::Served,
    beginning::{Answered, ask_again, is_kept},
    connection::Connection,
    conversation::Answer,
    ends::Ends,
    listing::wants_json,
    range::without_numbers,
    report::{self, report},
    source::Source,
    whose::{Claim, is_boot_client, take_claim},
};
use crate::{
    boot::{
        answer::Signer,
        beginning::Beginning,
        faults::Files,
        grub,
        hardware::Hardware,
        machine::Rules,
        outcome::Outcome,
        over::Of,
        query,
        reason::Reason,
        script::{self, Script, Standing, script},
    },
    files::found::{Decided, Found},
    timeline::event::{What, Who},
};

/// Everything that a listener serves.
#[derive(Clone, Debug)]
pub struct Routes {
    app: Arc<App>,
    router: Router,
}

impl Routes {
    /// What can be fetched, and others.
    #[must_use]
    pub fn new(app: Arc<App>, others: Router) -> Self {
        Self { router: router(app.clone()).merge(others), app }
    }

    /// The answer to a request. A file takes the short way: a tenth of the CPU time of a small one is the router's.
    pub(super) async fn answer(&self, mut request: Request<Bytes>, on: &Connection, ends: Ends) -> Answer {
        // The server as a whole (RFC 9110 §9.3.7).
        if *request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return Answer::Other((StatusCode::NO_CONTENT, [(header::ALLOW, "GET,HEAD,POST,OPTIONS")]).into_response());
        }
        let claim = take_claim(request.uri_mut());
        if is_file(request.uri().path()) {
            if !matches!(*request.method(), Method::GET | Method::HEAD) {
                let allowed = [(header::ALLOW, "GET,HEAD")];
                return Answer::Other((StatusCode::METHOD_NOT_ALLOWED, allowed, NO_METHOD).into_response());
            }
            let asked = File { uri: request.uri(), method: request.method(), headers: request.headers(), claim };
            return file(&self.app, on, ends, asked).await;
        }
        let extensions = request.extensions_mut();
        if let Some(claim) = claim {
            extensions.insert(claim);
        }
        extensions.insert(ends);
        // Boxed, or every connection would have room for it for as long as it lasts.
        let Ok(response) = Box::pin(self.router.clone().oneshot(request.map(Body::from))).await;
        Answer::Other(response)
    }
}

/// Whether a path names a file of the assets folder, a loader, or a text that is looked for by its name as these are.
fn is_file(path: &str) -> bool {
    let is_below = |folder: &&str| path.strip_prefix(folder).is_some_and(|name| !name.is_empty());
    // An iPXE for EFI looks for its script beside itself.
    let is_script = path == "/loaders/autoexec.ipxe";
    path == "/extlinux/extlinux.conf" || (FOLDERS.iter().any(is_below) && !is_script)
}

/// Below which files are asked for.
const FOLDERS: [&str; 4] = ["/assets/", "/loaders/", "/grub/", "/pxelinux.cfg/"];

/// Everything that can be fetched beside files.
fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/boot.ipxe", get(boot))
        .route("/boot.grub", get(boot_grub))
        // An iPXE for EFI looks for it beside itself, then at the root.
        .route("/autoexec.ipxe", get(boot))
        .route("/loaders/autoexec.ipxe", get(boot))
        .route("/assets", get(folder))
        .route("/assets/", get(folder))
        .route("/answers/s/{token}/{*name}", get(answers::signed).post(answers::signed))
        .route(
            "/answers/{*name}",
            get(answers::open).post(answers::open).layer(DefaultBodyLimit::max(answers::LARGEST)),
        )
        .route(
            "/report/s/{token}",
            get(report::signed).head(report::look).post(report::signed).layer(DefaultBodyLimit::max(report::LARGEST)),
        )
        .route("/report", get(report).head(report::look).post(report).layer(DefaultBodyLimit::max(report::LARGEST)))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .fallback(async || (StatusCode::NOT_FOUND, "there is nothing at this path: files are below /assets/\n"))
        .method_not_allowed_fallback(async || (StatusCode::METHOD_NOT_ALLOWED, NO_METHOD))
        .with_state(app)
}

const NO_METHOD: &str = "this path does not take this method\n";

/// Always 200 with a script, since an iPXE shows no more of an error than its number.
async fn boot(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    method: Method,
    headers: HeaderMap,
    asked: Asked,
) -> Response {
    let language = Language { script, unreadable: script::unreadable };
    scripted(&app, ends, (method, headers), asked, language).await
}

/// The same for a GRUB.
async fn boot_grub(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    method: Method,
    headers: HeaderMap,
    asked: Asked,
) -> Response {
    let language = Language { script: grub::script, unreadable: grub::unreadable };
    scripted(&app, ends, (method, headers), asked, language).await
}

/// The files of the profile are looked at.
async fn scripted(
    app: &Arc<App>,
    ends: Ends,
    (method, headers): (Method, HeaderMap),
    asked: Asked,
    language: Language,
) -> Response {
    let looking = app.clone();
    let answered = apart(move || answer(&looking, ends, (&method, &headers), asked, language)).await;
    answered.settled(app, ends, script_response).await
}

/// What a script is written in.
struct Language {
    script: fn(&Rules, &str, &query::Query, Standing<'_>) -> Script,
    unreadable: fn(&Rules, &str, &str) -> Script,
}

fn answer(app: &App, ends: Ends, (method, headers): (&Method, &HeaderMap), asked: Asked, write: Language) -> Answered {
    let mut base = app.base(ends);
    let mut claims = false;
    let is_look = *method == Method::HEAD || !is_boot_client(headers);
    let rules = app.live.rules.load();
    let mut machine = None;
    let (mut is_retry, mut hardware, mut interface, mut serial) = (false, Hardware::default(), None, None);
    let mut begins = None;
    let answer = match asked {
        Ok(Query(query)) => {
            let query = app.heard(ends, query.bounded());
            let mac = query.mac().ok().flatten();
            is_retry = query.is_retry();
            hardware = query.hardware.clone();
            (interface, serial) = (query.interface.clone(), query.serial.clone());
            machine = mac.map(|mac| rules.identity(&query.facts(mac)));
            if let Some(machine) = machine.filter(|_| !is_look && app.is_shared(ends, machine)) {
                claims = true;
                base = format!("{base}/m/{}", app.answer_key.claim(machine));
            }
            let looping = machine.and_then(|machine| app.attempts().ipxe_loop(machine, Instant::now()));
            let signer = Signer { key: &app.answer_key, now: app.now() };
            let state_fault = app.live.why_state_is_unknown();
            let look = |name: &str, wanted| app.look(name, wanted);
            let roster = app.live.roster.load();
            let standing = Standing {
                roster: Some(&roster),
                looping,
                files: Some(Files(&look)),
                state_fault: state_fault.as_ref().map(|fault| fault.as_str()),
                signer: Some(signer),
                ..Standing::default()
            };
            let answer = (write.script)(&rules, &base, &query, standing.clone());
            if !is_look && is_kept(app, &answer.outcome) {
                let state_fault = Some(Reason::NOT_KEPT);
                let refusal = (write.script)(&rules, &base, &query, Standing { state_fault, ..standing });
                begins = Some(Box::new(Beginning::new(refusal, machine, &roster)));
            }
            answer
        }
        Err(rejection) => (write.unreadable)(&rules, &base, &in_words(&rejection)),
    };
    if is_look {
        debug!(peer = %ends.peer, "a script was viewed");
        return script_response(answer.text).into();
    }
    if let Some(machine) = machine.filter(|_| is_retry) {
        app.tell(Who::Machine(machine), What::Retry);
    }
    let lacks = match &answer.outcome {
        Outcome::Chosen { profile, .. } => {
            rules.profiles.get(profile).and_then(|profile| profile.lacks_memory(hardware.memory_mib))
        }
        _ => None,
    };
    let is_once = answer.outcome.is_once();
    if !app.tell_script(ends, machine, claims, answer.outcome) && is_once {
        // A one-time boot does not begin unless it is recorded.
        return ask_again().into();
    }
    let answered = Answered::new(app, machine, claims, begins, script_response(answer.text));
    if let Some((machine, lacks)) = machine.zip(lacks) {
        app.tell(Who::Machine(machine), What::LittleMemory(lacks));
    }
    if let Some(machine) = machine.filter(|_| !hardware.is_empty()) {
        app.tell(Who::Machine(machine), What::Hardware(hardware));
    }
    if let Some((machine, serial)) = machine.zip(serial) {
        app.tell(Who::Machine(machine), What::Serial(serial));
    }
    if let Some((machine, interface)) = machine.zip(interface) {
        app.tell(Who::Machine(machine), What::HeardOn(interface));
    }
    answered
}

/// What is asked about a file.
struct File<'a> {
    uri: &'a Uri,
    method: &'a Method,
    headers: &'a HeaderMap,
    claim: Option<Claim>,
}

/// A loader, a file of the assets folder, or a text: one answer for `/loaders/` and `/assets/`, as TFTP has one for all.
async fn file(app: &Arc<App>, on: &Connection, ends: Ends, asked: File<'_>) -> Answer {
    let File { uri, method, headers, claim } = asked;
    let path = uri.path().trim_start_matches('/');
    let path = path.strip_prefix("assets/").or_else(|| path.strip_prefix("loaders/")).unwrap_or(path);
    let name: Vec<u8> = percent_decode_str(path).collect();
    if let Some(range) = without_numbers(headers) {
        return Answer::Other(app.refuse(ends, &Reason::NoNumbers(range.chars().take(40).collect())));
    }
    let found = match app.at_hand(&name) {
        Some(found) => Ok(found),
        None => {
            let (app, name, headers, claim) = (app.clone(), name.clone(), headers.clone(), claim.clone());
            // Boxed, or every connection would have room for it for as long as it lasts.
            Box::pin(apart(move || app.find(ends, &name, &headers, claim.as_ref()))).await
        }
    };
    let whose = app.whose(ends, claim, headers);
    let served = match found {
        Ok(Found::Loader(file)) => {
            let etag = format!("\"{}\"", file.sha256);
            let content = Source::Memory(file.bytes);
            Served { of: Of::Loader, name: file.name, content, etag, modified: app.started }
        }
        Ok(Found::Asset { path, asset, of }) => {
            let (etag, modified) = (asset.etag.clone(), asset.modified);
            let content = asset.small().map_or_else(|| Source::File(asset), Source::Memory);
            Served { of, name: path, content, etag, modified }
        }
        Ok(Found::Text { text, decided, .. }) => {
            // A GRUB that firmware fetches for asks for the size first; others only look.
            let is_look = *method == Method::HEAD || !is_boot_client(headers);
            let decided = decided.filter(|decided| !is_look || decided.outcome != Outcome::Grub);
            let Some(Decided { machine, outcome, begins }) = decided else {
                return Answer::Other(script_response(text));
            };
            if !app.tell_script(ends, machine, false, outcome) && begins.is_some() {
                return Answer::Other(ask_again());
            }
            let answered = Answered::new(app, machine, false, begins, script_response(text));
            return Answer::Other(Box::pin(answered.settled(app, ends, script_response)).await);
        }
        Err(Reason::NotFound(_)) if app.listing && uri.path().starts_with("/assets/") => {
            let path = String::from_utf8_lossy(&name).into_owned();
            return Answer::Other(app.list(ends, path, wants_json(uri.query(), headers)).await);
        }
        Err(why) => return Answer::Other(app.refuse(ends, &why)),
    };
    Answer::File(served.answer(on, method, headers, whose))
}

fn script_response(text: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
    (headers, text).into_response()
}

/// The assets folder itself.
async fn folder(
    State(app): State<Arc<App>>,
    Extension(ends): Extension<Ends>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    match app.listing {
        true => app.list(ends, String::new(), wants_json(query.as_deref(), &headers)).await,
        false => app.refuse(ends, &Reason::not_found("/assets/")),
    }
}

/// With `?verbose`, what does not work although the server does: one profile that is at fault is no reason to send
/// everybody else away.
async fn ready(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    if app.is_ready.load(Ordering::Relaxed) {
        let is_verbose =
            query.is_some_and(|query| query.split('&').any(|part| part.split('=').next() == Some("verbose")));
        let faults = if is_verbose { app.live.fault_lines() } else { Vec::new() };
        let lines = std::iter::once("ready".to_owned()).chain(faults);
        lines.map(|line| line + "\n").collect::<String>().into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n").into_response()
    }
}
