//! What is said about ports, where netbootd listens at layer 2 and where rights are missing.

use super::{seen::*, *};
use crate::doctor::firewall::{Action, Chain, Hook, Rule, Test, Way, What as About};

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
        hook: Some(Hook { way: Way::In, order: (0, 0), device: None }),
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

/// A host with filters that accept these packets, and drop the rest.
fn filtered(accepts: &[(Way, &[About])], about: Host) -> Host {
    let chain = |way: Way, base: &str| Chain {
        table: "inet filter".into(),
        name: base.into(),
        hook: Some(Hook { way, order: (0, 0), device: None }),
        drops_the_rest: true,
        rules: accepts
            .iter()
            .filter(|(of, _)| *of == way)
            .map(|(_, tests)| Rule {
                tests: tests.iter().map(|what| Test { not: false, what: what.clone() }).collect(),
                action: Action::Accept,
                text: String::new(),
            })
            .collect(),
    };
    let chains = vec![chain(Way::In, "input"), chain(Way::Out, "output")];
    Host { filters: Filters { chains, ..Filters::default() }, ..about }
}

fn drops(host: &Host) -> Option<Finding> {
    judge(host).into_iter().find(|finding| finding.id == "firewall_drops")
}

#[test]
fn filters_are_asked_for_the_ports_that_tftp_answers_from() {
    let ports = vec![port_of(What::BootServer, 4011, vec![]), port_of(What::Tftp, 69, vec![])];
    let (established, udp) = (About::State(vec!["established".into()]), 17);
    let to = |low, high| About::ToPort(Some(udp), vec![(low, high)]);
    let from = |low, high| About::FromPort(Some(udp), vec![(low, high)]);
    let (asks, asks_4011) = ([to(69, 69)], [to(4011, 4011)]);
    let (sends, acknowledges) = ([from(50_000, 50_999)], [to(50_000, 50_999)]);
    let strict = [(Way::In, &asks[..]), (Way::In, &asks_4011), (Way::Out, std::slice::from_ref(&established))];
    let of = |transfer_ports| Host { transfer_ports, ..host(ports.clone()) };
    let any = drops(&filtered(&strict, of(None))).expect("TFTP sends from a port that nobody asked");
    assert_eq!(any.fix, [Fix::Configure("tftp.single_port = true".into())]);
    // What is set already is not advised, and nothing is dropped with it.
    assert_eq!(drops(&filtered(&strict, of(Some(69..=69)))), None);
    let ports = drops(&filtered(&strict, of(Some(50_000..=50_999)))).expect("as from any port");
    assert!(ports.text.contains("(UDP, ports 50000-50999)"), "{}", ports.text);
    let insert = "sudo nft insert rule inet filter input iifname eth1 udp dport 50000-50999 accept";
    let both = [&strict[..], &[(Way::Out, &sends[..])]].concat();
    let incoming = drops(&filtered(&both, of(Some(50_000..=50_999)))).expect("acknowledgements");
    assert_eq!(incoming.fix, [Fix::Run(insert.into())]);
    let all = [&both[..], &[(Way::In, &acknowledges[..])]].concat();
    assert_eq!(drops(&filtered(&all, of(Some(50_000..=50_999)))), None);
}

#[test]
fn the_program_that_manages_a_table_opens_it() {
    let goto = |name: &str, tests: &[About]| Rule {
        tests: tests.iter().map(|what| Test { not: false, what: what.clone() }).collect(),
        action: Action::Goto(name.into()),
        text: String::new(),
    };
    let of_eth1 = About::InterfaceIn(vec!["eth1".into()]);
    let firewalld =
        |name: &str, rules| Chain { table: "inet firewalld".into(), name: name.into(), rules, ..Chain::default() };
    let input = |rules| Chain {
        hook: Some(Hook { way: Way::In, order: (0, 0), device: None }),
        drops_the_rest: true,
        ..firewalld("filter_INPUT", rules)
    };
    let rejects = Rule { tests: Vec::new(), action: Action::Drop, text: "reject".into() };
    let zones = || {
        vec![
            goto("filter_IN_other", &[About::InterfaceIn(vec!["eth2".into()])]),
            goto("filter_IN_my_zone", std::slice::from_ref(&of_eth1)),
            goto("filter_IN_public", &[]),
        ]
    };
    let opened = |manager, chains: Vec<Chain>| {
        let filters = Filters { chains, manager, ..Filters::default() };
        let finding = drops(&Host { filters, ..host(vec![port_of(What::Http, 8080, vec![])]) }).expect("a finding");
        finding
            .fix
            .into_iter()
            .map(|fix| if let Fix::Run(command) = fix { command } else { String::new() })
            .collect::<Vec<_>>()
    };
    let expected = ["sudo firewall-cmd --permanent --zone=my_zone --add-port=8080/tcp", "sudo firewall-cmd --reload"];
    let jump = Rule { action: Action::Jump("filter_INPUT_ZONES".into()), ..goto("", &[]) };
    // The chain of the zone ends the packet (firewalld 1), or the chain behind all zones (firewalld 0.9).
    for (zone, deny) in
        [(vec![rejects.clone()], vec![]), (vec![goto("filter_IN_my_zone_deny", &[])], vec![rejects]), (vec![], vec![])]
    {
        let chains = vec![
            input(vec![jump.clone()]),
            firewalld("filter_INPUT_ZONES", zones()),
            firewalld("filter_IN_my_zone", zone),
            firewalld("filter_IN_my_zone_deny", deny),
        ];
        assert_eq!(opened(Manager::Firewalld, chains), expected);
    }
    // A table of somebody else.
    let other = Chain { table: "inet other".into(), name: "input".into(), ..input(vec![]) };
    let insert = ["sudo nft insert rule inet other input iifname eth1 tcp dport 8080 accept"];
    assert_eq!(opened(Manager::Firewalld, vec![other.clone()]), insert);
    assert_eq!(opened(Manager::Ufw, vec![other.clone()]), insert);
    let of_ufw = Chain { table: "iptables filter".into(), name: "INPUT".into(), ..other };
    assert_eq!(opened(Manager::Ufw, vec![of_ufw]), ["sudo ufw allow in on eth1 to any port 8080 proto tcp"]);
}

#[test]
fn the_server_that_leases_is_not_stopped() {
    let dnsmasq = |unit: Option<&str>| Held {
        by: "dnsmasq (pid 9)".into(),
        pid: Some(9),
        is_netbootd: false,
        unit: unit.map(str::to_owned),
    };
    let fix =
        |ports| judge(&host(ports)).into_iter().find(|finding| finding.id == "port_held").map(|finding| finding.fix);
    let tftp = || port_of(What::Tftp, 69, vec![dnsmasq(Some("dnsmasq.service"))]);
    assert_eq!(fix(vec![tftp()]), Some(vec![Fix::Run("sudo systemctl disable --now dnsmasq.service".into())]));
    let leases = fix(vec![port_of(What::Dhcp, 67, vec![dnsmasq(None)]), tftp()]);
    assert!(matches!(leases.as_deref(), Some([Fix::Do(words)]) if words.contains("enable-tftp")), "{leases:?}");
}

#[test]
fn a_port_that_is_missing_is_opened_by_a_start() {
    let host = Host { running: running(), ..host(vec![port_of(What::Tftp, 69, vec![])]) };
    let missing = judge(&host).into_iter().find(|finding| finding.id == "port_not_served").expect("a finding");
    assert!(matches!(missing.fix.as_slice(), [Fix::Do(words)] if words.starts_with("start netbootd again")));
}
