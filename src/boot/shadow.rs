//! Rules about machines that another rule keeps from deciding.

use std::collections::HashMap;

use uuid::Uuid;

use super::{hardware::Pattern, selector::Selector};

/// A rule that loses machines to an earlier one, which fits them as well and is as specific.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// Its place among all rules.
    pub rule: usize,
    /// What it loses.
    pub lost: Vec<Lost>,
    /// Whether nothing is left to it.
    pub wholly: bool,
}

/// One name of a selector that leads to another rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The key of the selector: `mac`, `uuid`, `serial`, `manufacturer`, `product`, `asset`, `oui`, `interface` or `arch`.
    pub key: &'static str,
    /// Its place in the key's list.
    pub index: usize,
    /// The rule that wins.
    pub to: usize,
}

/// All rules that never decide, or not for all that they name. `rules` are in the order of the configuration.
pub fn shadowed<'a>(rules: impl Iterator<Item = &'a Selector>) -> Vec<Shadowed> {
    // Of equal specificity are rules that ask for the same kinds of names, and those that ask for one single machine's
    // name each by another kind: of the latter nobody knows whether they mean the same machine.
    let mut earlier: HashMap<Sought, Vec<(usize, &Selector)>> = HashMap::new();
    let mut found = Vec::new();
    for (rule, selector) in rules.enumerate() {
        let kinds = kinds(selector);
        let asked: Vec<bool> = kinds.iter().map(|(_, names)| !names.is_empty()).collect();
        let Some((key, names)) = kinds.iter().find(|(_, names)| !names.is_empty()) else { continue };
        let mut lost = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let before = earlier.entry((asked.clone(), name.clone())).or_default();
            match before.iter().find(|(_, other)| is_within_but_for(key, selector, other)) {
                Some((to, _)) if *to == rule => {}
                Some((to, _)) => lost.push(Lost { key, index, to: *to }),
                None => before.push((rule, selector)),
            }
        }
        if !lost.is_empty() {
            found.push(Shadowed { rule, wholly: lost.len() == names.len(), lost });
        }
    }
    found
}

/// Which kinds of names a rule asks for, and one of the first kind.
type Sought = (Vec<bool>, String);

/// Whether all that `one` asks for beside the names of `key`, `other` takes as well.
fn is_within_but_for(key: &str, one: &Selector, other: &Selector) -> bool {
    let of_other = kinds(other);
    kinds(one)
        .iter()
        .zip(&of_other)
        .all(|((kind, names), (_, others))| *kind == key || names.iter().all(|name| others.contains(name)))
}

/// A selector's names by kind, each in the one notation that makes equals equal.
fn kinds(selector: &Selector) -> [(&'static str, Vec<String>); 9] {
    let patterns = |all: &[Pattern]| all.iter().map(ToString::to_string).collect();
    let uuid = |uuid: &Uuid| (*uuid).min(Uuid::from_bytes(uuid.to_bytes_le())).to_string();
    [
        ("mac", selector.macs.iter().map(ToString::to_string).collect()),
        ("uuid", selector.uuids.iter().map(uuid).collect()),
        ("serial", selector.serials.iter().map(|serial| serial.to_ascii_lowercase()).collect()),
        ("manufacturer", patterns(&selector.manufacturers)),
        ("product", patterns(&selector.products)),
        ("asset", patterns(&selector.assets)),
        ("oui", selector.ouis.iter().map(ToString::to_string).collect()),
        ("interface", selector.interfaces.clone()),
        ("arch", selector.archs.iter().map(|arch| arch.arch().to_owned()).collect()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{loader::Loader, mac::MacAddr};

    fn macs(last: &[u8]) -> Selector {
        Selector { macs: last.iter().map(|last| MacAddr([2, 0, 0, 0, 0, *last])).collect(), ..Selector::default() }
    }

    fn lost(key: &'static str, index: usize, to: usize) -> Lost {
        Lost { key, index, to }
    }

    #[test]
    fn the_first_of_two_rules_about_a_machine_takes_it_from_the_second() {
        let of = |rules: &[Selector]| shadowed(rules.iter());
        assert_eq!(of(&[macs(&[1]), macs(&[2]), macs(&[])]), []);
        let whole = Shadowed { rule: 1, lost: vec![lost("mac", 0, 0)], wholly: true };
        assert_eq!(of(&[macs(&[1, 2]), macs(&[2])]), [whole]);
        let part = Shadowed { rule: 1, lost: vec![lost("mac", 1, 0)], wholly: false };
        assert_eq!(of(&[macs(&[1]), macs(&[2, 1])]), [part]);
        // By two rules together.
        let both = Shadowed { rule: 2, lost: vec![lost("mac", 0, 0), lost("mac", 1, 1)], wholly: true };
        assert_eq!(of(&[macs(&[1]), macs(&[2]), macs(&[1, 2])]), [both]);
        // The same name twice in one rule is nobody's loss.
        assert_eq!(of(&[macs(&[1, 1])]), []);
    }

    #[test]
    fn a_rule_that_asks_for_more_or_for_something_else_keeps_its_machines() {
        let x64 = |selector: Selector| Selector { archs: vec![Loader::EfiX86_64], ..selector };
        let both = |selector: Selector| Selector { archs: vec![Loader::Bios, Loader::EfiX86_64], ..selector };
        let is_lost = |rules: &[Selector]| shadowed(rules.iter()).iter().any(|found| found.rule == 1);
        assert!(!is_lost(&[macs(&[1]), x64(macs(&[1]))]));
        assert!(!is_lost(&[x64(macs(&[1])), both(macs(&[1]))]));
        assert!(is_lost(&[both(macs(&[1])), x64(macs(&[1]))]));
        assert!(is_lost(&[both(Selector::default()), x64(Selector::default())]));
        let on = |interface: &str| Selector { interfaces: vec![interface.into()], ..Selector::default() };
        assert!(is_lost(&[on("eth1"), on("eth1")]) && !is_lost(&[on("eth1"), on("eth2")]));
        assert!(!is_lost(&[on("eth1"), x64(on("eth1"))]));
        assert!(is_lost(&[both(on("eth1")), x64(on("eth1"))]) && !is_lost(&[both(on("eth2")), x64(on("eth1"))]));
    }

    #[test]
    fn a_uuid_in_the_other_byte_order_and_a_serial_in_capitals_are_the_same() {
        let uuid = |text: &str| Selector { uuids: vec![text.parse().expect("a UUID")], ..Selector::default() };
        let turned = [uuid("00112233-4455-6677-8899-aabbccddeeff"), uuid("33221100-5544-7766-8899-aabbccddeeff")];
        assert_eq!(shadowed(turned.iter()).len(), 1);
        let serial = |text: &str| Selector { serials: vec![text.into()], ..Selector::default() };
        assert_eq!(shadowed([serial("cz12"), serial("CZ12")].iter()).len(), 1);
    }
}
