//! What is said about networks where netbootd leases addresses, or listens at layer 2.

use super::*;

const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// netbootd leases on this network, and nothing was heard there.
fn leasing() -> Network {
    Network {
        interface: "eth1".into(),
        addresses: vec![US],
        prefix: 24,
        is_served: Some(true),
        is_to_lease: true,
        ..Network::default()
    }
}

fn offer(client: Client, server: Ipv4Addr, bootfile: &str) -> Heard {
    let offered = Offered {
        mac: client.card(1),
        yiaddr: Ipv4Addr::new(10, 77, 0, 100),
        giaddr: Ipv4Addr::UNSPECIFIED,
        siaddr: server,
        relay: Ipv4Addr::UNSPECIFIED,
        xid: 1,
        is_ack: false,
        is_nak: false,
        server_id: Some(server),
        vendor_class: b"PXEClient".to_vec(),
        has_vendor_options: false,
        tftp_server: Vec::new(),
        tftp_addresses: Vec::new(),
        bootfile: bootfile.as_bytes().to_vec(),
    };
    Heard { client, from: server, after: Duration::from_millis(3), offered }
}

fn offers(server: Ipv4Addr, bootfile: &str) -> Vec<Heard> {
    Client::ALL.into_iter().map(|client| offer(client, server, bootfile)).collect()
}

fn bad(network: &Network) -> Vec<(&'static str, Verdict)> {
    let findings = judge(std::slice::from_ref(network));
    findings
        .iter()
        .map(|finding| (finding.id, finding.verdict))
        .filter(|(_, verdict)| *verdict != Verdict::Ok)
        .collect()
}

/// Whether a second DHCP server is advised.
fn advises_a_server(network: &Network) -> bool {
    let findings = judge(std::slice::from_ref(network));
    findings
        .iter()
        .flat_map(|finding| &finding.fix)
        .any(|fix| matches!(fix, Fix::Run(text) if text.contains("dnsmasq")))
}

#[test]
fn at_layer_2_the_silence_of_netbootd_is_a_note() {
    let network = Network { is_at_layer_2: true, ..leasing() };
    assert_eq!(bad(&network), [("layer_2", Verdict::Note)]);
    assert!(!advises_a_server(&network));
    // Without leases of its own, the other server is missed.
    let network = Network { is_to_lease: false, ..network };
    assert_eq!(bad(&network), [("no_leasing_server", Verdict::Fault), ("layer_2", Verdict::Note)]);
    let network = Network { known_only: true, ..leasing() };
    assert_eq!(bad(&network), [("known_only", Verdict::Note)]);
}

#[test]
fn the_advised_range_is_free_of_this_hosts_address() {
    let range = |last, prefix| Network { addresses: vec![[10, 77, 0, last].into()], prefix, ..leasing() }.own_range();
    for (own, expected) in [(1, "128,10.77.0.254"), (254, "128,10.77.0.253"), (130, "131,10.77.0.254")] {
        assert_eq!(range(own, 24), Some(format!("10.77.0.{expected},255.255.255.0,1h")), "{own}");
    }
    assert_eq!(range(1, 30), Some("10.77.0.2,10.77.0.2,255.255.255.252,1h".into()));
    assert_eq!(range(2, 30), None);
}

#[test]
fn a_second_server_is_advised_only_where_none_is_there() {
    assert!(advises_a_server(&Network { is_to_lease: false, ..leasing() }));
    // No words lead to a command that is not there.
    let elsewhere = Network { is_to_lease: false, is_served: None, server: Some(US), ..leasing() };
    assert!(!advises_a_server(&elsewhere));
    let fixes = judge(std::slice::from_ref(&elsewhere)).into_iter().next().map(|finding| finding.fix);
    assert!(matches!(fixes.as_deref(), Some([Fix::Do(words)]) if !words.ends_with(':')), "{fixes:?}");
    let fault = [("no_leasing_server", Verdict::Fault)];
    for network in [leasing(), Network { is_filtered: true, ..leasing() }] {
        assert_eq!(bad(&network), fault);
        assert!(!advises_a_server(&network));
    }
    let filtered = Network { is_to_lease: false, is_served: None, is_filtered: true, ..leasing() };
    assert_eq!(bad(&filtered).first(), Some(&fault[0]));
    assert!(!advises_a_server(&filtered));
    let stopped = Network { is_served: None, ..leasing() };
    assert_eq!(bad(&stopped).first(), Some(&("no_leasing_server", Verdict::Warning)));
    assert!(!advises_a_server(&stopped));
}

#[test]
fn the_leases_of_netbootd_may_name_a_file_on_another_host() {
    let url = "http://10.77.0.9:8080/boot.ipxe";
    assert_eq!(bad(&Network { offers: offers(US, url), ..leasing() }), []);
    // Another address of the same interface, and a server that is named.
    let second = Ipv4Addr::new(10, 77, 0, 2);
    let addresses = vec![US, second];
    assert_eq!(bad(&Network { addresses, offers: offers(second, url), ..leasing() }), []);
    let elsewhere = Network { is_served: None, is_to_lease: false, server: Some(second), ..leasing() };
    assert_eq!(bad(&Network { offers: offers(second, url), ..elsewhere }), []);
    let warning = [("boot_file_by_lease", Verdict::Warning)];
    assert_eq!(bad(&Network { offers: offers([10, 77, 0, 7].into(), url), ..leasing() }), warning);
    // The server of this host beside which netbootd listens.
    let beside = Network { is_to_lease: false, is_beside_another: true, is_at_layer_2: true, ..leasing() };
    assert_eq!(bad(&Network { offers: offers(US, url), ..beside }), warning);
}

#[test]
fn an_interface_where_netbootd_leases_is_not_the_wrong_one() {
    let uplink = || Network {
        interface: "eth0".into(),
        is_served: Some(false),
        is_to_lease: false,
        offers: offers([10, 0, 0, 1].into(), ""),
        ..leasing()
    };
    let finds = |network: Network| judge(&[network, uplink()]).iter().any(|finding| finding.id == "wrong_interface");
    assert!(finds(Network { is_to_lease: false, ..leasing() }));
    assert!(!finds(leasing()));
    assert!(!finds(Network { is_to_lease: false, is_beside_another: true, ..leasing() }));
}

/// A second netbootd, on the host of the doctor, is no help against a switch.
#[test]
fn a_boot_server_on_another_host_that_is_not_heard_is_looked_for_there() {
    let network = Network { server: Some(US), is_served: None, is_to_lease: false, ..leasing() };
    let findings = judge(&[network]);
    let finding = findings.iter().find(|finding| finding.id == "no_boot_server").expect("the finding");
    assert!(matches!(finding.fix.as_slice(), [Fix::Do(text)] if text.contains("DHCP snooping")), "{finding:?}");
}

#[test]
fn two_interfaces_on_one_network_are_no_two_servers() {
    let (here, there, dhcp) = (US, Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(10, 77, 0, 254));
    let proxy = |server| {
        let mut heard = offers(server, "snponly.efi");
        heard.iter_mut().for_each(|heard| heard.offered.yiaddr = Ipv4Addr::UNSPECIFIED);
        heard
    };
    let mut lease = offer(Client::Bios, dhcp, "");
    lease.offered.vendor_class.clear();
    let mut all = vec![lease];
    all.extend([proxy(here), proxy(there)].concat());
    let network = |interface: &str, address| Network {
        interface: interface.into(),
        addresses: vec![address],
        is_to_lease: false,
        offers: all.clone(),
        ..leasing()
    };
    let both = [network("eth0", there), network("eth1", here)];
    let findings = judge(&both);
    let bad: Vec<&Finding> = findings.iter().filter(|finding| finding.verdict == Verdict::Fault).collect();
    let [finding] = bad.as_slice() else { panic!("{bad:?}") };
    assert_eq!(finding.id, "joined_interfaces");
    assert_eq!(finding.fix.last(), Some(&Fix::Configure("interfaces = [\"eth1\"]".into())), "the leases are there");
    // Another server is one.
    let other = [network("eth0", Ipv4Addr::new(203, 0, 113, 1)), network("eth1", here)];
    assert!(judge(&other).iter().any(|finding| finding.id == "two_proxies"));
}

#[test]
fn offers_that_a_packet_filter_drops_are_not_sought_in_the_log() {
    let fix = |is_filtered| {
        let network =
            Network { is_to_lease: false, is_filtered, offers: offers([10, 77, 0, 7].into(), ""), ..leasing() };
        let findings = judge(std::slice::from_ref(&network));
        findings.into_iter().find(|finding| finding.id == "no_boot_offer").map(|finding| finding.fix)
    };
    assert_eq!(fix(true), Some(vec![Fix::Do(UNBLOCK.into())]));
    assert!(matches!(fix(false).as_deref(), Some([Fix::Do(words)]) if words.starts_with("see its log")));
}

#[test]
fn an_interface_that_is_not_served_lacks_nothing() {
    let storage = Network { is_served: Some(false), is_to_lease: false, ..leasing() };
    assert_eq!(bad(&storage), [("no_leasing_server", Verdict::Note), ("not_served", Verdict::Note)]);
    assert!(!advises_a_server(&storage));
    // A line to set would take netbootd away from the interfaces that it serves.
    let sets = judge(&[storage]).iter().flat_map(|finding| &finding.fix).any(|fix| matches!(fix, Fix::Configure(_)));
    assert!(!sets);
}
