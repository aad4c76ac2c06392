//! Which rule of the configuration is about a machine: the most specific one that fits, of equals the first.

use std::{cmp::Reverse, collections::HashMap, hash::Hash};

use uuid::Uuid;

use super::{
    hardware::{Hardware, Pattern},
    identity::{is_own_serial, own_uuid},
    loader::Loader,
    mac::{MacAddr, Oui},
};

/// What a stage knows of a machine. DHCP never knows a serial number or the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The card that it boots from.
    pub mac: MacAddr,
    /// Option 97, or iPXE's `${uuid}`.
    pub uuid: Option<Uuid>,
    /// iPXE's `${serial}`.
    pub serial: Option<&'a str>,
    /// What it says of its parts.
    pub hardware: Option<&'a Hardware>,
    /// Its firmware; `None` where a query does not say.
    pub arch: Option<Loader>,
    /// The interface of ours that it is heard on; `None` where that is not known.
    pub interface: Option<&'a str>,
}

/// What a rule asks of a machine: every list that is not empty has to name it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Cards.
    pub macs: Vec<MacAddr>,
    /// SMBIOS UUIDs, in whichever byte order their owner read them.
    pub uuids: Vec<Uuid>,
    /// SMBIOS serial numbers, whole, in any case.
    pub serials: Vec<String>,
    /// Makers of machines, as these say themselves.
    pub manufacturers: Vec<Pattern>,
    /// Models.
    pub products: Vec<Pattern>,
    /// Asset tags.
    pub assets: Vec<Pattern>,
    /// The first three bytes of cards.
    pub ouis: Vec<Oui>,
    /// Interfaces of ours, by their names.
    pub interfaces: Vec<String>,
    /// Firmware.
    pub archs: Vec<Loader>,
}

impl Selector {
    fn matches(&self, facts: &Facts<'_>) -> bool {
        let is_named = |uuid: Uuid| {
            // SMBIOS 2.6 turned the first three fields round; firmware, dmidecode and labels do not agree.
            self.uuids.iter().any(|named| *named == uuid || named.to_bytes_le() == uuid.into_bytes())
        };
        let is_serial = |serial: &str| self.serials.iter().any(|named| named.eq_ignore_ascii_case(serial.trim()));
        let is_interface = |interface: &str| self.interfaces.iter().any(|named| named == interface);
        (self.macs.is_empty() || self.macs.contains(&facts.mac))
            && (self.uuids.is_empty() || facts.uuid.is_some_and(is_named))
            && (self.serials.is_empty() || facts.serial.is_some_and(is_serial))
            && self.asks_parts().into_iter().all(|(_, patterns, part)| {
                let said = facts.hardware.and_then(part);
                patterns.is_empty() || said.is_some_and(|said| patterns.iter().any(|pattern| pattern.fits(said)))
            })
            && (self.ouis.is_empty() || self.ouis.contains(&Oui::of(facts.mac)))
            && (self.interfaces.is_empty() || facts.interface.is_some_and(is_interface))
            && (self.archs.is_empty() || facts.arch.is_some_and(|arch| self.archs.contains(&arch)))
    }

    /// What it asks of a machine's parts, by the keys of the configuration.
    #[must_use]
    pub fn asks_parts(&self) -> [(&'static str, &[Pattern], Part); 3] {
        [
            ("manufacturer", &self.manufacturers, |hardware| hardware.manufacturer.as_deref()),
            ("product", &self.products, |hardware| hardware.product.as_deref()),
            ("asset", &self.assets, |hardware| hardware.asset.as_deref()),
        ]
    }

    /// The key of something that only iPXE sends, where it asks for such: no DHCP request fits it.
    #[must_use]
    pub fn known_to_ipxe_only(&self) -> Option<&'static str> {
        let serial = (!self.serials.is_empty()).then_some("serial");
        serial.or_else(|| self.asks_parts().into_iter().find(|(_, asked, _)| !asked.is_empty()).map(|(key, ..)| key))
    }

    /// Whether a machine of which only the card is known may be one that it asks for.
    #[must_use]
    pub fn may_be(&self, card: MacAddr) -> bool {
        (self.macs.is_empty() || self.macs.contains(&card))
            && (self.ouis.is_empty() || self.ouis.contains(&Oui::of(card)))
    }

    /// Whether it is about one machine: it names cards, or a UUID or a serial number that is one of its own.
    #[must_use]
    pub fn names_one_machine(&self) -> bool {
        !self.macs.is_empty()
            || self.uuids.iter().any(|uuid| own_uuid(*uuid).is_some())
            || self.serials.iter().any(|serial| is_own_serial(serial))
    }

    /// Whether what it has in common with a machine that it fits is the machine's own: a list can have what many share
    /// beside it.
    #[must_use]
    pub fn names(&self, facts: &Facts<'_>) -> bool {
        let by_uuid = || !self.uuids.is_empty() && facts.uuid.is_some_and(|uuid| own_uuid(uuid).is_some());
        let by_serial = || !self.serials.is_empty() && facts.serial.is_some_and(is_own_serial);
        !self.macs.is_empty() || by_uuid() || by_serial()
    }

    /// The more of a machine's own names, the more specific; an asset tag goes before
    /// a model, that before a machine's maker, that before a card's, that before an interface, and that before an architecture, each also before what stands behind it taken together.
    #[must_use]
    pub fn specificity(&self) -> u32 {
        let named = |is_empty: bool, weight: u32| if is_empty { 0 } else { weight };
        named(self.macs.is_empty(), 1000)
            + named(self.uuids.is_empty(), 1000)
            + named(self.serials.is_empty(), 1000)
            + named(self.assets.is_empty(), 100)
            + named(self.products.is_empty(), 40)
            + named(self.manufacturers.is_empty(), 20)
            + named(self.ouis.is_empty(), 10)
            + named(self.interfaces.is_empty(), 3)
            + named(self.archs.is_empty(), 1)
    }
}

/// Where a part is found in what a machine says.
pub type Part = fn(&Hardware) -> Option<&str>;

/// Rules in the order of the configuration, found by a machine's names without a look at all the others.
#[derive(Clone, Debug, Default)]
pub struct RuleBook<R> {
    rules: Vec<(Selector, R)>,
    by_mac: HashMap<MacAddr, Vec<usize>>,
    by_uuid: HashMap<Uuid, Vec<usize>>,
    by_serial: HashMap<String, Vec<usize>>,
    /// Those that name no single machine.
    general: Vec<usize>,
}

impl<R> RuleBook<R> {
    /// The rule at this place in the configuration.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&(Selector, R)> {
        self.rules.get(index)
    }

    /// Takes rules in the order of the configuration.
    #[must_use]
    pub fn new(rules: Vec<(Selector, R)>) -> Self {
        let mut book =
            Self { by_mac: HashMap::new(), by_uuid: HashMap::new(), by_serial: HashMap::new(), general: vec![], rules };
        for (index, (selector, _)) in book.rules.iter().enumerate() {
            // By one kind of name each, so that nothing is found twice.
            if !selector.macs.is_empty() {
                selector.macs.iter().for_each(|mac| put(&mut book.by_mac, *mac, index));
            } else if !selector.uuids.is_empty() {
                for uuid in &selector.uuids {
                    put(&mut book.by_uuid, *uuid, index);
                    put(&mut book.by_uuid, Uuid::from_bytes(uuid.to_bytes_le()), index);
                }
            } else if !selector.serials.is_empty() {
                selector.serials.iter().for_each(|serial| put(&mut book.by_serial, serial.to_lowercase(), index));
            } else {
                book.general.push(index);
            }
        }
        book
    }

    /// The rule about this machine, with its place in the configuration.
    #[must_use]
    pub fn of(&self, facts: &Facts<'_>) -> Option<(usize, &R)> {
        self.best(facts).map(|(index, _, rule)| (index, rule))
    }

    /// The rule about this machine, with its selector.
    #[must_use]
    pub fn deciding(&self, facts: &Facts<'_>) -> Option<(&Selector, &R)> {
        self.best(facts).map(|(_, selector, rule)| (selector, rule))
    }

    fn best(&self, facts: &Facts<'_>) -> Option<(usize, &Selector, &R)> {
        self.fitting(facts).max_by_key(|(index, selector, _)| (selector.specificity(), Reverse(*index)))
    }

    /// All that are about this machine, the one that decides first.
    #[must_use]
    pub fn all_of(&self, facts: &Facts<'_>) -> Vec<(usize, &Selector, &R)> {
        let mut all: Vec<_> = self.fitting(facts).collect();
        all.sort_by_key(|(index, selector, _)| (Reverse(selector.specificity()), *index));
        all
    }

    fn fitting(&self, facts: &Facts<'_>) -> impl Iterator<Item = (usize, &Selector, &R)> {
        let by_serial = facts.serial.and_then(|serial| self.by_serial.get(&serial.trim().to_lowercase()));
        let by_uuid = facts.uuid.and_then(|uuid| self.by_uuid.get(&uuid));
        let candidates = [self.by_mac.get(&facts.mac), by_uuid, by_serial, Some(&self.general)];
        candidates.into_iter().flatten().flatten().filter_map(|index| {
            let (selector, rule) = self.rules.get(*index)?;
            selector.matches(facts).then_some((*index, selector, rule))
        })
    }

    /// Whether a rule asks for a machine's parts.
    #[must_use]
    pub fn asks_parts(&self) -> bool {
        self.rules.iter().any(|(selector, _)| selector.asks_parts().iter().any(|(_, asked, _)| !asked.is_empty()))
    }

    /// All rules in their order.
    pub fn iter(&self) -> impl Iterator<Item = &(Selector, R)> {
        self.rules.iter()
    }
}

fn put<K: Eq + Hash>(index: &mut HashMap<K, Vec<usize>>, key: K, rule: usize) {
    let rules = index.entry(key).or_default();
    if rules.last() != Some(&rule) {
        rules.push(rule);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn uuid(text: &str) -> Uuid {
        text.parse().expect("a UUID")
    }

    fn facts() -> Facts<'static> {
        Facts {
            mac: MAC,
            uuid: Some(uuid("00112233-4455-6677-8899-aabbccddeeff")),
            serial: Some("CZ1234"),
            hardware: None,
            arch: Some(Loader::EfiX86_64),
            interface: Some("eth1"),
        }
    }

    fn selected(rules: Vec<Selector>, facts: Facts<'_>) -> Option<usize> {
        RuleBook::new(rules.into_iter().map(|selector| (selector, ())).collect()).of(&facts).map(|(index, ())| index)
    }

    #[test]
    fn all_that_fit_are_told_in_the_order_in_which_they_would_decide() {
        let maker = || Selector { ouis: vec![Oui::of(MAC)], ..Selector::default() };
        let card = Selector { macs: vec![MAC], ..Selector::default() };
        let other = Selector { macs: vec![MacAddr([2; 6])], ..Selector::default() };
        let book = RuleBook::new([maker(), other, card, maker()].into_iter().map(|selector| (selector, ())).collect());
        let order: Vec<usize> = book.all_of(&facts()).iter().map(|(index, ..)| *index).collect();
        assert_eq!(order, [2, 0, 3]);
        assert_eq!(book.of(&facts()), Some((2, &())));
    }

    #[test]
    fn every_part_of_a_selector_has_to_fit() {
        let fits = |selector| selected(vec![selector], facts()).is_some();
        assert!(fits(Selector::default()), "a rule that asks for nothing is everyone's");
        let mac = Selector { macs: vec![MacAddr([2; 6]), MAC], ..Selector::default() };
        assert!(fits(mac.clone()));
        assert!(fits(Selector { archs: vec![Loader::EfiX86_64], ..mac.clone() }));
        assert!(!fits(Selector { archs: vec![Loader::Bios], ..mac }));
        assert!(fits(Selector { ouis: vec![Oui([0x52, 0x54, 0])], ..Selector::default() }));
        assert!(fits(Selector { serials: vec!["cz1234".into()], ..Selector::default() }));
        for order in ["00112233-4455-6677-8899-aabbccddeeff", "33221100-5544-7766-8899-aabbccddeeff"] {
            assert!(fits(Selector { uuids: vec![uuid(order)], ..Selector::default() }), "{order}");
        }
        assert!(!fits(Selector { uuids: vec![Uuid::nil()], ..Selector::default() }));
        let on =
            |interface: &str| Selector { interfaces: vec!["eth0".into(), interface.into()], ..Selector::default() };
        assert!(fits(on("eth1")) && !fits(on("eth10")));
        let nameless = Facts { uuid: None, serial: None, hardware: None, arch: None, interface: None, ..facts() };
        for selector in [
            Selector { uuids: vec![Uuid::nil()], ..Selector::default() },
            Selector { serials: vec![String::new()], ..Selector::default() },
            Selector { archs: vec![Loader::Bios], ..Selector::default() },
            on("eth1"),
        ] {
            assert_eq!(selected(vec![selector], nameless), None);
        }
    }

    #[test]
    fn the_most_specific_rule_wins_and_of_equals_the_first() {
        let mac = || Selector { macs: vec![MAC], ..Selector::default() };
        let oui = || Selector { ouis: vec![Oui::of(MAC)], ..Selector::default() };
        let x64 = || Selector { archs: vec![Loader::EfiX86_64], ..Selector::default() };
        let eth1 = || Selector { interfaces: vec!["eth1".into()], ..Selector::default() };
        let all = Selector::default;
        assert_eq!(selected(vec![all(), x64(), eth1(), oui(), mac(), mac()], facts()), Some(4));
        let x64_on_eth1 = Selector { archs: vec![Loader::EfiX86_64], ..eth1() };
        assert_eq!(selected(vec![all(), x64(), x64_on_eth1.clone(), oui()], facts()), Some(3));
        assert_eq!(selected(vec![eth1(), x64(), x64_on_eth1], facts()), Some(2));
        assert_eq!(selected(vec![all(), x64(), eth1()], facts()), Some(2));
        assert_eq!(selected(vec![all(), x64()], facts()), Some(1));
        let mac_on_x64 = Selector { archs: vec![Loader::EfiX86_64], ..mac() };
        let mac_and_serial = Selector { serials: vec!["CZ1234".into()], ..mac() };
        assert_eq!(selected(vec![mac(), mac_on_x64.clone()], facts()), Some(1));
        assert_eq!(selected(vec![mac_on_x64, mac_and_serial], facts()), Some(1));
    }

    #[test]
    fn ten_thousand_rules_are_not_searched_one_by_one() {
        let mac = |n: u32| {
            let [_, b, c, d] = n.to_be_bytes();
            MacAddr([2, 0, 0, b, c, d])
        };
        let rules = (0..10_000).map(|n| (Selector { macs: vec![mac(n)], ..Selector::default() }, n)).collect();
        let book = RuleBook::new(rules);
        assert_eq!(book.general.len(), 0);
        for n in (0..10_000).step_by(7) {
            assert_eq!(book.of(&Facts { mac: mac(n), ..facts() }).map(|(_, n)| *n), Some(n));
        }
        assert_eq!(book.of(&facts()), None);
    }

    #[test]
    fn an_oui_is_read_as_a_mac_is() {
        for text in ["b8:27:eb", "B8-27-EB", "b827eb"] {
            assert_eq!(text.parse::<Oui>().map(|oui| oui.to_string()), Ok("b8:27:eb".into()));
        }
        for text in ["", "b8:27", "b8:27:eb:01", "b8:27:zz"] {
            assert!(text.parse::<Oui>().is_err(), "{text}");
        }
        assert!(Oui::of(MacAddr([0xb8, 0x27, 0xeb, 1, 2, 3])).is_raspberry_pi());
    }
}
