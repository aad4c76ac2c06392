//! An event → what it is counted as. Pure.

use std::time::Duration;

use crate::{
    boot::{
        outcome::{Outcome, Way},
        over::{Of, Over},
    },
    offers::rival::Rival,
    timeline::{
        event::{Report, ReportEvent, What},
        stage::Stage,
    },
};

/// What an event is counted as, taken down before the timelines take it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The stage that it belongs to; `None` for a transfer's, which its timeline knows.
    pub(super) stage: Option<Stage>,
    /// What it came to; `None` for what is on its way.
    pub(super) outcome: Option<&'static str>,
    /// What brought it, and how many bytes were news.
    pub(super) carried: Option<(Over, Of, u64)>,
    /// Of a transfer that was whole.
    pub(super) took: Option<Duration>,
    /// Another server's fault.
    pub(super) rival: Option<&'static str>,
}

impl Tally {
    const NOTHING: Self = Self { stage: None, outcome: None, carried: None, took: None, rival: None };

    /// Of the DISCOVER in a request, beside what came of it.
    pub const DISCOVER: Self = Self { stage: Some(Stage::Discover), outcome: Some(OK), ..Self::NOTHING };

    /// The stage of a transfer that failed as the one before it did, and so has no line.
    pub(super) fn stage_of_repetition(&self) -> Option<Stage> {
        let (_, of, _) = self.carried.filter(|_| self.outcome.is_some_and(|outcome| outcome != OK))?;
        Some(if of == Of::Loader { Stage::Loader } else { Stage::File })
    }

    /// Of an event.
    #[must_use]
    pub fn of(what: &What) -> Self {
        let at = |stage, outcome| Self { stage: Some(stage), outcome: Some(outcome), ..Self::NOTHING };
        match what {
            What::Discover(_) => Self::DISCOVER,
            // A DISCOVER is counted beside it.
            What::Request(request) if request.offer.is_none() => Self::NOTHING,
            What::Request(request) if request.discover.is_none() => at(Stage::BootServer, OK),
            What::Offer(_) | What::Request(_) => at(Stage::Offer, OK),
            What::TookOffer(_) => at(Stage::Offer, "taken"),
            What::BootServer(_) => at(Stage::BootServer, OK),
            What::Refused(why) => at(Stage::Refused, why.label()),
            What::Script(outcome) | What::OwnScript(outcome) => at(Stage::Script, script(outcome)),
            What::Started(progress) | What::Progress(progress) => {
                Self { carried: Some((progress.over, progress.of, progress.fresh)), ..Self::NOTHING }
            }
            What::Transfer(transfer) | What::Part(transfer, _) => Self {
                outcome: Some(transfer.failure.as_ref().map_or(OK, |failure| failure.label())),
                carried: Some((transfer.over, transfer.of, transfer.fresh)),
                took: transfer.failure.is_none().then_some(transfer.took),
                ..Self::NOTHING
            },
            What::Answer { .. } => at(Stage::Answer, OK),
            What::Rival(Rival { fault, .. }) => Self { rival: Some(fault.label()), ..Self::NOTHING },
            What::Said(_) => at(Stage::Syslog, OK),
            What::Retry => at(Stage::Script, "retry"),
            What::Report(Report { event, .. }) | What::SignedReport(Report { event, .. }, _) => {
                at(Stage::Reported, report(event))
            }
            What::Pace(_)
            | What::Silent(_)
            | What::Own(_)
            | What::Address(_)
            | What::TookLoader(_)
            | What::ShimRuns
            | What::NotHere(_)
            | What::Firmware(_)
            | What::Forgotten
            | What::OfferedAddress(_)
            | What::OtherNetwork { .. }
            | What::Hardware(_)
            | What::Kept(_)
            | What::Serial(_)
            | What::HeardOn(_)
            | What::NotSaidWhose(_)
            | What::LittleMemory(_)
            | What::SharedUuid(_) => Self::NOTHING,
        }
    }
}

fn script(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Bootstrap => "bootstrap",
        Outcome::Grub => "grub",
        Outcome::Refused(_, why) => why.label(),
        Outcome::Chosen { way: Way::Boot(_) | Way::Disk(_) | Way::Elsewhere, .. } => "boot",
        Outcome::Chosen { way: Way::Menu, .. } => "menu",
        Outcome::Chosen { way: Way::Local, .. } => "local",
        Outcome::Chosen { way: Way::Shell, .. } => "shell",
    }
}

fn report(event: &ReportEvent) -> &'static str {
    match event {
        ReportEvent::Installed => "installed",
        ReportEvent::Failed => "failed",
        ReportEvent::Other(_) => "other",
    }
}

const OK: &str = "ok";
