//! What was said of machines while the server ran: the profile that one is assigned, whether it has booted that already,
//! and whether it is answered at all.
//!
//! It goes before the configuration's rules, is kept by `state`, and is replaced as a whole, never changed in place.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::identity::{Key, MachineId};

/// What was said of every machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    entries: HashMap<Key, Entry>,
    /// Any name of a machine → the entries of machines that were known by it.
    index: HashMap<Key, BTreeSet<Key>>,
    /// The names that rules give to single machines.
    names: Arc<Names>,
}

/// Names of machines, as [`Key::Name`] has them, with the cards and UUIDs by which the rule of each knows its machine. None
/// where it knows it by other things too.
pub type Names = BTreeMap<&'static str, BTreeSet<Key>>;

/// What was said of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The profile that it boots, instead of its rule's.
    pub assigned: Option<Assignment>,
    /// Answered also where only known machines are, and no rule names it.
    pub approved: bool,
    /// The one-time profile that it has booted: now it goes on to its local disk.
    pub spent: Option<String>,
    /// The one-time profiles that it had booted before something else was assigned: no rule gives it these again.
    #[serde(default)]
    pub had: BTreeSet<String>,
    /// Hand-overs of a profile that is served until the machine reports that it is installed.
    pub tried: Option<Tried>,
    /// The one-time profile whose script the machine has, and which it was not handed over to yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Begun>,
    /// Its last hand-over to something that it is to have once.
    #[serde(skip)]
    pub handed_over: Option<HandedOver>,
    /// How often a person gave it its one-time profile again, after it had begun: what was signed for it before the last
    /// time decides nothing.
    #[serde(skip)]
    pub renewed: u64,
    /// Nobody knows how what was begun went on: the appliance that knows is silent.
    #[serde(skip)]
    pub is_in_doubt: bool,
    /// All names that the machine was known by when this was said.
    #[serde(skip)]
    pub known_as: BTreeSet<Key>,
}

/// A one-time profile whose script a machine was given. It is kept only where several appliances share a state.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Begun {
    /// The profile.
    pub profile: String,
    /// The appliance that gave it.
    pub by: String,
}

/// A hand-over, by a clock that all appliances share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// To this profile.
    pub profile: String,
    /// In seconds since 1970.
    pub at: u64,
}

/// Hand-overs without a report that it is installed.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Tried {
    /// Of this profile.
    pub profile: String,
    /// How many.
    pub count: u32,
    /// The words of the last report that it failed.
    pub failed: Option<String>,
}

/// A profile that a machine boots.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Assignment {
    /// Its name.
    pub profile: String,
    /// The next boot that comes to its hand-over only.
    pub once: bool,
}

/// A change of what is said of a machine, for the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Under this name.
    pub key: Key,
    /// What is said now.
    pub entry: Entry,
    /// Entries that it takes the place of.
    pub replaced: Vec<Key>,
    /// Entries of other machines, which a change of the rules' names had left together with this one.
    pub also: Vec<(Key, Entry)>,
}

impl Entry {
    /// Whether it is enough to answer the machine where only known ones are answered: who gives it something to boot
    /// means it to boot.
    #[must_use]
    pub fn makes_known(&self) -> bool {
        self.approved || self.assigned.is_some()
    }

    /// Whether it may be all that keeps a machine from its installer.
    fn protects(&self) -> bool {
        let is_for_good = self.assigned.as_ref().is_some_and(|assigned| !assigned.once);
        is_for_good || self.has_begun()
    }

    /// Whether it has begun with a one-time profile.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_had_any() || self.tried.is_some() || self.begun.is_some()
    }

    /// Whether it has booted a one-time profile.
    #[must_use]
    pub fn has_had_any(&self) -> bool {
        self.spent.is_some() || !self.had.is_empty()
    }

    /// Whether it has booted this one-time profile: the one that it is assigned, or one of a rule.
    #[must_use]
    pub fn has_had(&self, profile: &str, is_assigned: bool) -> bool {
        self.spent.as_deref() == Some(profile) || !is_assigned && self.had.contains(profile)
    }

    /// The one-time profile that it has booted, for people: its rule's, where it has had that.
    #[must_use]
    pub fn had_once<'a>(&'a self, by_rule: Option<&'a str>) -> Option<&'a str> {
        let of_rule = by_rule.filter(|profile| self.assigned.is_none() && self.has_had(profile, false));
        of_rule.or(self.spent.as_deref()).or(self.had.first().map(String::as_str))
    }

    /// What is said once it has booted this one-time profile.
    #[must_use]
    pub fn spent_on(self, profile: String) -> Self {
        Self { spent: Some(profile), tried: None, ..self.set_aside() }
    }

    /// What is said once it is assigned a profile. That it was installed stays said: it must not be installed again when
    /// the assignment is taken back.
    #[must_use]
    pub fn assigned_to(self, assignment: Assignment) -> Self {
        Self { assigned: Some(assignment), spent: None, ..self.set_aside() }
    }

    fn set_aside(mut self) -> Self {
        self.had.extend(self.spent.clone());
        self
    }

    /// Whether the machine would be given the same by this, and with the same addresses for its reports.
    #[must_use]
    pub fn gives_the_same_as(&self, other: &Self) -> bool {
        let decides = |entry: &Self| {
            let Self { assigned, spent, had, tried, renewed, .. } = entry.clone();
            (assigned, spent, had, tried, renewed)
        };
        decides(self) == decides(other)
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { assigned, approved, spent, had, tried, begun, renewed, .. } = self;
        let is_said = *approved || assigned.is_some() || spent.is_some() || tried.is_some() || begun.is_some();
        !is_said && had.is_empty() && *renewed == 0
    }

    /// What a weaker name of the same machine adds. Of two that contradict each other the stronger one counts.
    fn or(self, weaker: &Self) -> Self {
        Self {
            assigned: self.assigned.or_else(|| weaker.assigned.clone()),
            approved: self.approved || weaker.approved,
            had: self.had.union(&weaker.had).chain(&weaker.spent).cloned().collect(),
            spent: self.spent.or_else(|| weaker.spent.clone()),
            tried: self.tried.or_else(|| weaker.tried.clone()),
            begun: self.begun.or_else(|| weaker.begun.clone()),
            handed_over: self.handed_over.or_else(|| weaker.handed_over.clone()),
            renewed: self.renewed.max(weaker.renewed),
            is_in_doubt: self.is_in_doubt || weaker.is_in_doubt,
            known_as: self.known_as.union(&weaker.known_as).copied().collect(),
        }
    }
}

impl Roster {
    /// What was said of a machine, under any of its names.
    #[must_use]
    pub fn of(&self, machine: impl Into<MachineId>) -> Option<Entry> {
        let found = self.found(machine.into());
        let entries = found.iter().filter_map(|key| self.entries.get(key));
        entries.fold(None, |stronger: Option<Entry>, weaker| {
            Some(stronger.map_or_else(|| weaker.clone(), |stronger| stronger.or(weaker)))
        })
    }

    /// The entries of a machine, those under its strongest names first.
    ///
    /// A card may be an adapter that several machines use. So an entry that is found by the card alone is another
    /// machine's where both have a UUID and these differ. A request without a UUID is taken for each machine that used the
    /// card: the one that was installed is not installed again.
    ///
    /// What is kept under the name of another rule is never this machine's, even if both have one UUID, as clones of a
    /// virtual machine do. A name that no rule has any more is one that the machine had before. So is one that the rule of
    /// another machine has now: who renumbers machines gives their names on.
    fn found(&self, machine: MachineId) -> Vec<Key> {
        let mut found: Vec<Key> = Vec::new();
        for name in machine.keys() {
            for key in self.index.get(&name).into_iter().flatten() {
                let may_be = !matches!(name, Key::Card(_)) || self.may_be(*key, machine);
                if may_be && !found.contains(key) && !self.is_of_another_rule(*key, machine) {
                    found.push(*key);
                }
            }
        }
        found
    }

    fn is_of_another_rule(&self, key: Key, machine: MachineId) -> bool {
        let Some(own) = machine.name() else { return false };
        if !self.is_under_another_name(key, own) {
            return false;
        }
        !self.was_renamed(key, own) || self.entries.contains_key(&machine.key())
    }

    /// Whether an entry that is kept under the name of another rule is of the machine that has this name now.
    fn was_renamed(&self, key: Key, own: &str) -> bool {
        let knows =
            |name: &'static str| self.names.get(name).is_some_and(BTreeSet::is_empty) || self.is_about(name, key);
        self.is_about(own, key) && !self.rule_names(key).any(knows)
    }

    /// Whether an entry is kept under the names of other rules only.
    fn is_under_another_name(&self, key: Key, own: &str) -> bool {
        self.rule_names(key).next().is_some() && self.rule_names(key).all(|name| name != own)
    }

    /// The names of an entry that rules have now.
    fn rule_names(&self, key: Key) -> impl Iterator<Item = &'static str> {
        let names = self.known_as(key).filter_map(|key| if let Key::Name(name) = key { Some(name) } else { None });
        names.filter(|name| self.names.contains_key(name))
    }

    fn known_as(&self, key: Key) -> impl Iterator<Item = Key> {
        let known_as = self.entries.get(&key).into_iter().flat_map(|entry| &entry.known_as);
        known_as.copied().chain([key])
    }

    /// Whether the rule of this name names a card or the UUID of an entry.
    fn is_about(&self, name: &str, key: Key) -> bool {
        self.names.get(name).is_some_and(|keys| self.known_as(key).any(|known| keys.contains(&known)))
    }

    /// The name that the machine has now whose entry is kept under this name, where its rule has another one.
    fn now_named(&self, own: &str) -> Option<&'static str> {
        let key = self.entries.get_key_value(&Key::Name(self.names.get_key_value(own)?.0)).map(|(key, _)| *key)?;
        let is_its = self.names.get(own).is_some_and(BTreeSet::is_empty) || self.is_about(own, key);
        let mut others = self.names.keys().copied().filter(|name| *name != own);
        others.find(|name| !is_its && self.is_about(name, key))
    }

    /// Where rules give these names.
    #[must_use]
    pub fn among(self: &Arc<Self>, names: &Arc<Names>) -> Arc<Self> {
        match self.names == *names {
            true => self.clone(),
            false => Arc::new(Self { names: names.clone(), ..Self::clone(self) }),
        }
    }

    /// Without anything that was said, where rules give the same names.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self { names: self.names.clone(), ..Self::default() }
    }

    fn may_be(&self, key: Key, machine: MachineId) -> bool {
        let Some(uuid) = machine.uuid() else { return true };
        let known_as = self.entries.get(&key).map(|entry| &entry.known_as);
        let uuids = || known_as.into_iter().flatten().chain([&key]).filter(|key| matches!(key, Key::Uuid(_)));
        uuids().next().is_none() || uuids().any(|known| *known == Key::Uuid(uuid))
    }

    /// What changes where something else is said of a machine. `beside`: other names that it is known by.
    #[must_use]
    pub fn change(&self, machine: MachineId, beside: &[Key], change: impl FnOnce(Entry) -> Entry) -> Change {
        let key = machine.key();
        let own = machine.name().unwrap_or_default();
        let is_others =
            |key: &Key| !own.is_empty() && self.is_under_another_name(*key, own) && self.was_renamed(*key, own);
        let there = machine.keys().flat_map(|name| self.index.get(&name).into_iter().flatten().copied());
        let others: BTreeSet<Key> = there.filter(is_others).collect();
        let found: Vec<Key> = self.found(machine).into_iter().filter(|key| !others.contains(key)).collect();
        let mut entry = change(self.of(machine).unwrap_or_default());
        let mut also = Vec::new();
        // From now on it has an entry of its own.
        for key in others {
            let mut left = self.entries.get(&key).cloned().unwrap_or_default();
            left.known_as.retain(|key| matches!(key, Key::Name(_)));
            also.push((key, left));
        }
        // What is kept under its name is another machine's, too, which was renamed.
        if let Some(other) = self.now_named(own) {
            let left = self.entries.get(&key).cloned().unwrap_or_default();
            entry.known_as.clear();
            if !self.entries.contains_key(&Key::Name(other)) {
                let known_as = left.known_as.iter().filter(|name| !matches!(name, Key::Name(_))).copied();
                let known_as = known_as.chain([Key::Name(other)]).collect();
                also.push((Key::Name(other), Entry { known_as, ..left }));
            }
        }
        entry.known_as.extend(found.iter().chain(beside).copied().chain(machine.keys()));
        if !own.is_empty() {
            entry
                .known_as
                .retain(|key| !matches!(key, Key::Name(name) if *name != own && self.names.contains_key(name)));
        }
        Change { key, entry, replaced: found.into_iter().filter(|other| *other != key).collect(), also }
    }

    /// With a change; an entry that says nothing is taken out.
    #[must_use]
    pub fn changed(&self, change: &Change) -> Self {
        let mut changed = self.clone();
        changed.take(change.clone());
        changed
    }

    /// Takes a change in.
    pub fn take(&mut self, Change { key, entry, replaced, also }: Change) {
        replaced.iter().for_each(|key| self.set(*key, Entry::default()));
        also.into_iter().for_each(|(key, entry)| self.set(key, entry));
        self.set(key, entry);
    }

    /// Puts an entry in its place; one that says nothing is taken out.
    pub fn set(&mut self, key: Key, entry: Entry) {
        let before = self.entries.remove(&key);
        for name in before.iter().flat_map(|before| &before.known_as).chain([&key]) {
            if let Some(keys) = self.index.get_mut(name) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.index.remove(name);
                }
            }
        }
        if !entry.is_empty() {
            for name in entry.known_as.iter().chain([&key]) {
                self.index.entry(*name).or_default().insert(key);
            }
            self.entries.insert(key, entry);
        }
    }

    /// With a mark on each machine whose one-time profile was begun by an appliance that is not among these: it is silent,
    /// so nobody knows whether the machine was handed over.
    #[must_use]
    pub fn in_doubt(self: &Arc<Self>, heard: &BTreeSet<String>) -> Arc<Self> {
        let is_in_doubt = |entry: &Entry| entry.begun.as_ref().is_some_and(|begun| !heard.contains(&begun.by));
        if !self.entries.values().any(is_in_doubt) {
            return self.clone();
        }
        let mut marked = Self::clone(self);
        marked.entries.values_mut().for_each(|entry| entry.is_in_doubt = is_in_doubt(entry));
        Arc::new(marked)
    }

    /// Says something else of a machine; an entry that says nothing is taken out.
    #[must_use]
    pub fn with(&self, machine: impl Into<MachineId>, entry: Entry) -> Self {
        self.changed(&self.change(machine.into(), &[], |before| Entry { known_as: before.known_as, ..entry }))
    }

    /// What changes by itself, when a machine boots or reports.
    ///
    /// What is said of a card alone, and keeps a disk from being wiped, stays said of the card: another machine may use the
    /// card now, or somebody may say that one does.
    #[must_use]
    pub fn noted(&self, machine: MachineId, beside: &[Key], change: impl FnOnce(Entry) -> Entry) -> Change {
        let change = self.change(machine, beside, change);
        let protects = |key: &Key| {
            let is_card = matches!(key, Key::Card(_));
            is_card && self.entries.get(key).is_some_and(Entry::protects)
        };
        Change { replaced: change.replaced.iter().filter(|key| !protects(key)).copied().collect(), ..change }
    }

    /// All machines of which something was said.
    pub fn iter(&self) -> impl Iterator<Item = (MachineId, &Entry)> {
        self.entries.iter().map(|(key, entry)| (MachineId::of_key(*key, entry.known_as.iter().copied()), entry))
    }

    /// All entries, by the names that they are kept under.
    pub fn entries(&self) -> impl Iterator<Item = (Key, &Entry)> {
        self.entries.iter().map(|(key, entry)| (*key, entry))
    }

    /// With the entries of a state.
    #[must_use]
    pub fn of_entries(entries: HashMap<Key, Entry>) -> Self {
        let mut index: HashMap<Key, BTreeSet<Key>> = HashMap::new();
        for (key, entry) in &entries {
            for name in entry.known_as.iter().chain([key]) {
                index.entry(*name).or_default().insert(*key);
            }
        }
        Self { entries, index, names: Arc::default() }
    }
}

impl<M: Into<MachineId>> FromIterator<(M, Entry)> for Roster {
    fn from_iter<I: IntoIterator<Item = (M, Entry)>>(entries: I) -> Self {
        entries.into_iter().fold(Self::default(), |roster, (machine, entry)| roster.with(machine, entry))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::boot::{
        mac::MacAddr,
        machine::{By, MachineRule, Rules},
        profile::{Boot, Profile},
        selector::{Facts, RuleBook, Selector},
    };

    const A: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xa]);
    const B: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xb]);

    fn id(name: Option<&str>, uuid: Option<u128>, card: MacAddr) -> MachineId {
        MachineId::new(name, uuid.map(uuid::Uuid::from_u128), card)
    }

    const U1: Option<u128> = Some(0x4c4c4544_0042_3510_8052_b4c04f564e31);
    const U2: Option<u128> = Some(0x4c4c4544_0042_3510_8052_b4c04f564e32);

    fn spent() -> Entry {
        Entry { spent: Some("demo".into()), ..Entry::default() }
    }

    #[test]
    fn machines_that_rules_name_are_two_whatever_else_they_share() {
        let c1 = id(Some("c1"), U1, A);
        let roster = Arc::new(Roster::default().with(c1, spent()));
        let both = roster.among(&Arc::new(Names::from([("c1", BTreeSet::new()), ("c2", BTreeSet::new())])));
        for c2 in [id(Some("c2"), U1, B), id(Some("c2"), None, A), id(Some("c2"), U1, A)] {
            assert_eq!(both.of(c2), None, "{c2:?}");
            let change = both.change(c2, &[], |before| before.spent_on("demo".into()));
            assert_eq!((change.key, change.replaced.as_slice()), (c2.key(), [].as_slice()));
            let after = both.changed(&change);
            let renewed = after.changed(&after.change(c2, &[], |_| Entry::default()));
            assert!(renewed.of(c1).is_some() && renewed.of(c2).is_none(), "{c2:?}");
        }
        assert!(both.of(id(Some("c1"), U2, B)).is_some(), "it has another board");
        assert!(both.of(id(None, U1, B)).is_some(), "no rule says that it is another one");
        let renamed = roster.among(&Arc::new(Names::from([("new", BTreeSet::new())])));
        assert!(renamed.of(id(Some("new"), U1, B)).is_some(), "its rule has another name now");
    }

    fn names<const N: usize>(rules: [(&'static str, &[MacAddr]); N]) -> Arc<Names> {
        let keys = |cards: &[MacAddr]| cards.iter().copied().map(Key::Card).collect();
        Arc::new(rules.into_iter().map(|(name, cards)| (name, keys(cards))).collect())
    }

    /// A machine is put in between, and all behind it get the next number.
    #[test]
    fn a_machine_that_was_installed_is_not_installed_again_when_its_name_is_given_to_another() {
        let (a, b) = (id(Some("k09"), U1, A), id(Some("k08"), U2, B));
        let before = Arc::new(Roster::default().with(id(Some("k08"), U1, A), spent()));
        let roster = before.among(&names([("k08", &[B]), ("k09", &[A])]));
        assert!(roster.of(a).is_some(), "it is installed again under its new name");
        assert!(
            roster.of(b).is_some(),
            "it may be the same machine with another card: a person has to say that it is not"
        );
        // Whatever is said of either leaves the other one as it is.
        for said in [Entry::default(), Entry { approved: true, ..Entry::default() }] {
            let other = roster.changed(&roster.change(b, &[], |_| said.clone()));
            assert_eq!(other.of(a).and_then(|entry| entry.spent).as_deref(), Some("demo"), "{said:?}");
            assert_eq!(other.of(b).and_then(|entry| entry.spent), None, "{said:?}");
            let own = roster.changed(&roster.change(a, &[], |_| said.clone()));
            assert_eq!(own.of(b).and_then(|entry| entry.spent).as_deref(), Some("demo"), "{said:?}");
            assert_eq!(own.of(a).and_then(|entry| entry.spent), None, "{said:?}");
        }
        // Two that swap their names.
        let swapped = Roster::default().with(id(Some("n1"), U1, A), spent()).with(id(Some("n2"), U2, B), spent());
        let swapped = Arc::new(swapped).among(&names([("n1", &[B]), ("n2", &[A])]));
        let (a, b) = (id(Some("n2"), U1, A), id(Some("n1"), U2, B));
        for (one, other) in [(a, b), (b, a)] {
            assert!(swapped.of(one).is_some());
            let renewed = swapped.changed(&swapped.change(one, &[], |_| Entry::default()));
            assert!(renewed.of(other).is_some() && renewed.of(one).is_none());
            let noted = swapped.changed(&swapped.noted(one, &[], |before| before.spent_on("more".into())));
            assert_eq!(noted.of(other).and_then(|entry| entry.spent).as_deref(), Some("demo"));
        }
        // A card that was replaced is still the same machine's.
        let replaced = before.among(&names([("k08", &[B])]));
        assert!(replaced.of(id(Some("k08"), U2, B)).is_some());
    }

    #[test]
    fn two_machines_that_use_one_adapter_are_two() {
        let roster = Roster::default().with(id(None, U1, A), spent());
        assert!(roster.of(id(None, U1, A)).is_some() && roster.of(id(None, U1, B)).is_some(), "by another card too");
        assert_eq!(roster.of(id(None, U2, A)), None);
        // Who does not say which of them it is may be the one that was installed.
        assert!(roster.of(A).is_some());
        assert_eq!(roster.of(B), None);
    }

    #[test]
    fn an_assignment_for_one_boot_by_a_card_is_of_the_machine_that_boots_it() {
        let once = Some(Assignment { profile: "demo".into(), once: true });
        let roster = Roster::default().with(A, Entry { assigned: once, ..Entry::default() });
        assert!(roster.of(id(None, U1, A)).is_some());
        let change = roster.noted(id(None, U1, A), &[], |before| Entry { spent: Some("demo".into()), ..before });
        let booted = roster.changed(&change);
        assert!(booted.of(id(None, U1, B)).is_some(), "from now on by its UUID");
        assert_eq!(booted.of(id(None, U2, A)), None, "another machine behind the same adapter");
        assert_eq!(booted.iter().count(), 1);
    }

    #[test]
    fn what_keeps_a_card_from_an_installer_is_taken_away_by_no_other_machine_that_uses_it() {
        let roster = Roster::default().with(A, spent());
        let change = roster.noted(id(None, U2, A), &[], |before| Entry { spent: Some("other".into()), ..before });
        let after = roster.changed(&change);
        assert_eq!(after.of(id(None, U1, A)).and_then(|entry| entry.spent), Some("demo".into()));
    }

    #[test]
    fn a_rule_that_gets_or_loses_its_name_changes_nothing() {
        let named = Roster::default().with(id(Some("n"), U1, A), spent());
        assert!(named.of(id(None, U1, B)).is_some() && named.of(id(Some("m"), U1, A)).is_some());
        let plain = Roster::default().with(id(None, U1, A), spent());
        assert!(plain.of(id(Some("n"), U1, B)).is_some());
        let renewed = plain.with(id(Some("n"), U1, B), Entry::default());
        assert_eq!(renewed, Roster::default());
    }

    /// One boot: a machine, the card that it boots by, and whether it sends its UUID.
    fn boots() -> impl Strategy<Value = Vec<(usize, u8, bool, bool)>> {
        proptest::collection::vec((0..4_usize, 0..3_u8, any::<bool>(), any::<bool>()), 1..40)
    }

    proptest! {
        /// For any order of boots, by any cards: no machine that was installed is given its installer again, and none that
        /// was not, and says who it is, is sent away.
        #[test]
        fn each_machine_is_installed_once(boots in boots()) {
            let rule = MachineRule { profile: Some("demo".into()), once: true, ..MachineRule::default() };
            let profiles = BTreeMap::from([("demo".to_owned(), Profile::from(Boot::Shell))]);
            let machines = RuleBook::new(vec![(Selector::default(), rule)]);
            let rules = Rules { machines, profiles, ..Rules::default() };
            let (mut roster, mut installed) = (Roster::default(), BTreeSet::new());
            for (machine, card, says, completes) in boots {
                let mac = MacAddr([2, 0, 0, 0, 0, card]);
                let own = Uuid::from_u128(0x4c4c4544_0042_3510_8052_b4c04f564e40 + machine as u128);
                let told = if machine % 2 == 0 { own } else { Uuid::from_bytes(own.to_bytes_le()) };
                // One that does not send its UUID cannot be distinguished from others that use its card, so it looks only.
                let facts = Facts { mac, uuid: says.then_some(told), serial: None, hardware: None, arch: None, interface: None };
                let said = rules.said(&facts, &roster);
                let rule = rules.rule(&facts, &roster).expect("a rule");
                let choice = rules.choose(rule, said.as_ref(), None, "x86_64").expect("a choice");
                let is_served = choice.by == By::Rule;
                if says {
                    prop_assert_eq!(is_served, !installed.contains(&machine), "machine {} by card {}", machine, card);
                }
                if is_served && says && completes {
                    let note = |before| Entry { spent: Some(choice.profile.to_owned()), ..before };
                    roster = roster.changed(&roster.noted(rules.identity(&facts), &[], note));
                    installed.insert(machine);
                }
            }
        }
    }
}
