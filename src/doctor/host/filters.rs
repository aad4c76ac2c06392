//! Judges packet filters: which packets of a boot they drop, and how to let them pass.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::seen::{Host, Link, Manager, What};
use crate::doctor::{
    finding::{Finding, Fix, Verdict},
    firewall::{Culprit, Fate, Packet, Way, fate},
};

/// Packets of a boot, in words.
struct Probe {
    what: &'static str,
    /// The port that a rule has to open: protocol and number.
    port: (u8, u16),
    way: Way,
    is_established: bool,
    is_broadcast: bool,
}

/// Whether packet filters let boots pass.
pub(super) fn filters(host: &Host) -> Vec<Finding> {
    if let Some(why) = &host.filters.unreadable {
        let text = format!("the packet filters of this host cannot be read: {why}");
        return vec![Finding::of_host("firewall_unreadable", Verdict::Note, text)];
    }
    let (mut ends, mut doubts) = (BTreeMap::new(), BTreeMap::new());
    for link in &host.links {
        for probe in probes(host) {
            let packet = packet(link, &probe);
            let key = |culprit: Culprit| (link.name.clone(), culprit);
            match fate(&host.filters.chains, &packet) {
                Fate::Passes => {}
                Fate::Ends(culprit) => ends.entry(key(culprit)).or_insert_with(Vec::new).push(probe),
                Fate::MayEnd(culprit) => doubts.entry(key(culprit)).or_insert_with(Vec::new).push(probe),
            }
        }
    }
    let bridged: Vec<Finding> = host.links.iter().filter_map(|link| bridged(host, link)).collect();
    if ends.is_empty() && doubts.is_empty() && bridged.is_empty() {
        let text = match host.filters.chains.is_empty() {
            true => "this host has no packet filter",
            false => "the packet filters of this host let boots pass",
        };
        return vec![Finding::of_host("firewall", Verdict::Ok, text)];
    }
    let doubt = doubts.into_iter().map(|((link, culprit), probes)| {
        let text = format!("a packet filter may drop {} on {link}", list(&probes));
        let finding = Finding::of_host("firewall_may_drop", Verdict::Note, text).seen(culprit.to_string());
        opened(finding, host.filters.manager, &link, &culprit, &probes)
    });
    let end = ends.into_iter().map(|((link, culprit), probes)| {
        let text = format!("a packet filter drops {} on {link}", list(&probes));
        let finding = Finding::of_host("firewall_drops", Verdict::Fault, text).seen(culprit.to_string());
        opened(finding, host.filters.manager, &link, &culprit, &probes)
    });
    end.chain(doubt).chain(bridged).collect()
}

/// What a filter does to the machines on a bridge of this host, such as virtual machines. Docker drops what is forwarded.
fn bridged(host: &Host, link: &Link) -> Option<Finding> {
    let probe = Probe { what: "", port: (17, 67), way: Way::Through, is_established: false, is_broadcast: true };
    let culprit = match fate(&host.filters.chains, &packet(link, &probe)) {
        Fate::Ends(culprit) if link.is_filtered_bridge => culprit,
        _ => return None,
    };
    let interface = &link.name;
    let text = format!(
        "a packet filter drops DHCP between the ports of the bridge {interface}: a machine on one port gets no address \
         from a DHCP server on another"
    );
    let fix = match host.filters.manager {
        Manager::Firewalld => "sudo sysctl -w net.bridge.bridge-nf-call-iptables=0".to_owned(),
        Manager::Ufw => format!("sudo ufw route allow in on {interface} out on {interface}"),
        Manager::Nobody => {
            let Culprit { table, base, .. } = &culprit;
            match table.split_once(' ').filter(|(program, _)| program.starts_with("iptables")) {
                Some((program, table)) => {
                    format!("sudo {program} -t {table} -I {base} -i {interface} -o {interface} -j ACCEPT")
                }
                None => {
                    format!("sudo nft insert rule {table} {base} iifname {interface} oifname {interface} accept")
                }
            }
        }
    };
    let finding = Finding::of_host("bridge_filtered", Verdict::Warning, text).seen(culprit.to_string());
    Some(finding.fixed_by(Fix::Run(fix)))
}

fn list(probes: &[Probe]) -> String {
    let names: Vec<&str> = probes.iter().map(|probe| probe.what).collect();
    names.join(", ")
}

/// Whether a packet filter drops DHCP on an interface.
#[must_use]
pub fn drops_dhcp(host: &Host, link: &Link) -> bool {
    let ends = |probe: &Probe| matches!(fate(&host.filters.chains, &packet(link, probe)), Fate::Ends(_));
    probes(host).iter().any(|probe| probe.port == (17, 67) && ends(probe))
}

fn probes(host: &Host) -> Vec<Probe> {
    let number = |wanted: What| host.ports.iter().find(|port| port.what == wanted).map(|port| port.number);
    let probe = |what, port, way| Probe { what, port, way, is_established: false, is_broadcast: false };
    let mut probes = Vec::new();
    // At layer 2, packets do not pass the filters. Another DHCP server of this host needs the port.
    let is_held = host.ports.iter().any(|port| port.what == What::Dhcp && !port.holders.is_empty());
    if number(What::Dhcp).is_some() && (is_held || !host.is_at_layer_2()) {
        probes.push(Probe { is_broadcast: true, ..probe("DHCP requests (UDP port 67)", (17, 67), Way::In) });
        probes.push(Probe { is_broadcast: true, ..probe("offers (from UDP port 67)", (17, 67), Way::Out) });
    }
    if number(What::BootServer).is_some() {
        probes.push(probe("requests to the boot server (UDP port 4011)", (17, 4011), Way::In));
        probes.push(probe("answers of the boot server (from UDP port 4011)", (17, 4011), Way::Out));
    }
    if let Some(tftp) = number(What::Tftp) {
        probes.push(probe("TFTP requests (UDP port 69)", (17, tftp), Way::In));
        let established = probe("TFTP acknowledgements (UDP, any port)", (17, TRANSFER), Way::In);
        probes.push(Probe { is_established: true, ..established });
        probes.push(probe("TFTP data (UDP, any port)", (17, TRANSFER), Way::Out));
    }
    if let Some(http) = number(What::Http) {
        probes.push(probe("HTTP (its TCP port)", (6, http), Way::In));
        probes.push(Probe { is_established: true, ..probe("HTTP answers (from its TCP port)", (6, http), Way::Out) });
    }
    probes
}

/// Firmware has no address when it asks by DHCP, and one of this network afterwards.
fn packet<'a>(link: &'a Link, probe: &Probe) -> Packet<'a> {
    let own = link.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let neighbour = Ipv4Addr::from_bits(own.to_bits() ^ 1);
    let (protocol, port) = probe.port;
    let client = if port == 67 { 68 } else { 2070 };
    let (theirs, ours) = match probe.is_broadcast {
        true => (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST),
        false => (neighbour, own),
    };
    let (from, to) = match probe.way {
        Way::In | Way::Through => ((theirs, client), (ours, port)),
        Way::Out => ((own, port), (if probe.is_broadcast { Ipv4Addr::BROADCAST } else { neighbour }, client)),
    };
    let Probe { way, is_established, is_broadcast, .. } = *probe;
    Packet { way, interface: &link.name, protocol, from, to, is_established, is_broadcast }
}

/// The commands that let these packets pass.
fn opened(mut finding: Finding, manager: Manager, link: &str, culprit: &Culprit, probes: &[Probe]) -> Finding {
    let incoming = probes.iter().filter(|probe| probe.way == Way::In);
    let transfers = incoming.clone().any(|probe| probe.is_established);
    let ports = |protocol: u8| -> Vec<String> {
        let ports = incoming.clone().filter(|probe| probe.port.0 == protocol && !probe.is_established);
        ports.map(|probe| probe.port.1.to_string()).collect()
    };
    for (protocol, name) in [(17, "udp"), (6, "tcp")] {
        let ports = ports(protocol);
        if ports.is_empty() {
            continue;
        }
        let commas = ports.join(",");
        match manager {
            Manager::Firewalld => {
                let all: Vec<String> = ports.iter().map(|port| format!("--add-port={port}/{name}")).collect();
                finding = finding.fixed_by(Fix::Run(format!("sudo firewall-cmd --permanent {}", all.join(" "))));
            }
            Manager::Ufw => {
                let rule = format!("sudo ufw allow in on {link} to any port {commas} proto {name}");
                finding = finding.fixed_by(Fix::Run(rule));
            }
            Manager::Nobody => {
                finding = finding.fixed_by(Fix::Run(accept(culprit, "i", link, name, "d", &ports)));
            }
        }
    }
    for (protocol, name) in [(17, "udp"), (6, "tcp")] {
        let leaving = probes.iter().filter(|probe| probe.way == Way::Out && probe.port.0 == protocol);
        // TFTP's data leaves from any port.
        let ports: Vec<String> = leaving.filter(|p| p.port.1 != TRANSFER).map(|p| p.port.1.to_string()).collect();
        if !ports.is_empty() && manager == Manager::Nobody {
            finding = finding.fixed_by(Fix::Run(accept(culprit, "o", link, name, "s", &ports)));
        }
    }
    let data = probes.iter().any(|probe| probe.way == Way::Out && probe.port.1 == TRANSFER);
    if manager == Manager::Firewalld {
        finding = finding.fixed_by(Fix::Run("sudo firewall-cmd --reload".into()));
    }
    match transfers || data {
        true => finding.fixed_by(Fix::Configure("tftp.single_port = true".into())),
        false => finding,
    }
}

/// A rule at the beginning of the chain that the kernel starts with.
fn accept(culprit: &Culprit, way: &str, link: &str, protocol: &str, end: &str, ports: &[String]) -> String {
    let Culprit { table, base, .. } = culprit;
    match table.split_once(' ').filter(|(program, _)| program.starts_with("iptables")) {
        Some((program, table)) => {
            let ports = ports.join(",");
            format!(
                "sudo {program} -t {table} -I {base} -{way} {link} -p {protocol} -m multiport --{end}ports {ports} -j ACCEPT"
            )
        }
        None => {
            let ports = if ports.len() == 1 { ports.concat() } else { format!("'{{ {} }}'", ports.join(", ")) };
            format!("sudo nft insert rule {table} {base} {way}ifname {link} {protocol} {end}port {ports} accept")
        }
    }
}

/// Some port that a transfer is sent from.
const TRANSFER: u16 = 40_000;
