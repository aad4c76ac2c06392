//! Machines by the names that people use for them, and all machines that there are.

use std::collections::{BTreeMap, HashSet};

use uuid::Uuid;

use crate::{
    boot::{
        identity::{Key, MachineId, own_uuid},
        mac::MacAddr,
        machine::{MachineRule, Rules},
        roster::Roster,
        selector::{Facts, Selector},
    },
    timeline::{event::Who, machines},
};

/// Everything that was seen, named by a rule or assigned something.
pub(super) fn all<'a>(
    rules: &Rules,
    roster: &Roster,
    seen: impl IntoIterator<Item = &'a machines::Machine>,
) -> Vec<(Who, Option<&'a machines::Machine>)> {
    let mut all: BTreeMap<Who, Option<&machines::Machine>> = BTreeMap::new();
    let (mut names, mut cards): (HashSet<Key>, HashSet<MacAddr>) = Default::default();
    for machine in seen {
        if let Who::Machine(id) = machine.who {
            let id = of_rules(rules, id);
            names.extend(id.keys().filter(|key| id.uuid().is_none() || !matches!(key, Key::Card(_))));
            cards.extend(&machine.cards);
        }
        all.insert(machine.who, Some(machine));
    }
    let named = rules.machines.iter().flat_map(|(selector, rule)| machines_of(selector, rule));
    for machine in named.chain(roster.iter().map(|(machine, _)| of_rules(rules, machine))) {
        let is_seen = match machine.key() {
            Key::Card(card) => cards.contains(&card),
            key => names.contains(&key),
        };
        if !is_seen {
            all.entry(Who::Machine(machine)).or_default();
        }
    }
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by_key(|(who, _)| who.in_order());
    all
}

/// A machine with the name that its rule gives it, as far as the rule is known by what is known of the machine.
pub(super) fn of_rules(rules: &Rules, machine: MachineId) -> MachineId {
    let facts =
        Facts { mac: machine.card, uuid: machine.uuid(), serial: None, hardware: None, arch: None, interface: None };
    rules.identity(&facts).with(machine)
}

/// The rule that gives a machine its name.
pub(super) fn rule_of(rules: &Rules, machine: MachineId) -> Option<&MachineRule> {
    let name = machine.name()?;
    let is_its = |rule: &MachineRule| rule.name.as_deref().is_some_and(|own| own.to_lowercase() == name);
    let found = rules.machines.iter().find(|(selector, rule)| is_its(rule) && selector.names_one_machine());
    found.map(|(_, rule)| rule)
}

/// The machines that a rule names.
fn machines_of(selector: &Selector, rule: &MachineRule) -> Vec<MachineId> {
    let named = rule.name.as_deref().filter(|_| selector.names_one_machine());
    match named {
        Some(name) => vec![of_rule(selector, name)],
        None => selector.macs.iter().map(|mac| MachineId::from(*mac)).collect(),
    }
}

fn of_rule(selector: &Selector, name: &str) -> MachineId {
    let uuid = selector.uuids.iter().copied().find_map(own_uuid).map(Key::Uuid);
    let card = selector.macs.first().copied().map(Key::Card);
    MachineId::new(Some(name), None, MacAddr([0; 6])).with_names(uuid.into_iter().chain(card))
}

/// A machine by the name that a rule gives it, its MAC address or its UUID. A name goes first: one of twelve hexadecimal
/// digits is a MAC address too, which no machine may have.
///
/// # Errors
/// What is wrong, in words that follow the name.
pub(super) fn named(rules: &Rules, machine: &str) -> Result<MachineId, &'static str> {
    let is_named = |rule: &MachineRule| rule.name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(machine));
    if let Some((selector, _)) = rules.machines.iter().find(|(_, rule)| is_named(rule)) {
        let words = "is the name of a rule about many machines: use a MAC address or a UUID";
        return selector.names_one_machine().then(|| of_rule(selector, machine)).ok_or(words);
    }
    if let Ok(mac) = machine.parse::<MacAddr>() {
        return Ok(of_rules(rules, mac.into()));
    }
    let Ok(uuid) = machine.parse::<Uuid>() else {
        return Err("is neither a MAC address, nor a UUID, nor the name of a machine in a rule");
    };
    let uuid = own_uuid(uuid).ok_or("is a UUID that many boards share: use a MAC address")?;
    Ok(of_rules(rules, MachineId::of_key(Key::Uuid(uuid), [])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::selector::RuleBook;

    #[test]
    fn a_name_that_reads_as_an_address_is_a_name() {
        let card = MacAddr([2, 0, 0, 0, 0, 1]);
        let rule = |name: &str| {
            let selector = Selector { macs: vec![card], ..Selector::default() };
            (selector, MachineRule { name: Some(name.into()), ..MachineRule::default() })
        };
        for name in ["DEADBEEF0001", "00112233445566778899aabbccddeeff", "52-54-00-00-00-01"] {
            let rules = Rules { machines: RuleBook::new(vec![rule(name)]), ..Rules::default() };
            let found = named(&rules, &name.to_lowercase()).expect("a machine");
            assert_eq!((found.card, found.name()), (card, Some(name.to_lowercase().as_str())));
            assert_eq!(named(&rules, "02:00:00:00:00:01"), Ok(found));
        }
    }
}
