//! A one-time profile begins when that outlives a restart of this server, and is known to others that share its state:
//! else the machine could be given it again. So its script waits for that.

use std::{sync::atomic::Ordering, time::Duration};

use axum::response::Response;
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::timeout,
};

use super::{app::App, ends::Ends};
use crate::{
    boot::{identity::MachineId, outcome::Outcome, script::Script},
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
    told: UnboundedReceiver<()>,
    /// The script that says why not.
    refusal: Script,
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
    /// Of a machine that begins, where there is a refusal. Its script was recorded before.
    pub(super) fn new(
        app: &App,
        machine: Option<MachineId>,
        claims: bool,
        refusal: Option<Script>,
        response: Response,
    ) -> Self {
        let begins = machine.zip(refusal).map(|(machine, refusal)| {
            let (tell, told) = unbounded_channel();
            app.tell(Who::Machine(machine), What::Kept(Kept::new(Begun(tell))));
            Begins { machine, claims, told, refusal }
        });
        Self { response, begins }
    }

    /// The answer, once it may be given; else the one that says why not, as `respond` sends it.
    pub(super) async fn settled(self, app: &App, ends: Ends, respond: fn(String) -> Response) -> Response {
        let Some(Begins { machine, claims, mut told, refusal }) = self.begins else { return self.response };
        if matches!(timeout(LONGEST_WAIT, told.recv()).await, Ok(Some(()))) {
            return self.response;
        }
        app.tell_script(ends, Some(machine), claims, refusal.outcome);
        respond(refusal.text)
    }
}

impl From<Response> for Answered {
    fn from(response: Response) -> Self {
        Self { response, begins: None }
    }
}

/// Many machines may begin at the same moment.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
