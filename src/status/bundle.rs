//! What a question about a machine's boot needs: its boots, its last packets and the configuration that applied, without
//! what is nobody else's business.

use serde_json::{Value, json};

use super::{
    known::{Known, Row},
    masked::masked,
    server::Server,
    view::{self, WholeBoot},
};
use crate::{
    boot::{
        live::Live,
        loader::{ClientArch, Loader},
        mac::MacAddr,
        machine::Rules,
        profile::{Boot, Profile},
        selector::Facts,
    },
    timeline::{
        event::Who,
        machines::{self, Packet},
        moment::Moment,
    },
};

/// The bundle, as JSON. Left out or masked are: the machine's half of its MAC address, half of
/// each IP address, its name, UUID, serial numbers, asset tag and
/// host name, the values of `vars`, users and passwords in URLs, and values of what looks like `password=…`.
#[must_use]
pub(super) fn bundle(live: &Live, server: &dyn Server, known: &Known<'_>, (who, seen): Row<'_>, now: Moment) -> Value {
    let mut machine = view::Machine::new(live, server, known, (who, seen), now);
    let numbers = take_numbers(&mut machine);
    let boots: Vec<WholeBoot> =
        seen.iter().flat_map(|seen| seen.boots.iter().rev()).map(|boot| WholeBoot::new(boot, now)).collect();
    let packets: Vec<Value> = seen.iter().flat_map(|seen| &seen.packets).map(packet).collect();
    let rules = live.rules.load();
    let mut bundle = json!({
        "netbootd": env!("CARGO_PKG_VERSION"),
        "made": now,
        "machine": &machine,
        "boots": boots,
        "packets": packets,
        "configuration": configuration(&rules, server, who, seen, machine.profile.as_deref()),
    });
    let cards = seen.map(|seen| seen.cards.clone()).unwrap_or_default();
    let own = match who {
        Who::Machine(id) => Some(id.card),
        Who::Address(_) => None,
    };
    let hidden = hidden(cards.into_iter().chain(own), machine.uuid.clone().into_iter().chain(numbers));
    mask(&mut bundle, &hidden, machine.name.as_deref().filter(|name| !name.is_empty()));
    bundle
}

/// What distinguishes one machine from others of its kind.
fn take_numbers(machine: &mut view::Machine) -> Vec<String> {
    let parts = &mut machine.hardware;
    let taken = [machine.serial.take(), parts.board_serial.take(), parts.asset.take()];
    taken.into_iter().flatten().collect()
}

/// What is masked in all texts. A machine may ask for a file by its own address or number, in either case.
fn hidden(cards: impl Iterator<Item = MacAddr>, numbers: impl Iterator<Item = String>) -> Vec<String> {
    let of_card = |card: MacAddr| {
        let text = card.to_string();
        [text.replace(':', "-"), text.replace(':', ""), text]
    };
    // A number of a few characters may be a part of any word.
    let numbers = numbers.filter(|number| number.chars().count() >= 6);
    cards.flat_map(of_card).chain(numbers).flat_map(|text| [text.to_uppercase(), text.to_lowercase(), text]).collect()
}

fn packet(Packet { at, port, bytes }: &Packet) -> Value {
    let bytes = masked_packet(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    json!({ "at": at, "port": port, "bytes": bytes })
}

fn configuration(
    rules: &Rules,
    server: &dyn Server,
    who: Who,
    seen: Option<&machines::Machine>,
    profile: Option<&str>,
) -> Value {
    let rule = match who {
        Who::Machine(machine) => {
            let heard_on = server.heard_on(machine);
            let interface = heard_on.as_deref().or_else(|| seen?.interface());
            let (mac, uuid) = (machine.card, machine.uuid());
            let hardware = seen.and_then(machines::Machine::hardware);
            let serial = seen.and_then(machines::Machine::boot).and_then(|boot| boot.serial.as_deref());
            let arch = seen.and_then(machines::Machine::arch).and_then(ClientArch::loader);
            rules.machines.of(&Facts { mac, uuid, serial, hardware, arch, interface })
        }
        Who::Address(_) => None,
    };
    let rule = rule.map(|(index, rule)| {
        json!({
            "number": index + 1, "profile": rule.profile, "once": rule.once, "loader": rule.loader,
            "local_boot": rule.local_boot, "vars": rule.vars.keys().collect::<Vec<_>>(),
        })
    });
    let loaders = Loader::ALL.into_iter().filter_map(|loader| {
        let file = rules.loaders.of(loader)?;
        Some(json!({ "for": loader.title(), "name": file.name, "sha256": file.sha256 }))
    });
    json!({
        "rule": rule,
        "rules": rules.machines.iter().count(),
        "known_only": rules.answers_known_only(),
        "profile": profile.and_then(|name| rules.profiles.get(name)).map(boots),
        "loaders": loaders.collect::<Vec<_>>(),
    })
}

/// Templates as they are written, not as they come out.
fn boots(profile: &Profile) -> Vec<Value> {
    let of =
        |(arch, boot): (Option<&str>, &Boot)| json!({ "arch": arch, "files": boot.named(), "cmdline": boot.cmdline() });
    profile.boots().map(of).collect()
}

/// A DHCP message without what distinguishes machines: half of `chaddr` and of each IP address, and the values of the
/// options that name them.
fn masked_packet(bytes: &[u8]) -> Vec<u8> {
    let mut masked = bytes.to_vec();
    masked.iter_mut().skip(31).take(3).for_each(|byte| *byte = 0);
    ADDRESSES.iter().for_each(|at| masked.iter_mut().skip(at + 2).take(2).for_each(|byte| *byte = 0));
    let mut at = OPTIONS;
    while let (Some(&code), Some(&length)) = (bytes.get(at), bytes.get(at + 1)) {
        at += match code {
            0 => 1,
            255 => break,
            _ => {
                if NAMING.contains(&code) {
                    masked.iter_mut().skip(at + 2).take(usize::from(length)).for_each(|byte| *byte = 0);
                }
                if OF_ADDRESSES.contains(&code) {
                    masked
                        .iter_mut()
                        .skip(at + 4)
                        .take(usize::from(length).saturating_sub(2))
                        .for_each(|byte| *byte = 0);
                }
                2 + usize::from(length)
            }
        };
    }
    masked
}

/// Masks in all strings; keys are ours.
fn mask(value: &mut Value, hidden: &[String], name: Option<&str>) {
    match value {
        Value::String(text) => {
            for address in hidden {
                let shown = address.len() / 2;
                let masked =
                    address.char_indices().map(|(i, c)| if i >= shown && c.is_alphanumeric() { 'x' } else { c });
                let masked: String = masked.collect();
                *text = text.replace(address, &masked);
            }
            if let Some(name) = name {
                *text = text.replace(name, "NAME");
            }
            *text = masked(text);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| mask(value, hidden, name)),
        Value::Object(values) => values.values_mut().for_each(|value| mask(value, hidden, name)),
        _ => {}
    }
}

/// Where the options of a DHCP message begin (RFC 2131 §3).
const OPTIONS: usize = 240;
/// Host name, client identifier, FQDN, client UUID (RFC 2132, RFC 4702, RFC 4578).
const NAMING: [u8; 4] = [12, 61, 81, 97];
/// Those of the header, and in options: the one that is asked for, and the leasing server's (RFC 2131 §2, RFC 2132).
const ADDRESSES: [usize; 4] = [12, 16, 20, 24];
const OF_ADDRESSES: [u8; 2] = [50, 54];

/// As text for people, in the order of a story.
#[must_use]
pub fn text(bundle: &Value) -> String {
    let section = |title: &str, value: Option<&Value>| {
        let value = value.map_or_else(String::new, |value| format!("{value:#}"));
        format!("\n## {title}\n\n{value}\n")
    };
    let word = |pointer: &str| bundle.pointer(pointer).and_then(Value::as_str);
    let cause = word("/machine/boot/stop/text").map(|cause| format!(": {cause}")).unwrap_or_default();
    let mut text = format!(
        "# A machine's boots, as netbootd {} saw them\n\n{}{cause}\n\nMAC and IP addresses, names, UUIDs, serial \
         numbers and what looks like a secret are masked; read it before you pass it on.\n",
        word("/netbootd").unwrap_or("?"),
        word("/machine/boot/state").unwrap_or("not seen"),
    );
    for (title, key) in [
        ("Machine", "machine"),
        ("Boots, the last one first", "boots"),
        ("Its last packets", "packets"),
        ("The configuration that applied", "configuration"),
    ] {
        text += &section(title, bundle.get(key));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_keeps_what_tells_firmware_apart_and_loses_what_tells_machines_apart() {
        let mut packet = vec![7; OPTIONS];
        packet.extend_from_slice(&[
            53, 1, 1, 50, 4, 10, 66, 5, 7, 0, 12, 3, b'k', b'8', b's', 60, 3, b'P', b'X', b'E', 97, 2, 9, 9, 255, 12, 1,
        ]);
        let masked = masked_packet(&packet);
        assert_eq!(masked.get(28..36), Some([7, 7, 7, 0, 0, 0, 7, 7].as_slice()));
        assert_eq!(masked.get(10..30), Some([7, 7, 7, 7, 0, 0, 7, 7, 0, 0, 7, 7, 0, 0, 7, 7, 0, 0, 7, 7].as_slice()));
        let options =
            [53, 1, 1, 50, 4, 10, 66, 0, 0, 0, 12, 3, 0, 0, 0, 60, 3, b'P', b'X', b'E', 97, 2, 0, 0, 255, 12, 1];
        assert_eq!(masked.get(OPTIONS..), Some(options.as_slice()));
        // Whatever a packet says of its lengths.
        for broken in [&[][..], &[0; 30], &[0; 34], &[[7; OPTIONS].as_slice(), &[12, 255, 1]].concat(), &[97; 300]] {
            assert_eq!(masked_packet(broken).len(), broken.len());
        }
    }

    #[test]
    fn serial_numbers_are_taken_away_and_masked_in_texts() {
        let machine = json!({
            "id": "m", "mac": null, "address": null, "name": null, "profile": null, "by": null, "once": false,
            "assigned": null, "approved": false, "spent": null, "kept": true, "last": null, "boot": null,
            "serial": "CN7016", "hardware": { "board_serial": "1", "asset": "Rack-77", "product": "R650" },
        });
        let mut machine: view::Machine = serde_json::from_value(machine).expect("a machine");
        let numbers = take_numbers(&mut machine);
        let mut shown =
            json!([machine, "no file CN7016/rack-77/1/4C4C4544-0042-3510-8052-B4C04F564E31-52-54-00-AB-CD-EF"]);
        let uuid = "4c4c4544-0042-3510-8052-b4c04f564e31".to_owned();
        let card: MacAddr = "52:54:00:ab:cd:ef".parse().expect("an address");
        mask(&mut shown, &hidden([card].into_iter(), [uuid].into_iter().chain(numbers)), None);
        assert_eq!((&shown[0]["serial"], &shown[0]["hardware"]), (&Value::Null, &json!({ "product": "R650" })));
        let text = "no file CN7xxx/racx-xx/1/4C4C4544-0042-3510-xxxx-xxxxxxxxxxxx-52-54-00-xx-xx-xx";
        assert_eq!(shown[1], text);
    }

    #[test]
    fn addresses_names_and_secrets_are_masked_wherever_they_stand() {
        let mut value = json!({
            "a": ["52:54:00:12:34:56 is k8s08", { "b": "http://x/boot?mac=52-54-00-12-34-56", "n": 5 }],
            "c": "console=ttyS0 root_password=hunter2 API-TOKEN=x hostname=k8s08 key=",
        });
        let hidden = ["52-54-00-12-34-56", "525400123456", "52:54:00:12:34:56"].map(str::to_owned);
        mask(&mut value, &hidden, Some("k8s08"));
        let expected = json!({
            "a": ["52:54:00:xx:xx:xx is NAME", { "b": "http://x/boot?mac=52-54-00-xx-xx-xx", "n": 5 }],
            "c": "console=ttyS0 root_password=… API-TOKEN=… hostname=NAME key=",
        });
        assert_eq!(value, expected);
    }
}
