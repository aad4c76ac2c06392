//! A one-time profile begins when it is kept that it does.

use super::{
    identity::MachineId,
    roster::{Entry, Roster},
    script::Script,
};

/// What decides about a script that begins a one-time profile, once it is known whether its beginning is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The script that says why it is not kept.
    pub refusal: Script,
    /// What was said of the machine when its script was written.
    before: Entry,
}

impl Beginning {
    /// Of a script that was written by this roster.
    #[must_use]
    pub fn new(refusal: Script, machine: Option<MachineId>, roster: &Roster) -> Self {
        Self { refusal, before: said(machine, roster) }
    }

    /// Whether the script still fits. Who keeps its beginning says what was changed on other appliances: a script of
    /// before that would be signed for an installation that is over, and its report would not count.
    #[must_use]
    pub fn fits(&self, machine: MachineId, roster: &Roster) -> bool {
        said(Some(machine), roster).gives_the_same_as(&self.before)
    }
}

fn said(machine: Option<MachineId>, roster: &Roster) -> Entry {
    machine.and_then(|machine| roster.of(machine)).unwrap_or_default()
}
