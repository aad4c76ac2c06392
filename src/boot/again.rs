//! What a change of the configuration means for machines of which something is kept: they already booted a one-time
//! profile and get another one, because it was renamed, or a rule names another one; or their assigned profile is gone.
//! Most one-time profiles are installers, which wipe a disk.

use std::collections::{BTreeMap, HashMap};

use super::{
    identity::MachineId,
    machine::{By, Choice, MachineRule, Rules},
    roster::{Entry, Roster},
    selector::Facts,
};

/// The lines for the log. `before`: the rules that were in force, none at a start; then all that is so is news.
#[must_use]
pub fn lines(before: Option<&Rules>, rules: &Rules, roster: &Roster) -> Vec<String> {
    let mut lines = installed_again(before, rules, roster);
    lines.extend(without_profile(before, rules, roster));
    lines
}

/// A line for each assigned profile that is gone, with the machines.
fn without_profile(before: Option<&Rules>, rules: &Rules, roster: &Roster) -> Vec<String> {
    let book = Book::of(rules);
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (machine, entry) in roster.iter() {
        let Some(assigned) = &entry.assigned else { continue };
        let profile = assigned.profile.as_str();
        if !rules.has_profile(profile) && before.is_none_or(|before| before.has_profile(profile)) {
            all.entry(profile).or_default().push(book.name(machine));
        }
    }
    let line = |(profile, machines): (&str, Vec<String>)| {
        let (one, who) = named(machines);
        format!(
            "the profile {profile} is gone, but it is assigned to {who}: define it, or remove each assignment (netbootd \
             unassign {one})"
        )
    };
    all.into_iter().map(line).collect()
}

/// A line for each pair of profiles, with the machines. `before`: the rules that were in force, none at a start; then a
/// machine counts where what it had is no profile any more.
fn installed_again(before: Option<&Rules>, rules: &Rules, roster: &Roster) -> Vec<String> {
    let (book, older) = (Book::of(rules), before.map(Book::of));
    let mut all: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (machine, entry) in roster.iter().filter(|(_, entry)| entry.has_had_any() || entry.tried.is_some()) {
        let Some(Choice { profile, once: true, by: By::Rule | By::Default, .. }) = book.choice(machine, entry) else {
            continue;
        };
        let rule = book.rule(machine);
        let had = entry.had_once(rule.and_then(|rule| rule.profile.as_deref()));
        let Some(had) = had.or_else(|| used_up(entry, rule?)) else { continue };
        let is_news = match &older {
            Some(older) => !older.choice(machine, entry).is_some_and(|choice| choice.once),
            None => !rules.profiles.contains_key(had),
        };
        if is_news {
            all.entry((had.to_owned(), profile.to_owned())).or_default().push(book.name(machine));
        }
    }
    all.into_iter().map(|((had, profile), machines)| line(&had, &profile, machines)).collect()
}

/// The profile that a machine was handed over to as often as its rule allows.
fn used_up<'a>(entry: &'a Entry, rule: &MachineRule) -> Option<&'a str> {
    let (most, tried) = rule.until_installed.zip(entry.tried.as_ref())?;
    (tried.count >= most).then_some(tried.profile.as_str())
}

fn line(had: &str, profile: &str, machines: Vec<String>) -> String {
    let (get, its) = if machines.len() == 1 { ("gets", "it on its disk") } else { ("get", "one on its disk") };
    let (one, who) = named(machines);
    format!(
        "{who} already booted {had} (one-time), and {get} {profile} (one-time) at the next boot; to keep {its}: netbootd \
         assign {one} local"
    )
}

/// The first of these machines, and the words for all.
fn named(mut machines: Vec<String>) -> (String, String) {
    machines.sort_unstable();
    let who = match machines.split_at_checked(SHOWN) {
        Some((shown, rest)) if !rest.is_empty() => format!("{} and {} others", shown.join(", "), rest.len()),
        _ => machines.join(", "),
    };
    (machines.into_iter().next().unwrap_or_default(), who)
}

/// Machines that a line names.
const SHOWN: usize = 5;

/// Rules, found by what is kept of machines.
struct Book<'a> {
    rules: &'a Rules,
    by_name: HashMap<String, &'a MachineRule>,
}

impl<'a> Book<'a> {
    fn of(rules: &'a Rules) -> Self {
        let named = rules.machines.iter().filter(|(selector, _)| selector.names_one_machine());
        let mut by_name = HashMap::new();
        for (_, rule) in named {
            rule.name.iter().for_each(|name| {
                by_name.entry(name.to_lowercase()).or_insert(rule);
            });
        }
        Self { rules, by_name }
    }

    /// The rule that gives a machine its name.
    fn named(&self, machine: MachineId) -> Option<&'a MachineRule> {
        machine.name().and_then(|name| self.by_name.get(name).copied())
    }

    fn rule(&self, machine: MachineId) -> Option<&'a MachineRule> {
        self.named(machine).or_else(|| {
            let (mac, uuid) = (machine.card, machine.uuid());
            let facts = Facts { mac, uuid, serial: None, hardware: None, arch: None, interface: None };
            self.rules.machines.of(&facts).map(|(_, rule)| rule)
        })
    }

    /// What people call a machine.
    fn name(&self, machine: MachineId) -> String {
        self.rule(machine).and_then(|rule| rule.name.clone()).unwrap_or_else(|| machine.to_string())
    }

    fn choice(&self, machine: MachineId, entry: &Entry) -> Option<Choice<'a>> {
        self.rules.choose(self.rule(machine), Some(entry), None, "").ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        mac::MacAddr,
        profile::{Boot, Profile},
        roster::Assignment,
        selector::{RuleBook, Selector},
    };

    fn rules(machines: &[(u8, &str, bool)], profiles: &[&str]) -> Rules {
        let rule = |(card, profile, once): &(u8, &str, bool)| {
            let selector = Selector { macs: vec![MacAddr([2, 0, 0, 0, 0, *card])], ..Selector::default() };
            let (name, profile) = (Some(format!("m{card}")), Some((*profile).to_owned()));
            (selector, MachineRule { name, profile, once: *once, ..MachineRule::default() })
        };
        let profiles = profiles.iter().map(|name| ((*name).to_owned(), Profile::from(Boot::Shell)));
        Rules {
            machines: RuleBook::new(machines.iter().map(rule).collect()),
            profiles: profiles.collect(),
            default_profile: "local".into(),
            ..Rules::default()
        }
    }

    fn had(card: u8, profile: &str) -> (MacAddr, Entry) {
        (MacAddr([2, 0, 0, 0, 0, card]), Entry { spent: Some(profile.into()), ..Entry::default() })
    }

    #[test]
    fn an_assigned_profile_that_is_gone_is_reported_with_its_machines() {
        let assigned = |card: u8, profile: &str| {
            let assignment = Assignment { profile: profile.into(), once: false };
            (MacAddr([2, 0, 0, 0, 0, card]), Entry { assigned: Some(assignment), ..Entry::default() })
        };
        let before = rules(&[(1, "local", false)], &["rescue"]);
        let after = rules(&[(1, "local", false)], &["debian"]);
        let roster: Roster = [assigned(1, "rescue"), assigned(2, "rescue"), assigned(3, "local")].into_iter().collect();
        let line = "the profile rescue is gone, but it is assigned to 02:00:00:00:00:02, m1: define it, or remove each \
                    assignment (netbootd unassign 02:00:00:00:00:02)";
        assert_eq!(lines(Some(&before), &after, &roster), [line]);
        assert_eq!(lines(None, &after, &roster), [line], "at a start, too");
        assert_eq!(lines(Some(&after), &after, &roster), [""; 0], "it was said already");
        assert_eq!(lines(None, &before, &roster), [""; 0]);
    }

    #[test]
    fn a_renamed_profile_is_reported_with_its_machines() {
        let before = rules(&[(1, "debian", true), (2, "debian", true), (3, "debian", false)], &["debian"]);
        let after = rules(&[(1, "debian12", true), (2, "debian12", true), (3, "debian12", false)], &["debian12"]);
        let roster: Roster = [had(1, "debian"), had(3, "debian")].into_iter().collect();
        let line = "m1 already booted debian (one-time), and gets debian12 (one-time) at the next boot; to keep it on its \
                    disk: netbootd assign m1 local";
        assert_eq!(lines(Some(&before), &after, &roster), [line]);
        assert_eq!(lines(None, &after, &roster), [line], "at a start, too");
        assert_eq!(lines(Some(&after), &after, &roster), [""; 0], "it was said already");
        assert_eq!(lines(Some(&before), &before, &roster), [""; 0]);
        let many: Roster = (1..=9).map(|card| had(card, "debian")).collect();
        let all: Vec<_> = (1..=9).map(|card| (card, "rescue", true)).collect();
        let two = rules(&all, &["debian", "rescue"]);
        let said = lines(Some(&before), &two, &many);
        assert!(
            said.len() == 1
                && said[0].starts_with("m1, m2, m3, m4, m5 and 4 others already booted debian (one-time), and get")
        );
        assert_eq!(lines(None, &two, &many), [""; 0], "nobody knows at a start whether that is new");
    }

    #[test]
    fn a_machine_that_used_up_its_tries_is_named_too() {
        let until = |profile: &str| {
            let selector = Selector { macs: vec![MacAddr([2, 0, 0, 0, 0, 1])], ..Selector::default() };
            let (name, profile) = (Some("m1".into()), Some(profile.to_owned()));
            let rule = MachineRule { name, profile, once: true, until_installed: Some(3), ..MachineRule::default() };
            Rules { machines: RuleBook::new(vec![(selector, rule)]), ..rules(&[], &["debian12"]) }
        };
        let tried = |count| {
            let tried = Some(crate::boot::roster::Tried { profile: "debian".into(), count, failed: None });
            let entry = Entry { tried, ..Entry::default() };
            [(MacAddr([2, 0, 0, 0, 0, 1]), entry)].into_iter().collect::<Roster>()
        };
        let (before, after) = (until("debian"), until("debian12"));
        let said = lines(Some(&before), &after, &tried(3));
        assert!(said.len() == 1 && said[0].starts_with("m1 already booted debian (one-time), and gets debian12"));
        assert_eq!(lines(None, &after, &tried(3)).len(), 1, "at a start, too");
        assert_eq!(lines(Some(&before), &after, &tried(2)), [""; 0], "it is still being installed");
    }

    #[test]
    fn a_machine_that_is_kept_from_it_is_not_named() {
        let before = rules(&[(1, "debian", true)], &["debian"]);
        let after = rules(&[(1, "debian12", true)], &["debian12"]);
        let (card, entry) = had(1, "debian");
        let kept = entry.assigned_to(Assignment { profile: "local".into(), once: false });
        assert_eq!(lines(Some(&before), &after, &[(card, kept)].into_iter().collect()), [""; 0]);
    }
}
