//! A one-time profile begins when that outlives a restart of this server, and is known to others that share its state:
//! else the machine could be given it again. So its script waits for that.

use std::{sync::atomic::Ordering, time::Duration};

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::{app::App, ends::Ends};
use crate::{
    boot::{beginning::Beginning, identity::MachineId, outcome::Outcome},
    timeline::{
        event::{What, Who},
        kept::{Kept, Waiting},
    },
};

/// An answer, and what it waits for.
pub(super) struct Answered {
    response: Response,
    begins: Option<Begins>,
}

/// A script that waits.
struct Begins {
    machine: MachineId,
    claims: bool,
    beginning: Box<Beginning>,
    told: UnboundedReceiver<()>,
}

/// Where it is said that it does.
#[derive(Debug)]
struct Begun(UnboundedSender<()>);

impl Waiting for Begun {
    fn is_kept(&self) {
        // Who asked may have gone.
        let _ = self.0.send(());
    }
}

/// Whether a machine that gets this outcome begins a one-time profile, which is kept.
pub(super) fn is_kept(app: &App, outcome: &Outcome) -> bool {
    outcome.is_once() && app.live.is_kept.load(Ordering::Relaxed)
}

impl Answered {
    /// Of a machine that begins a one-time profile, if it does. Its script was recorded before.
    pub(super) fn new(
        app: &App,
        machine: Option<MachineId>,
        claims: bool,
        beginning: Option<Box<Beginning>>,
        response: Response,
    ) -> Self {
        let begins = machine.zip(beginning).map(|(machine, beginning)| {
            let told = wait(app, machine);
            Begins { machine, claims, beginning, told }
        });
        Self { response, begins }
    }

    /// The answer, once it may be given; else the one that says why not, as `respond` sends it.
    pub(super) async fn settled(self, app: &App, ends: Ends, respond: fn(String) -> Response) -> Response {
        let Some(Begins { machine, claims, beginning, told }) = self.begins else { return self.response };
        if is_told(told).await {
            let still_fits = beginning.fits(machine, &app.live.roster.load());
            return if still_fits { self.response } else { ask_again() };
        }
        let refusal = beginning.refusal;
        app.tell_script(ends, Some(machine), claims, refusal.outcome);
        respond(refusal.text)
    }
}

impl From<Response> for Answered {
    fn from(response: Response) -> Self {
        Self { response, begins: None }
    }
}

/// Waits until what was said of a machine before outlives a restart, for a limited time.
pub(super) async fn kept(app: &App, machine: MachineId) {
    if app.live.is_kept.load(Ordering::Relaxed) {
        is_told(wait(app, machine)).await;
    }
}

fn wait(app: &App, machine: MachineId) -> UnboundedReceiver<()> {
    let (tell, told) = unbounded_channel();
    app.tell(Who::Machine(machine), What::Kept(Kept::new(Begun(tell))));
    told
}

async fn is_told(mut told: UnboundedReceiver<()>) -> bool {
    matches!(timeout(LONGEST_WAIT, told.recv()).await, Ok(Some(())))
}

/// iPXE does so by itself.
pub(super) fn ask_again() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")], "busy: ask again\n").into_response()
}

/// Many machines may begin at the same moment.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
