//! Who asks for an answer file, where its address does not say: installers name their machine in a body or in headers.

use serde::Deserialize;

use super::{mac::MacAddr, machine::Rules, query::Query, roster::Roster};

/// What an installer says of the machine that it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installer {
    /// All its cards, in the order in which it names them.
    pub macs: Vec<MacAddr>,
    /// Its SMBIOS UUID.
    pub uuid: Option<String>,
    /// Its SMBIOS serial number.
    pub serial: Option<String>,
}

/// The body that the Proxmox installer posts (proxmox-auto-installer, `sysinfo.rs`), of which the rest means nothing
/// here; or plain `mac`, `uuid` and `serial`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    network_interfaces: Vec<Interface>,
    dmi: Dmi,
    mac: Option<String>,
    uuid: Option<String>,
    serial: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Interface {
    mac: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Dmi {
    system: System,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct System {
    uuid: Option<String>,
    serial: Option<String>,
}

impl Installer {
    /// Reads a body; what is none of those says nothing.
    #[must_use]
    pub fn of_body(body: &[u8]) -> Self {
        let Body { network_interfaces, dmi: Dmi { system }, mac, uuid, serial } =
            serde_json::from_slice(body).unwrap_or_default();
        let cards = mac.into_iter().chain(network_interfaces.into_iter().filter_map(|interface| interface.mac));
        Self {
            macs: cards.take(MOST).filter_map(|mac| mac.parse().ok()).collect(),
            uuid: said(uuid.or(system.uuid)),
            serial: said(serial.or(system.serial)),
        }
    }

    /// Reads the headers that Anaconda sends with `inst.ks.sendmac` and `inst.ks.sendsn` (dracut,
    /// anaconda-ks-sendheaders.sh): `X-RHN-Provisioning-MAC-0: eth0 52:54:00:12:34:56`, one for each card, and
    /// `X-System-Serial-Number`.
    #[must_use]
    pub fn of_headers<'a>(headers: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut installer = Self::default();
        let mut cards = Vec::new();
        for (name, value) in headers {
            let name = name.to_ascii_lowercase();
            if name == "x-system-serial-number" {
                installer.serial = said(Some(value.to_owned()));
            }
            let index = name.strip_prefix("x-rhn-provisioning-mac-").and_then(|index| index.parse::<u16>().ok());
            let mac = value.split_whitespace().last().and_then(|mac| mac.parse().ok());
            cards.extend(index.zip(mac));
        }
        cards.sort_unstable_by_key(|(index, _)| *index);
        installer.macs = cards.into_iter().map(|(_, mac)| mac).take(MOST).collect();
        installer
    }

    /// With what another one says beside it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            macs: if self.macs.is_empty() { other.macs } else { self.macs },
            uuid: self.uuid.or(other.uuid),
            serial: self.serial.or(other.serial),
        }
    }

    /// A query with what it lacks. Of several cards it is the one that the most specific rule names, else one of which
    /// something was said, else the first. A machine that names none and that a rule knows by its UUID or serial number
    /// has the rule's own, or 00:00:00:00:00:00.
    #[must_use]
    pub fn complete(self, mut query: Query, rules: &Rules, roster: &Roster) -> Query {
        query.uuid = query.uuid.filter(|uuid| !uuid.is_empty()).or(self.uuid);
        query.serial = query.serial.filter(|serial| !serial.is_empty()).or(self.serial);
        if query.mac.as_ref().is_some_and(|mac| !mac.is_empty()) {
            return query;
        }
        let rank = |mac: &MacAddr| {
            let all = rules.machines.all_of(&query.facts(*mac));
            let best = all.first().map(|(index, selector, _)| (selector.specificity(), std::cmp::Reverse(*index)));
            (best, roster.of(*mac).is_some())
        };
        // Of equals `max_by_key` takes the last.
        let best = self.macs.iter().rev().copied().max_by_key(rank);
        let mac = best.or_else(|| {
            let nobody = MacAddr([0; 6]);
            let (_, selector, _) = *rules.machines.all_of(&query.facts(nobody)).first()?;
            let is_of_it = |mac: &MacAddr| rank(mac).0.is_some();
            Some(selector.macs.iter().copied().find(is_of_it).unwrap_or(nobody))
        });
        query.mac = mac.map(|mac| mac.to_string());
        query
    }
}

fn said(value: Option<String>) -> Option<String> {
    value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// Cards of a machine that are looked at.
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::{
        machine::MachineRule,
        selector::{RuleBook, Selector},
    };

    const BODY: &str = r#"{
        "$schema": {"version": "1.0"},
        "product": {"fullname": "Proxmox VE", "product": "pve", "enable_btrfs": true},
        "iso": {"release": "8.4", "isorelease": "1"},
        "dmi": {
            "system": {"serial": " CZ 1234 ", "uuid": "00112233-4455-6677-8899-aabbccddeeff", "name": "x", "sku": ""},
            "baseboard": {}, "chassis": {"serial": "other"}
        },
        "network_interfaces": [
            {"link": "eno1", "mac": "52:54:00:00:00:01"}, {"link": "eno2", "mac": "52:54:00:00:00:02"}, {"link": "x"}
        ]
    }"#;

    fn mac(last: u8) -> MacAddr {
        MacAddr([0x52, 0x54, 0, 0, 0, last])
    }

    #[test]
    fn a_machine_is_read_from_a_body_and_from_headers() {
        let installer = Installer::of_body(BODY.as_bytes());
        assert_eq!(installer.macs, [mac(1), mac(2)]);
        assert_eq!(installer.uuid.as_deref(), Some("00112233-4455-6677-8899-aabbccddeeff"));
        assert_eq!(installer.serial.as_deref(), Some("CZ 1234"));
        let plain = Installer::of_body(br#"{"mac": "52-54-00-00-00-01", "uuid": ""}"#);
        assert_eq!(plain, Installer { macs: vec![mac(1)], ..Installer::default() });
        for body in ["", "[]", "{", "{\"network_interfaces\": 1}", "\u{0}"] {
            assert_eq!(Installer::of_body(body.as_bytes()), Installer::default(), "{body}");
        }
        let headers = [
            ("X-RHN-Provisioning-MAC-10", "eth10 52:54:00:00:00:0a"),
            ("x-rhn-provisioning-mac-2", "eth2 52:54:00:00:00:02"),
            ("X-RHN-Provisioning-MAC-0", "eth0 52:54:00:00:00:01"),
            ("X-RHN-Provisioning-MAC-x", "eth0 52:54:00:00:00:09"),
            ("X-RHN-Provisioning-MAC-1", "none"),
            ("X-System-Serial-Number", "CZ 1234"),
        ];
        let installer = Installer::of_headers(headers);
        assert_eq!((installer.macs, installer.serial.as_deref()), (vec![mac(1), mac(2), mac(10)], Some("CZ 1234")));
    }

    #[test]
    fn the_card_is_the_one_that_a_rule_names() {
        let rule = |name: &str| MachineRule { name: Some(name.into()), ..MachineRule::default() };
        let by_mac = Selector { macs: vec![mac(2)], ..Selector::default() };
        let by_serial = Selector { serials: vec!["cz 9".into()], ..Selector::default() };
        let rules =
            Rules { machines: RuleBook::new(vec![(by_serial, rule("a")), (by_mac, rule("b"))]), ..Rules::default() };
        let complete = |installer: Installer, query: Query| installer.complete(query, &rules, &Roster::default());
        let found = complete(Installer::of_body(BODY.as_bytes()), Query::default());
        assert_eq!(found.mac.as_deref(), Some("52:54:00:00:00:02"));
        assert_eq!(found.serial.as_deref(), Some("CZ 1234"));
        // Cards that no rule names: the first. What the address says goes first.
        let others = Installer { macs: vec![mac(7), mac(8)], ..Installer::default() };
        assert_eq!(complete(others.clone(), Query::default()).mac.as_deref(), Some("52:54:00:00:00:07"));
        let named = Query { mac: Some("52:54:00:00:00:08".into()), ..Query::default() };
        assert_eq!(complete(others, named.clone()), named);
        let serial = |serial: &str| Installer { serial: Some(serial.into()), ..Installer::default() };
        assert_eq!(complete(serial("CZ 9"), Query::default()).mac.as_deref(), Some("00:00:00:00:00:00"));
        assert_eq!(complete(serial("CZ 8"), Query::default()).mac, None);
    }
}
