//! What is said about ports, where netbootd listens at layer 2 and where rights are missing.

use super::{seen::*, *};
use crate::doctor::firewall::{Chain, Way};

fn running() -> Option<Running> {
    Some(Running { pid: 7, user: None, interfaces: vec!["eth1".into()], can_capture: Some(true) })
}

fn port_of(what: What, number: u16, holders: Vec<Held>) -> PortSeen {
    PortSeen { what, number, holders }
}

fn host(ports: Vec<PortSeen>) -> Host {
    Host {
        ports,
        has_rights: true,
        sees_programs: true,
        is_root: true,
        shares_port_67: true,
        links: vec![Link {
            name: "eth1".into(),
            address: Some([10, 77, 0, 1].into()),
            is_up: true,
            has_carrier: true,
            mtu: 1500,
            ..Link::default()
        }],
        ..Host::default()
    }
}

fn verdicts(host: &Host) -> Vec<(&'static str, Verdict)> {
    let findings = judge(host);
    findings
        .iter()
        .map(|finding| (finding.id, finding.verdict))
        .filter(|(_, verdict)| *verdict != Verdict::Ok)
        .collect()
}

#[test]
fn at_layer_2_port_67_is_not_missed_and_no_filter_drops_dhcp() {
    let ours = Held { by: "netbootd (pid 7)".into(), pid: Some(7), is_netbootd: true, unit: None };
    let drops = Chain {
        table: "inet filter".into(),
        name: "input".into(),
        hook: Some(crate::doctor::firewall::Hook { way: Way::In, order: (0, 0), device: None }),
        drops_the_rest: true,
        rules: Vec::new(),
    };
    let ports = || vec![port_of(What::Dhcp, 67, vec![])];
    let at_layer_2 = Host { running: running(), ..host(ports()) };
    assert_eq!(verdicts(&at_layer_2), []);
    let bound = Host { shares_port_67: false, ..at_layer_2.clone() };
    assert_eq!(verdicts(&bound), [("port_not_served", Verdict::Warning)]);
    // Of another interface, or of a second netbootd.
    let filters = Filters { chains: vec![drops], ..Filters::default() };
    let filtered = Host { filters, ..at_layer_2 };
    let is_dropped = |host: &Host| drops_dhcp(host, &host.links[0]);
    assert!(!is_dropped(&filtered));
    assert!(is_dropped(&Host { ports: vec![port_of(What::Dhcp, 67, vec![ours])], ..filtered.clone() }));
    assert!(is_dropped(&Host { running: None, ..filtered }));
}

#[test]
fn two_interfaces_in_one_network_are_found() {
    let eth1 = Link { prefix: 24, ..host(vec![]).links.remove(0) };
    let second = |address: [u8; 4], has_carrier| {
        let eth2 = Link { name: "eth2".into(), address: Some(address.into()), has_carrier, ..eth1.clone() };
        let links = vec![eth1.clone(), eth2];
        judge(&Host { links, ..host(vec![]) }).into_iter().find(|finding| finding.id == "one_network")
    };
    let found = second([10, 77, 0, 130], true).expect("a finding");
    assert!(found.text.starts_with("eth1 and eth2 have addresses of one network"), "{}", found.text);
    assert_eq!(second([10, 77, 1, 1], true), None);
    assert_eq!(second([10, 77, 0, 130], false), None, "without a cable there is no machine");
}

#[test]
fn a_program_that_is_not_seen_is_a_note() {
    let unseen = Held { by: "another process".into(), pid: None, is_netbootd: false, unit: None };
    let all = [(What::Dhcp, 67), (What::BootServer, 4011), (What::Tftp, 69), (What::Http, 8080)];
    let ports = || all.map(|(what, number)| port_of(what, number, vec![unseen.clone()])).to_vec();
    let blind = Host { has_rights: false, sees_programs: false, ..host(ports()) };
    let note = ("port_unknown", Verdict::Note);
    let rest = [("not_running", Verdict::Note), note, note, note, note];
    assert_eq!(verdicts(&blind), [&[("no_rights", Verdict::Warning)][..], &rest].concat());
    let fix = |host: &Host| judge(host).into_iter().next().map(|finding| finding.fix);
    assert!(matches!(fix(&blind).as_deref(), Some([Fix::Do(text)]) if text.contains("CAP_SYS_PTRACE")));
    let user = Host { is_root: false, ..blind };
    assert_eq!(fix(&user), Some(vec![Fix::Run("sudo netbootd doctor".into())]));
    // netbootd is seen, and the port is not its own.
    let seen = Host { running: running(), ..host(ports()) };
    assert_eq!(verdicts(&seen)[1..], [("port_held", Verdict::Fault); 3]);
}

/// As Docker leaves it: FORWARD drops, except what leaves its own bridge.
#[test]
fn a_filter_between_the_ports_of_a_bridge_is_found_with_the_fix_of_its_manager() {
    let saved = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n\
        -A FORWARD -j DOCKER-USER\n-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\nCOMMIT\n";
    let rule = "-A FORWARD -i eth1 -o eth1 -j ACCEPT\n";
    let found = |saved: &str, manager, is_filtered_bridge| {
        let filters = Filters { chains: crate::doctor::firewall::iptables::chains(saved), manager, unreadable: None };
        let mut host = Host { filters, ..host(Vec::new()) };
        host.links.iter_mut().for_each(|link| link.is_filtered_bridge = is_filtered_bridge);
        let findings = judge(&host);
        let finding = findings.into_iter().find(|finding| finding.id == "bridge_filtered");
        finding.and_then(|finding| finding.fix.first().cloned())
    };
    let run = |text: &str| Some(Fix::Run(text.into()));
    let inserted = "sudo iptables -t filter -I FORWARD -i eth1 -o eth1 -j ACCEPT";
    assert_eq!(found(saved, Manager::Nobody, true), run(inserted));
    assert_eq!(found(saved, Manager::Ufw, true), run("sudo ufw route allow in on eth1 out on eth1"));
    assert_eq!(found(saved, Manager::Nobody, false), None, "what a bridge passes is not filtered");
    assert_eq!(found(&saved.replace("COMMIT", &format!("{rule}COMMIT")), Manager::Nobody, true), None);
}
