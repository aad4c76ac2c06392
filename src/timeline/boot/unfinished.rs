//! What a machine still lacks of its one-time profile, from one script to the next.
//!
//! Everyone on the network can ask for a machine's script, or send a DISCOVER with its MAC address, while the machine loads its
//! files. If the count began anew with that, the profile would not be used up, and the machine would be installed again. A machine
//! that did start anew fetches all files again, in their order: it then has what it lacked no sooner than all of them.

use super::{Chosen, Timeline, Unfinished};
use crate::timeline::{handover::Bytes, moment::Moment};

impl Timeline {
    /// Takes over what the machine lacked in its boot before this one.
    pub(in crate::timeline) fn go_on_from(&mut self, before: &Self, now: Moment) {
        let is_lately = now.since(before.last) < Self::UNDER_WAY;
        self.unfinished = before.lacked().filter(|_| is_lately);
    }

    /// Keeps what the machine lacks, before another script takes the place of its script.
    pub(super) fn put_aside(&mut self) {
        self.unfinished = self.lacked();
    }

    /// Forgets it where the machine was given another profile.
    pub(super) fn is_given(&mut self, profile: &str) {
        self.unfinished.take_if(|unfinished| unfinished.chosen.profile != profile);
    }

    /// Whether it loads a one-time profile.
    pub(in crate::timeline) fn loads_once(&self, now: Moment) -> bool {
        self.waits(now) && (self.unfinished.is_some() || self.chosen_once().is_some())
    }

    fn chosen_once(&self) -> Option<&Chosen> {
        self.chosen.as_ref().filter(|chosen| chosen.once && !self.awaited.names().is_empty())
    }

    fn lacked(&self) -> Option<Box<Unfinished>> {
        let of_script = |chosen: &Chosen| Unfinished { chosen: chosen.clone(), awaited: self.awaited.clone() };
        self.unfinished.clone().or_else(|| self.chosen_once().map(of_script).map(Box::new))
    }

    /// What the machine has acknowledged of a file; whether it has all that its script, or an earlier one, names now.
    pub(super) fn has_all(&mut self, name: &str, bytes: Bytes) -> bool {
        let of_script = self.awaited.got(name, bytes);
        let of_earlier = self.unfinished.as_mut().is_some_and(|earlier| earlier.awaited.got(name, bytes));
        self.is_finished(of_script, of_earlier)
    }

    /// The same of a machine that was sent all of a file, and is silent since.
    pub(super) fn has_most_likely_all(&mut self, name: &str) -> bool {
        let of_script = self.awaited.is_silent_at_the_end_of(name);
        let earlier = self.unfinished.as_mut().map(|earlier| &mut earlier.awaited);
        let of_earlier = earlier.is_some_and(|awaited| awaited.is_silent_at_the_end_of(name));
        self.is_finished(of_script, of_earlier)
    }

    fn is_finished(&mut self, of_script: bool, of_earlier: bool) -> bool {
        let earlier = self.unfinished.take_if(|_| of_script || of_earlier);
        if let Some(earlier) = earlier.filter(|_| !of_script) {
            let Unfinished { chosen, awaited } = *earlier;
            (self.chosen, self.awaited) = (Some(chosen), awaited);
        }
        of_script || of_earlier
    }
}
