//! Judges a host: its ports, rights, packet filters and interfaces.

use std::{collections::BTreeMap, net::Ipv4Addr};

use super::{
    finding::{Area, Finding, Fix, Verdict},
    firewall::{Chain, Culprit, Fate, Packet, Way, fate},
};

/// What was seen of a host.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// The ports that a boot server needs.
    pub ports: Vec<PortSeen>,
    /// The server that runs here.
    pub running: Option<Running>,
    /// Whether this program may read packet filters and ask the network.
    pub has_rights: bool,
    /// Whether it sees which program has a port, also one of another user.
    pub sees_programs: bool,
    /// Whether this program runs as root.
    pub is_root: bool,
    /// The interfaces that were looked at.
    pub links: Vec<Link>,
    /// Where this program runs, if not on a host of its own: `a Docker container`.
    pub container: Option<String>,
    /// The rules of the packet filters, or why they cannot be read.
    pub filters: Filters,
    /// Whether netbootd may listen at layer 2 in place of port 67 (`dhcp.socket`).
    pub shares_port_67: bool,
    /// Whether it always does.
    pub captures: bool,
}

impl Host {
    /// Whether the netbootd that runs here listens at layer 2, in place of port 67.
    fn is_at_layer_2(&self) -> bool {
        let holders = || self.ports.iter().filter(|port| port.what == What::Dhcp).flat_map(|port| &port.holders);
        self.running.is_some() && (self.captures || self.shares_port_67 && !holders().any(|held| held.is_netbootd))
    }
}

/// A port that is needed.
#[derive(Clone, Debug)]
pub struct PortSeen {
    /// What for.
    pub what: What,
    /// Its number.
    pub number: u16,
    /// Programs that have it.
    pub holders: Vec<Held>,
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// DHCP, UDP port 67.
    Dhcp,
    /// The PXE boot server, UDP port 4011.
    BootServer,
    /// TFTP.
    Tftp,
    /// HTTP.
    Http,
}

/// A program that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Name and pid, as far as they can be seen.
    pub by: String,
    /// Its pid.
    pub pid: Option<u32>,
    /// Whether it is netbootd.
    pub is_netbootd: bool,
    /// The systemd unit that it belongs to.
    pub unit: Option<String>,
}

/// A netbootd that runs on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its pid.
    pub pid: u32,
    /// The user that it runs as.
    pub user: Option<String>,
    /// The interfaces that it serves.
    pub interfaces: Vec<String>,
    /// Whether it holds `CAP_NET_RAW`, as far as this can be seen.
    pub can_capture: Option<bool>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// Its network's number of leading bits.
    pub prefix: u8,
    /// Whether it is up, and its cable is plugged in.
    pub is_up: bool,
    /// See [`Self::is_up`].
    pub has_carrier: bool,
    /// In bytes.
    pub mtu: usize,
    /// The bridge that it is a port of: packets reach the bridge instead.
    pub bridge_port_of: Option<String>,
    /// Whether it is a bridge, and for how many seconds a new port of it passes nothing.
    pub bridge_delay: Option<u64>,
    /// The tag, if it is a VLAN.
    pub vlan: Option<u16>,
    /// VLANs on top of it.
    pub vlans_above: Vec<String>,
    /// Whether it is a radio.
    pub is_wireless: bool,
}

/// The packet filters.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// All chains.
    pub chains: Vec<Chain>,
    /// Which programs manage them: their fixes differ.
    pub manager: Manager,
    /// Why they cannot be read.
    pub unreadable: Option<String>,
}

/// A program that manages the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manager {
    /// None that is known.
    #[default]
    Nobody,
    /// firewalld.
    Firewalld,
    /// ufw.
    Ufw,
}

/// All findings about a host.
#[must_use]
pub fn judge(host: &Host) -> Vec<Finding> {
    let mut findings = rights(host);
    findings.extend(host.ports.iter().map(|port| self::port(port, host)));
    findings.extend(filters(host));
    findings.extend(host.container.as_deref().map(container));
    findings.extend(host.links.iter().flat_map(link));
    findings
}

fn found(id: &'static str, verdict: Verdict, text: impl Into<String>) -> Finding {
    Finding::new(id, Area::Host, verdict, text)
}

fn rights(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !host.has_rights {
        let text = "this program has not the rights to see all programs and packet filters, or to ask the network";
        let fix = match host.is_root {
            true => Fix::Do("start it with CAP_NET_ADMIN, CAP_NET_RAW and CAP_SYS_PTRACE, on the host itself".into()),
            false => Fix::Run("sudo netbootd doctor".into()),
        };
        findings.push(found("no_rights", Verdict::Warning, text).fixed_by(fix));
    }
    match &host.running {
        None => {
            let text = match host.sees_programs {
                true => "no netbootd runs on this host",
                false => "no netbootd is seen on this host; this program has not the right to see every program",
            };
            findings.push(found("not_running", Verdict::Note, text));
        }
        Some(Running { pid, user, interfaces, can_capture }) => {
            let user = user.as_deref().map(|user| format!(" as {user}")).unwrap_or_default();
            let on = if interfaces.is_empty() { String::new() } else { format!(", on {}", interfaces.join(", ")) };
            findings.push(found("running", Verdict::Ok, format!("netbootd runs (pid {pid}{user}{on})")));
            if *can_capture == Some(false) {
                let text = "netbootd has not the right to listen at layer 2 (CAP_NET_RAW): it cannot run beside another DHCP server, or see rivals";
                let line = "AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW";
                findings.push(
                    found("no_net_raw", Verdict::Note, text)
                        .fixed_by(Fix::Do("in the service's unit, below [Service]:".into()))
                        .fixed_by(Fix::Paste(line.into())),
                );
            }
        }
    }
    findings
}

fn port(PortSeen { what, number, holders }: &PortSeen, host: &Host) -> Finding {
    let title = match what {
        What::Dhcp => format!("UDP port {number} (DHCP)"),
        What::BootServer => format!("UDP port {number} (PXE boot server)"),
        What::Tftp => format!("UDP port {number} (TFTP)"),
        What::Http => format!("TCP port {number} (HTTP)"),
    };
    let others: Vec<&Held> = holders.iter().filter(|held| !held.is_netbootd).collect();
    let Some(other) = others.first() else {
        let words = match holders.first() {
            Some(Held { by, .. }) => format!("{title} is {by}'s"),
            None if *what == What::Dhcp && host.is_at_layer_2() => {
                format!("netbootd listens at layer 2 in place of {title}")
            }
            None if host.running.is_some() => return missing(*what, &title),
            None => format!("{title} is free"),
        };
        return found("port", Verdict::Ok, words);
    };
    let by = &other.by;
    // Of a program that is not seen, nobody knows whether it is netbootd.
    if other.pid.is_none() && !(host.sees_programs && host.running.is_some()) {
        let text = format!("{title} is held by {by}: it may be netbootd");
        return found("port_unknown", Verdict::Note, text).fixed_by(Fix::Run("sudo ss -lpn".into()));
    }
    match what {
        // netbootd listens beside it.
        What::Dhcp if host.shares_port_67 => {
            let text = format!("{title} is held by {by}, a DHCP server on this host: netbootd listens beside it");
            found("dhcp_on_this_host", Verdict::Note, text)
        }
        What::Dhcp => {
            let text = format!("{title} is held by {by}, and dhcp.socket = \"bind\" wants it for netbootd alone");
            let line = "dhcp.socket = \"auto\"";
            found("dhcp_on_this_host", Verdict::Fault, text).fixed_by(Fix::Configure(line.into()))
        }
        What::Http => {
            let text = format!("{title} is held by {by}, so netbootd cannot serve scripts and kernels on it");
            let fix = Fix::Configure(format!("http.port = {}", number.saturating_add(1)));
            found("port_held", Verdict::Fault, text).fixed_by(fix)
        }
        What::BootServer | What::Tftp => {
            let does = if *what == What::Tftp { "serve loaders" } else { "answer firmware" };
            let text = format!("{title} is held by {by}, so netbootd cannot {does} on it");
            others.iter().fold(found("port_held", Verdict::Fault, text), |finding, held| finding.fixed_by(stop(held)))
        }
    }
}

/// A server that runs, and does not listen on a port.
fn missing(what: What, title: &str) -> Finding {
    let (id, verdict) = ("port_not_served", Verdict::Warning);
    let fix = match what {
        What::Dhcp | What::BootServer => "dhcp.enabled = true",
        What::Tftp => "tftp.enabled = true",
        What::Http => "http.port = 8080",
    };
    let text = format!("netbootd runs, but does not listen on {title}");
    found(id, verdict, text).fixed_by(Fix::Configure(fix.into()))
}

fn stop(held: &Held) -> Fix {
    match (&held.unit, held.pid) {
        (Some(unit), _) => Fix::Run(format!("sudo systemctl disable --now {unit}")),
        // Of systemd itself, a socket unit holds the port.
        (None, Some(1)) => Fix::Run("systemctl list-sockets".into()),
        (None, Some(pid)) => Fix::Run(format!("sudo kill {pid}")),
        (None, None) => Fix::Run("sudo ss -lpn".into()),
    }
}

/// Packets of a boot, in words.
struct Probe {
    what: &'static str,
    /// The port that a rule has to open: protocol and number.
    port: (u8, u16),
    way: Way,
    is_established: bool,
    is_broadcast: bool,
}

fn filters(host: &Host) -> Vec<Finding> {
    if let Some(why) = &host.filters.unreadable {
        let text = format!("the packet filters of this host cannot be read: {why}");
        return vec![found("firewall_unreadable", Verdict::Note, text)];
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
    if ends.is_empty() && doubts.is_empty() {
        let text = match host.filters.chains.is_empty() {
            true => "this host has no packet filter",
            false => "the packet filters of this host let boots pass",
        };
        return vec![found("firewall", Verdict::Ok, text)];
    }
    let doubt = doubts.into_iter().map(|((link, culprit), probes)| {
        let text = format!("a packet filter may drop {} on {link}", list(&probes));
        let finding = found("firewall_may_drop", Verdict::Note, text).seen(culprit.to_string());
        opened(finding, host.filters.manager, &link, &culprit, &probes)
    });
    let end = ends.into_iter().map(|((link, culprit), probes)| {
        let text = format!("a packet filter drops {} on {link}", list(&probes));
        let finding = found("firewall_drops", Verdict::Fault, text).seen(culprit.to_string());
        opened(finding, host.filters.manager, &link, &culprit, &probes)
    });
    end.chain(doubt).collect()
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
        Way::In => ((theirs, client), (ours, port)),
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

fn container(what: &str) -> Finding {
    let text = format!(
        "this program runs in {what}: broadcasts of the network do not reach a container that has a network of its own"
    );
    let host = Fix::Do(
        "give the container the host's network: --network=host --cap-add=NET_RAW --cap-add=NET_BIND_SERVICE".into(),
    );
    found("container", Verdict::Warning, text).fixed_by(host)
}

fn link(link: &Link) -> Vec<Finding> {
    let Link { name, .. } = link;
    let mut findings = Vec::new();
    if !link.is_up {
        let text = format!("the interface {name} is down");
        findings.push(
            found("link_down", Verdict::Fault, text).fixed_by(Fix::Run(format!("sudo ip link set dev {name} up"))),
        );
    } else if !link.has_carrier {
        let text = format!("the interface {name} has no link: its cable, or the other end of it, is not there");
        findings.push(
            found("no_carrier", Verdict::Fault, text).fixed_by(Fix::Do("check the cable and the switch port".into())),
        );
    }
    if link.address.is_none() {
        let text = format!("the interface {name} has no IPv4 address");
        let fix = Fix::Run(format!("sudo ip address add ADDRESS/24 dev {name}"));
        findings.push(found("no_address", Verdict::Fault, text).fixed_by(fix));
    }
    if let Some(bridge) = &link.bridge_port_of {
        let text = format!("{name} is a port of the bridge {bridge}: what arrives there is the bridge's");
        findings.push(
            found("bridge_port", Verdict::Fault, text).fixed_by(Fix::Configure(format!("interfaces = [\"{bridge}\"]"))),
        );
    }
    if let Some(delay) = link.bridge_delay.filter(|delay| *delay >= 4) {
        let text = format!(
            "the bridge {name} passes nothing for {} s after a machine on it starts, longer than firmware waits",
            2 * delay
        );
        // In this order, and apart: with spanning tree, the kernel takes no delay below 2 s (net/bridge/br_stp.c,
        // `br_set_forward_delay`).
        let set = |what: &str| Fix::Run(format!("sudo ip link set dev {name} type bridge {what}"));
        let finding = found("bridge_delay", Verdict::Warning, text);
        findings.push(finding.fixed_by(set("stp_state 0")).fixed_by(set("forward_delay 0")));
    }
    if !link.vlans_above.is_empty() {
        let names = link.vlans_above.join(", ");
        let text = format!("{name} carries VLANs ({names}): machines in one of them are heard there, not on {name}");
        findings.push(found("vlans", Verdict::Note, text));
    }
    if link.is_wireless {
        let text = format!("{name} is wireless: many access points keep broadcasts of machines from each other");
        findings.push(found("wireless", Verdict::Note, text));
    }
    if (1..1500).contains(&link.mtu) {
        let text = format!(
            "the MTU of {name} is {} bytes: netbootd sends smaller blocks, other servers on this network may not",
            link.mtu
        );
        findings.push(found("small_mtu", Verdict::Note, text));
    }
    findings
}

/// Some port that a transfer is sent from.
const TRANSFER: u16 = 40_000;

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
