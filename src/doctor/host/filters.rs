//! Judges packet filters: which packets of a boot they drop, and how to let them pass.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::seen::{Host, Link, Manager, What};
use crate::doctor::{
    finding::{Finding, Fix, Verdict},
    firewall::{self, Action, Chain, Culprit, Fate, Packet, Way, fate},
};

/// Packets of a boot, in words.
struct Probe {
    what: String,
    /// The port that it goes to, or is sent from: protocol and number.
    port: (u8, u16),
    /// The ports that a rule has to open: `69`, `50000-50999`; none: any port.
    open: Option<String>,
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
        opened(finding, host, &link, &culprit, &probes)
    });
    let end = ends.into_iter().map(|((link, culprit), probes)| {
        let text = format!("a packet filter drops {} on {link}", list(&probes));
        let finding = Finding::of_host("firewall_drops", Verdict::Fault, text).seen(culprit.to_string());
        opened(finding, host, &link, &culprit, &probes)
    });
    end.chain(doubt).chain(bridged).collect()
}

/// What a filter does to the machines on a bridge of this host, such as virtual machines. Docker drops what is forwarded.
fn bridged(host: &Host, link: &Link) -> Option<Finding> {
    let probe = Probe {
        what: String::new(),
        port: (17, 67),
        open: None,
        way: Way::Through,
        is_established: false,
        is_broadcast: true,
    };
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
    let names: Vec<&str> = probes.iter().map(|probe| probe.what.as_str()).collect();
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
    let probe = |what: &str, port: (u8, u16), way| {
        let (what, open) = (what.to_owned(), Some(port.1.to_string()));
        Probe { what, port, open, way, is_established: false, is_broadcast: false }
    };
    let mut probes = Vec::new();
    // At layer 2, packets do not pass the filters. Another DHCP server of this host needs the port.
    let is_held = host.ports.iter().any(|port| port.what == What::Dhcp && !port.holders.is_empty());
    if number(What::Dhcp).is_some() && (is_held || !host.is_at_layer_2()) {
        probes.push(Probe { is_broadcast: true, ..probe("DHCP requests (UDP port 67)", (17, 67), Way::In) });
        probes.push(Probe { is_broadcast: true, ..probe("offers (from UDP port 67)", (17, 67), Way::Out) });
    }
    if number(What::BootServer).is_some() {
        probes.push(probe("requests to the boot server (UDP port 4011)", (17, 4011), Way::In));
        let answers = probe("answers of the boot server (from UDP port 4011)", (17, 4011), Way::Out);
        probes.push(Probe { is_established: true, ..answers });
    }
    if let Some(tftp) = number(What::Tftp) {
        probes.push(probe("TFTP requests (UDP port 69)", (17, tftp), Way::In));
        let (first, ports, open) = match &host.transfer_ports {
            None => (TRANSFER, "any port".to_owned(), None),
            Some(ports) if ports.start() == ports.end() => {
                (*ports.start(), format!("port {}", ports.start()), Some(ports.start().to_string()))
            }
            Some(ports) => {
                let range = format!("{}-{}", ports.start(), ports.end());
                (*ports.start(), format!("ports {range}"), Some(range))
            }
        };
        // From the port of the request itself, the data answers it, and the acknowledgements are as the request.
        let is_single = first == tftp;
        let acknowledgements = probe(&format!("TFTP acknowledgements (UDP, {ports})"), (17, first), Way::In);
        if !is_single {
            probes.push(Probe { is_established: true, open: open.clone(), ..acknowledgements });
        }
        let data = probe(&format!("TFTP data (UDP, {ports})"), (17, first), Way::Out);
        probes.push(Probe { is_established: is_single, open, ..data });
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
    // A rule may be for some machines of the network only. The address of everyone is one.
    let prefix = if is_broadcast || link.address.is_none() { 32 } else { link.prefix };
    Packet { way, interface: &link.name, protocol, from, to, prefix, is_established, is_broadcast }
}

/// The commands that let these packets pass.
fn opened(mut finding: Finding, host: &Host, link: &str, culprit: &Culprit, probes: &[Probe]) -> Finding {
    let manager = manager(host.filters.manager, culprit);
    let ports = |way: Way, protocol: u8| -> Vec<String> {
        let probes = probes.iter().filter(|probe| probe.way == way && probe.port.0 == protocol);
        probes.filter_map(|probe| probe.open.clone()).collect()
    };
    for (protocol, name) in [(17, "udp"), (6, "tcp")] {
        let ports = ports(Way::In, protocol);
        if ports.is_empty() {
            continue;
        }
        match manager {
            Manager::Firewalld => {
                let zone = zone(&host.filters.chains, link, culprit).map(|zone| format!("--zone={zone}"));
                let all = zone.into_iter().chain(ports.iter().map(|port| format!("--add-port={port}/{name}")));
                let all: Vec<String> = all.collect();
                finding = finding.fixed_by(Fix::Run(format!("sudo firewall-cmd --permanent {}", all.join(" "))));
            }
            Manager::Ufw => {
                let commas = ports.join(",").replace('-', ":");
                let rule = format!("sudo ufw allow in on {link} to any port {commas} proto {name}");
                finding = finding.fixed_by(Fix::Run(rule));
            }
            Manager::Nobody => {
                finding = finding.fixed_by(Fix::Run(accept(culprit, "i", link, name, "d", &ports)));
            }
        }
    }
    for (protocol, name) in [(17, "udp"), (6, "tcp")] {
        let ports = ports(Way::Out, protocol);
        if !ports.is_empty() && manager == Manager::Nobody {
            finding = finding.fixed_by(Fix::Run(accept(culprit, "o", link, name, "s", &ports)));
        }
    }
    if manager == Manager::Firewalld {
        finding = finding.fixed_by(Fix::Run("sudo firewall-cmd --reload".into()));
    }
    match probes.iter().any(|probe| probe.open.is_none()) {
        true => finding.fixed_by(Fix::Configure("tftp.single_port = true".into())),
        false => finding,
    }
}

/// The program that manages the table. ufw leaves its chains behind where it is switched off, and a table of somebody
/// else may drop what firewalld lets pass.
fn manager(manager: Manager, culprit: &Culprit) -> Manager {
    let is_its_own = match manager {
        Manager::Nobody => true,
        Manager::Firewalld => culprit.table == FIREWALLD,
        Manager::Ufw => culprit.table.ends_with(" filter") && culprit.base == culprit.base.to_uppercase(),
    };
    if is_its_own { manager } else { Manager::Nobody }
}

/// The zone of firewalld that the packets of an interface are in: its chain ends them, or the chain of all zones leads
/// there. Without a zone in the command, firewalld changes its default zone.
fn zone<'a>(chains: &'a [Chain], link: &str, culprit: &'a Culprit) -> Option<&'a str> {
    let of = |name: &'a str| name.strip_prefix("filter_IN_");
    if let Some(zone) = of(&culprit.chain) {
        let parts = ["_pre", "_log", "_deny", "_allow", "_post"];
        return Some(parts.iter().find_map(|part| zone.strip_suffix(part)).unwrap_or(zone));
    }
    let zones = chains.iter().find(|chain| chain.table == FIREWALLD && chain.name == "filter_INPUT_ZONES")?;
    zones.rules.iter().find_map(|rule| match &rule.action {
        Action::Goto(name) | Action::Jump(name) if firewall::is_of_interface(rule, link) => of(name),
        _ => None,
    })
}

/// firewalld's table of nftables.
const FIREWALLD: &str = "inet firewalld";

/// A rule at the beginning of the chain that the kernel starts with.
fn accept(culprit: &Culprit, way: &str, link: &str, protocol: &str, end: &str, ports: &[String]) -> String {
    let Culprit { table, base, .. } = culprit;
    match table.split_once(' ').filter(|(program, _)| program.starts_with("iptables")) {
        Some((program, table)) => {
            let ports = ports.join(",").replace('-', ":");
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
