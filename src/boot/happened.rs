//! What is said of a machine, or happens to it, as a value: several appliances tell it to one state, each in its turn,
//! and it may come late.

use serde::{Deserialize, Serialize};

use super::{
    identity::{Key, MachineId},
    roster::{Assignment, Begun, Change, Entry, HandedOver, Roster, Tried},
};

/// Something that happened, with the machine that it happened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The machine.
    pub machine: MachineId,
    /// Other names that it is known by.
    pub beside: Vec<Key>,
    /// What happened.
    pub what: Happened,
    /// When, in milliseconds since 1970 by the clock of the host that saw it.
    pub at: u64,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// A person gave it a profile.
    Assigned(Assignment),
    /// A person took that back.
    Unassigned,
    /// A person gave it its one-time profile again.
    Renewed,
    /// A person let it in, or no more.
    Approved(bool),
    /// An appliance of this name gave it the script of a one-time profile.
    Begun(Begun),
    /// It was handed over to its one-time profile, or reported that it is installed.
    Spent(String),
    /// It has everything of a profile that is served until it reports that it is installed.
    Tried(String),
    /// It reported that such a profile failed, in these words.
    Failed(String, String),
}

impl Happened {
    /// Whether a machine may be installed twice where this is lost.
    #[must_use]
    pub fn keeps_from_a_second_installation(&self) -> bool {
        !matches!(self, Self::Assigned(_) | Self::Unassigned | Self::Renewed | Self::Approved(_))
    }

    /// What is said of the machine afterwards. `now`: in seconds by a clock that all appliances share, when it happened.
    ///
    /// A hand-over that two appliances saw is one. One that comes late, after a person gave the machine something
    /// anew, uses that up all the same: nobody knows whether the machine began before or after it, and a disk that is
    /// wiped is worse than an installation that a person has to give again.
    #[must_use]
    pub fn apply(self, before: Entry, now: u64) -> Entry {
        match self {
            Self::Assigned(assignment) => Entry { begun: None, ..before.assigned_to(assignment) },
            Self::Unassigned => Entry { assigned: None, ..before },
            Self::Renewed => {
                let renewed = before.renewed.saturating_add(u64::from(before.has_begun()));
                Entry { spent: None, had: Default::default(), tried: None, begun: None, renewed, ..before }
            }
            Self::Approved(approved) => Entry { approved, ..before },
            Self::Begun(begun) => {
                // One that was handed over meanwhile is not begun any more.
                let is_over = before.has_had(&begun.profile, before.assigned.is_some());
                Entry { begun: Some(begun).filter(|_| !is_over), ..before }
            }
            // A report that it is installed is no hand-over, however soon after it.
            Self::Spent(profile) if before.is_same(&profile, now) && !before.is_tried(&profile) => {
                Entry { begun: None, ..before }
            }
            Self::Spent(profile) => {
                let handed_over = Some(HandedOver { profile: profile.clone(), at: now });
                Entry { begun: None, handed_over, ..before.spent_on(profile) }
            }
            Self::Tried(profile) if before.is_same(&profile, now) => Entry { begun: None, ..before },
            Self::Tried(profile) => {
                let tried = before.tried.clone().filter(|tried| tried.profile == profile);
                let Tried { count, failed, .. } = tried.unwrap_or_default();
                let handed_over = Some(HandedOver { profile: profile.clone(), at: now });
                let tried = Some(Tried { profile, count: count.saturating_add(1), failed });
                Entry { tried, begun: None, handed_over, ..before }
            }
            Self::Failed(profile, words) => {
                let tried = before.tried.clone().filter(|tried| tried.profile == profile);
                let tried = Tried { profile, failed: Some(words), ..tried.unwrap_or_default() };
                Entry { tried: Some(tried), begun: None, ..before }
            }
        }
    }
}

impl Entry {
    /// Whether this hand-over is the one that another appliance has reported: no machine boots twice so soon.
    fn is_same(&self, profile: &str, now: u64) -> bool {
        self.handed_over.as_ref().is_some_and(|last| last.profile == profile && last.at.abs_diff(now) <= ONE_BOOT)
    }

    /// Whether it was handed over to this profile, and is awaited to report that it is installed.
    fn is_tried(&self, profile: &str) -> bool {
        self.tried.as_ref().is_some_and(|tried| tried.profile == profile)
    }
}

/// Seconds.
const ONE_BOOT: u64 = 10;

impl Roster {
    /// What changes by it; `now` as in [`Happened::apply`].
    #[must_use]
    pub fn after(&self, Note { machine, beside, what, .. }: &Note, now: u64) -> Change {
        let what = what.clone();
        match what.keeps_from_a_second_installation() {
            true => self.noted(*machine, beside, |before| what.apply(before, now)),
            false => self.change(*machine, beside, |before| what.apply(before, now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::Arc,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::boot::{
        mac::MacAddr,
        machine::{MachineRule, Rules},
        profile::{Boot, Profile},
        selector::{Facts, RuleBook, Selector},
    };

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);

    fn note(what: Happened) -> Note {
        Note { machine: MAC.into(), beside: vec![], what, at: 0 }
    }

    fn once() -> Happened {
        Happened::Assigned(Assignment { profile: "demo".into(), once: true })
    }

    fn after(happened: impl IntoIterator<Item = (Happened, u64)>) -> Entry {
        let roster = happened.into_iter().fold(Roster::default(), |roster, (what, now)| {
            let change = roster.after(&note(what), now);
            roster.changed(&change)
        });
        roster.of(MAC).unwrap_or_default()
    }

    #[test]
    fn a_hand_over_that_two_appliances_saw_is_one() {
        let spent = || Happened::Spent("demo".into());
        let again = after([(once(), 1), (spent(), 100), (once(), 101), (spent(), 102)]);
        assert!(!again.has_had("demo", true), "what was given between the two is still there: {again:?}");
        let later = after([(once(), 1), (spent(), 100), (once(), 101), (spent(), 200)]);
        assert!(later.has_had("demo", true), "another boot: {later:?}");
        let tried = || Happened::Tried("demo".into());
        let count = |times: &[u64]| after(times.iter().map(|at| (tried(), *at))).tried.map(|tried| tried.count);
        assert_eq!((count(&[100, 101]), count(&[100, 101, 200])), (Some(1), Some(2)));
    }

    #[test]
    fn a_report_at_the_moment_of_its_hand_over_counts() {
        let (tried, spent) = (|| Happened::Tried("demo".into()), || Happened::Spent("demo".into()));
        for happened in [[(tried(), 100), (spent(), 100)], [(spent(), 100), (tried(), 100)]] {
            let entry = after(happened);
            assert!(entry.has_had("demo", false) && entry.tried.is_none(), "{entry:?}");
        }
        let failed = Happened::Failed("demo".into(), "no disk".into());
        let at_last = after([(tried(), 100), (failed, 101), (spent(), 105)]);
        assert!(at_last.has_had("demo", false), "{at_last:?}");
    }

    #[test]
    fn each_time_that_a_begun_installation_is_given_again_is_counted() {
        let renewed = |happened: &[Happened]| after(happened.iter().cloned().zip((100..).step_by(100))).renewed;
        let tried = Happened::Tried("demo".into());
        assert_eq!(renewed(&[Happened::Renewed]), 0, "it had not begun");
        assert_eq!(renewed(&[tried.clone(), Happened::Renewed, Happened::Renewed]), 1);
        assert_eq!(renewed(&[tried.clone(), Happened::Renewed, tried, Happened::Unassigned, Happened::Renewed]), 2);
    }

    #[test]
    fn what_comes_late_uses_up_what_was_given_meanwhile() {
        let entry = after([(once(), 1), (once(), 500), (Happened::Spent("demo".into()), 30)]);
        assert!(entry.has_had("demo", true), "{entry:?}");
    }

    /// An appliance of the model: what it knows, and what it has not told yet.
    #[derive(Clone, Default)]
    struct Appliance {
        known: Roster,
        waiting: Vec<(Happened, u64)>,
        is_cut_off: bool,
        heard_at: u64,
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A boot by this appliance, which may come to its hand-over; the other one may see that too.
        Boot { by: usize, completes: bool, both_see: bool },
        /// An appliance loses the state, or has it again.
        Cut(usize, bool),
        /// A person gives the machine its profile, on this appliance.
        Assign(usize),
        /// Time for everyone to tell and hear.
        Exchange,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..2_usize, any::<bool>(), any::<bool>())
                .prop_map(|(by, completes, both_see)| Step::Boot { by, completes, both_see }),
            2 => (0..2_usize, any::<bool>()).prop_map(|(which, cut)| Step::Cut(which, cut)),
            1 => (0..2_usize).prop_map(Step::Assign),
            2 => Just(Step::Exchange),
        ];
        proptest::collection::vec(step, 1..60)
    }

    fn rules() -> Rules {
        let rule = MachineRule { profile: Some("demo".into()), once: true, ..MachineRule::default() };
        let profiles = BTreeMap::from([("demo".to_owned(), Profile::from(Boot::Shell))]);
        let machines = RuleBook::new(vec![(Selector::default(), rule)]);
        Rules { machines, profiles, ..Rules::default() }
    }

    /// Two appliances and the state that they share.
    struct Site {
        rules: Rules,
        appliances: [Appliance; 2],
        shared: Roster,
        /// Ten seconds a step: between two boots of a machine.
        now: u64,
    }

    impl Site {
        fn new() -> Self {
            Self { rules: rules(), appliances: Default::default(), shared: Roster::default(), now: 1000 }
        }

        /// What an appliance that is not cut off does several times a second.
        fn exchange(&mut self) {
            for appliance in self.appliances.iter_mut().filter(|appliance| !appliance.is_cut_off) {
                for (what, at) in appliance.waiting.drain(..) {
                    self.shared = self.shared.changed(&self.shared.after(&note(what), at));
                }
                appliance.heard_at = self.now;
            }
            for appliance in self.appliances.iter_mut().filter(|appliance| !appliance.is_cut_off) {
                appliance.known = self.shared.clone();
            }
        }

        fn heard(&self) -> BTreeSet<String> {
            let heard = self.appliances.iter().enumerate().filter(|(_, appliance)| appliance.heard_at == self.now);
            heard.map(|(number, _)| number.to_string()).collect()
        }

        /// Whether it would give the machine its one-time profile.
        fn serves(&self, by: usize) -> bool {
            let appliance = &self.appliances[by];
            // Who does not know the state as it is now gives nothing for one boot.
            if appliance.is_cut_off {
                return false;
            }
            let facts = Facts { mac: MAC, uuid: None, serial: None, hardware: None, arch: None, interface: None };
            let roster = Arc::new(appliance.known.clone()).in_doubt(&self.heard());
            let rule = self.rules.rule(&facts, &roster).expect("a rule");
            let said = self.rules.said(&facts, &roster);
            self.rules.choose(rule, said.as_ref(), None, "x86_64").is_ok_and(|choice| choice.once)
        }

        fn tell(&mut self, by: usize, what: Happened) {
            self.appliances[by].waiting.push((what, self.now));
        }
    }

    proptest! {
        /// Whatever is lost between two appliances and their state: a machine is given its installer again only where
        /// a person said so after its last hand-over.
        #[test]
        fn no_partition_installs_a_machine_twice(steps in steps()) {
            let mut site = Site::new();
            let mut is_installed = false;
            for step in steps {
                site.now += 20;
                site.exchange();
                match step {
                    Step::Boot { by, completes, both_see } => {
                        if !site.serves(by) {
                            continue;
                        }
                        prop_assert!(!is_installed, "it was installed, and is installed again");
                        let begun = Begun { profile: "demo".into(), by: by.to_string() };
                        site.tell(by, Happened::Begun(begun));
                        // The state has this before the machine has its files, or the machine is not given them.
                        site.exchange();
                        if completes {
                            is_installed = true;
                            // From here on nothing is sure to arrive.
                            site.tell(by, Happened::Spent("demo".into()));
                            if both_see {
                                site.tell(1 - by, Happened::Spent("demo".into()));
                            }
                        }
                    }
                    Step::Cut(which, cut) => site.appliances[which].is_cut_off = cut,
                    Step::Assign(by) => {
                        // Where the state cannot be reached, nothing is changed.
                        if !site.appliances[by].is_cut_off {
                            site.shared = site.shared.changed(&site.shared.after(&note(once()), site.now));
                            is_installed = false;
                        }
                    }
                    Step::Exchange => {}
                }
            }
            // Once all are back, all say the same.
            site.appliances.iter_mut().for_each(|appliance| appliance.is_cut_off = false);
            site.now += 20;
            site.exchange();
            prop_assert_eq!(&site.appliances[0].known, &site.appliances[1].known);
            prop_assert!(!is_installed || !site.serves(0));
        }
    }
}
