//! Judges interfaces.

use super::seen::Link;
use crate::doctor::finding::{Finding, Fix, Verdict};

/// Two interfaces in one network: the kernel sends everything to machines there by one of them.
pub(super) fn one_network(links: &[Link]) -> Vec<Finding> {
    let ready = |link: &&Link| link.is_up && link.has_carrier;
    let pairs =
        links.iter().enumerate().flat_map(|(at, link)| links.iter().skip(at + 1).map(move |other| (link, other)));
    let pairs = pairs.filter(|(link, other)| ready(link) && ready(other) && share_a_network(link, other));
    let found = pairs.map(|(Link { name, .. }, Link { name: other, .. })| {
        let text = format!(
            "{name} and {other} have addresses of one network: this host sends all files by one of them, and they do \
             not reach machines on the other, unless both are connected to one switch"
        );
        let fix = format!("give {name} and {other} networks of their own, or put both into a bridge and serve that");
        Finding::of_host("one_network", Verdict::Warning, text).fixed_by(Fix::Do(fix))
    });
    found.collect()
}

fn share_a_network(link: &Link, other: &Link) -> bool {
    let (Some(one), Some(two)) = (link.address, other.address) else { return false };
    let length = u32::from(link.prefix.min(other.prefix));
    (one.to_bits() ^ two.to_bits()).checked_shr(32 - length).unwrap_or(0) == 0
}

/// What keeps machines on an interface from booting.
pub(super) fn link(link: &Link) -> Vec<Finding> {
    let Link { name, .. } = link;
    let mut findings = Vec::new();
    if !link.is_up {
        let text = format!("the interface {name} is down");
        findings.push(
            Finding::of_host("link_down", Verdict::Fault, text)
                .fixed_by(Fix::Run(format!("sudo ip link set dev {name} up"))),
        );
    } else if !link.has_carrier {
        let text = format!("the interface {name} has no link: its cable, or the other end of it, is not there");
        findings.push(
            Finding::of_host("no_carrier", Verdict::Fault, text)
                .fixed_by(Fix::Do("check the cable and the switch port".into())),
        );
    }
    if link.address.is_none() {
        let text = format!("the interface {name} has no IPv4 address");
        let fix = Fix::Run(format!("sudo ip address add ADDRESS/24 dev {name}"));
        findings.push(Finding::of_host("no_address", Verdict::Fault, text).fixed_by(fix));
    }
    if let Some(bridge) = &link.bridge_port_of {
        let text = format!("{name} is a port of the bridge {bridge}: what arrives there is the bridge's");
        findings.push(
            Finding::of_host("bridge_port", Verdict::Fault, text)
                .fixed_by(Fix::Configure(format!("interfaces = [\"{bridge}\"]"))),
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
        let finding = Finding::of_host("bridge_delay", Verdict::Warning, text);
        findings.push(finding.fixed_by(set("stp_state 0")).fixed_by(set("forward_delay 0")));
    }
    if !link.vlans_above.is_empty() {
        let names = link.vlans_above.join(", ");
        let text = format!("{name} carries VLANs ({names}): machines in one of them are heard there, not on {name}");
        findings.push(Finding::of_host("vlans", Verdict::Note, text));
    }
    if link.is_wireless {
        let text = format!("{name} is wireless: many access points keep broadcasts of machines from each other");
        findings.push(Finding::of_host("wireless", Verdict::Note, text));
    }
    if (1..1500).contains(&link.mtu) {
        let text = format!(
            "the MTU of {name} is {} bytes: netbootd sends smaller blocks, other servers on this network may not",
            link.mtu
        );
        findings.push(Finding::of_host("small_mtu", Verdict::Note, text));
    }
    findings
}
