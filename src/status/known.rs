//! Machines by the names that people use for them, and all machines that there are.

use std::collections::{BTreeMap, HashMap, HashSet};

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

/// A machine, and what was seen of it.
pub(super) type Row<'a> = (Who, Option<&'a machines::Machine>);

/// Everything that was seen, named by a rule or assigned something, and by what each of them is named.
pub(super) struct Known<'a> {
    /// In the order in which people look for them.
    pub(super) rows: Vec<Row<'a>>,
    /// The machines that were seen by each card, where they are known by more than the card.
    users: HashMap<MacAddr, Vec<MachineId>>,
    /// The first rule about one machine of each name, in lower case: with thousands of rules, nobody waits for a look at
    /// all of them for each machine.
    rules: HashMap<String, usize>,
}

impl<'a> Known<'a> {
    /// Of all that was seen.
    pub(super) fn new(rules: &Rules, roster: &Roster, seen: impl IntoIterator<Item = &'a machines::Machine>) -> Self {
        let rows = rows(rules, roster, seen);
        let mut users: HashMap<MacAddr, Vec<MachineId>> = HashMap::new();
        for (who, seen) in &rows {
            let Who::Machine(machine) = *who else { continue };
            let machine = of_rules(rules, machine);
            if matches!(machine.key(), Key::Card(_)) {
                continue;
            }
            let cards = seen.iter().flat_map(|seen| seen.cards.iter().copied());
            for card in cards.chain(machine.has_card().then_some(machine.card)) {
                let there = users.entry(card).or_default();
                if !there.contains(&machine) {
                    there.push(machine);
                }
            }
        }
        let mut named = HashMap::new();
        for (index, (selector, rule)) in rules.machines.iter().enumerate() {
            if let Some(name) = rule.name.as_deref().filter(|_| selector.names_one_machine()) {
                named.entry(name.to_lowercase()).or_insert(index);
            }
        }
        Self { rows, users, rules: named }
    }

    /// The rule that gives a machine its name.
    pub(super) fn rule_of<'r>(&self, rules: &'r Rules, machine: MachineId) -> Option<&'r MachineRule> {
        let name = machine.name()?;
        let (_, rule) = rules.machines.get(*self.rules.get(name)?)?;
        // The configuration may have been read again since.
        rule.name.as_deref().is_some_and(|own| own.to_lowercase() == name).then_some(rule)
    }

    /// By what a machine is shown, asked for and changed: its card, unless other machines use that too (a USB adapter, a
    /// dock). Then its card would lead to another machine, and perhaps to the wrong disk.
    pub(super) fn id(&self, who: Who) -> String {
        match who {
            Who::Machine(machine) if self.sharing(machine.card).is_some() => {
                let is_it = |other: &&MachineId| other.uuid().is_some() && other.uuid() == machine.uuid();
                let machine =
                    self.sharing(machine.card).and_then(|several| several.iter().find(is_it)).unwrap_or(&machine);
                match (machine.uuid_as_said(), machine.name()) {
                    (Some(uuid), _) => uuid.to_string(),
                    (None, Some(name)) => name.to_owned(),
                    (None, None) => who.to_string(),
                }
            }
            _ => who.to_string(),
        }
    }

    /// The machine that is meant where a card alone is said.
    ///
    /// # Errors
    /// Several machines use the card: what to say instead.
    pub(super) fn only(&self, machine: MachineId) -> Result<MachineId, String> {
        let is_by_card = matches!(machine.key(), Key::Card(_));
        let Some(several) = self.sharing(machine.card).filter(|_| is_by_card) else { return Ok(machine) };
        let described = |one: &MachineId| {
            let seen = self.rows.iter().filter_map(|(_, seen)| *seen).find(|seen| seen.who == Who::Machine(*one));
            let product = seen.and_then(machines::Machine::hardware).and_then(|hardware| hardware.product.as_deref());
            let id = self.id(Who::Machine(*one));
            product.map_or(id.clone(), |product| format!("{id} ({product})"))
        };
        let several: Vec<String> = several.iter().map(described).collect();
        Err(format!("is the MAC address of {} machines. Use the UUID of one: {}", several.len(), several.join(", ")))
    }

    fn sharing(&self, card: MacAddr) -> Option<&[MachineId]> {
        self.users.get(&card).map(Vec::as_slice).filter(|several| several.len() > 1)
    }
}

fn rows<'a>(rules: &Rules, roster: &Roster, seen: impl IntoIterator<Item = &'a machines::Machine>) -> Vec<Row<'a>> {
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
    let facts = Facts {
        mac: machine.card,
        uuid: machine.uuid_as_said(),
        serial: None,
        hardware: None,
        arch: None,
        interface: None,
    };
    // People look for the UUID that they wrote.
    let written = rules.machines.deciding(&facts).and_then(|(selector, _)| {
        selector.uuids.iter().copied().find(|uuid| machine.uuid().is_some() && own_uuid(*uuid) == machine.uuid())
    });
    rules.identity(&facts).with(machine).said_as(written)
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
        let words = "is all zeros or the address of a group: use the MAC address of a network card";
        return mac.is_of_a_card().then(|| of_rules(rules, mac.into())).ok_or(words);
    }
    let Ok(uuid) = machine.parse::<Uuid>() else {
        return Err("is neither a MAC address, nor a UUID, nor the name of a machine in a rule");
    };
    let own = own_uuid(uuid).ok_or("is a UUID that many boards share: use a MAC address")?;
    Ok(of_rules(rules, MachineId::of_key(Key::Uuid(own), []).said_as(Some(uuid))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        boot::selector::RuleBook,
        timeline::{boot::Timeline, machines::Timelines, moment::Moment},
    };

    #[test]
    fn machines_that_share_a_card_are_named_by_their_uuids() {
        let card = MacAddr([2, 0, 0, 0, 0, 1]);
        let uuids = ["11111111-2222-4333-8444-555555555551", "22222222-3333-4333-8444-555555555552"];
        let machines = uuids.map(|uuid| MachineId::new(None, Uuid::parse_str(uuid).ok(), card));
        let alone = MachineId::from(MacAddr([2, 0, 0, 0, 0, 2]));
        let mut timelines = Timelines::default();
        for machine in machines.into_iter().chain([alone]) {
            timelines.restore(machine, [Timeline::begin(1, Moment::from_secs(1))]);
        }
        let seen = timelines.snapshot(Moment::from_secs(2)).machines;
        let known = Known::new(&Rules::default(), &Roster::default(), &seen);
        assert_eq!(machines.map(|machine| known.id(Who::Machine(machine))), uuids);
        assert_eq!(known.id(Who::Machine(alone)), "02:00:00:00:00:02");
        let refused = known.only(card.into()).expect_err("two machines");
        assert!(uuids.iter().all(|uuid| refused.contains(uuid)), "{refused}");
        assert_eq!((known.only(alone), known.only(machines[0])), (Ok(alone), Ok(machines[0])));
        // One machine that has the card is named by it, however often the other one is booted by another.
        let known = Known::new(&Rules::default(), &Roster::default(), &seen[..1]);
        assert_eq!(known.id(seen[0].who), "02:00:00:00:00:01");
    }

    #[test]
    fn a_machine_has_the_first_rule_of_its_name() {
        let rule = |name: &str, card: u8, profile: &str| {
            let selector = Selector { macs: vec![MacAddr([2, 0, 0, 0, 0, card])], ..Selector::default() };
            let profile = Some(profile.to_owned());
            (selector, MachineRule { name: Some(name.into()), profile, ..MachineRule::default() })
        };
        let many = (Selector::default(), MachineRule { name: Some("K8S".into()), ..MachineRule::default() });
        let book = RuleBook::new(vec![many, rule("other", 1, "a"), rule("K8s", 2, "b"), rule("k8s", 3, "c")]);
        let rules = Rules { machines: book, ..Rules::default() };
        let known = Known::new(&rules, &Roster::default(), &[]);
        let profile = |name: &str| {
            let machine = MachineId::new(Some(name), None, MacAddr([0; 6]));
            known.rule_of(&rules, machine).and_then(|rule| rule.profile.clone())
        };
        assert_eq!(
            (profile("K8S").as_deref(), profile("other").as_deref(), profile("no")),
            (Some("b"), Some("a"), None)
        );
        // Other rules, in the meantime.
        let machine = MachineId::new(Some("other"), None, MacAddr([0; 6]));
        assert!(known.rule_of(&Rules::default(), machine).is_none());
    }

    #[test]
    fn a_uuid_is_shown_as_its_rule_has_it() {
        let written: Uuid = "4c4c4544-0042-3510-8052-b4c04f564e31".parse().expect("a UUID");
        let turned = Uuid::from_bytes(written.to_bytes_le());
        let selector = Selector { uuids: vec![written], ..Selector::default() };
        let rules = Rules { machines: RuleBook::new(vec![(selector, MachineRule::default())]), ..Rules::default() };
        let machine = MachineId::new(None, Some(turned), MacAddr([2, 0, 0, 0, 0, 1]));
        assert_eq!(of_rules(&rules, machine).uuid_as_said(), Some(written));
        assert_eq!(of_rules(&Rules::default(), machine).uuid_as_said(), Some(turned));
    }

    #[test]
    fn an_address_that_no_card_has_names_no_machine() {
        for mac in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01"] {
            assert!(named(&Rules::default(), mac).is_err_and(|words| words.contains("a network card")), "{mac}");
        }
    }

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
