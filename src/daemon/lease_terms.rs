//! The terms of leases against this host and the rules: tested at the start, and again whenever they are read.

use std::net::Ipv4Addr;

use crate::{
    boot::machine::MachineRule,
    lease::{
        network::Network,
        terms::{Leasing, Prefix},
    },
    net::interface::{Interface, choose},
};

/// The interfaces with these names, each with the address first whose network is leased. Clients use the first address.
pub(super) fn arranged(mut interfaces: Vec<Interface>, leasing: Option<&Leasing>) -> Vec<Interface> {
    let Some(leasing) = leasing else { return interfaces };
    for interface in &mut interfaces {
        let terms = leasing.terms_of(&interface.name);
        let prefixes: Vec<Prefix> = interface.networks.iter().map(|(at, length)| Prefix::of(*at, *length)).collect();
        if let Some(place) = terms.place_among(&prefixes).filter(|_| terms.enabled) {
            interface.put_first(place);
        }
    }
    interfaces
}

/// What the next start would refuse, as far as the interfaces are there: a line each, with the fix. `names`: the interfaces
/// that are served.
pub(super) fn faults_here<'a>(
    leasing: &Leasing,
    names: &[String],
    rules: impl Iterator<Item = &'a MachineRule>,
) -> Vec<String> {
    // Where there is none of them, nothing can be said about their networks.
    choose(names).map_or_else(|_| Vec::new(), |interfaces| faults(leasing, &arranged(interfaces, Some(leasing)), rules))
}

/// The same for these interfaces.
pub(super) fn faults<'a>(
    leasing: &Leasing,
    interfaces: &[Interface],
    rules: impl Iterator<Item = &'a MachineRule>,
) -> Vec<String> {
    let served: Vec<&Interface> = served(leasing, interfaces).collect();
    let mut faults = Vec::new();
    let unknown = leasing.interfaces.keys().filter(|name| !interfaces.iter().any(|i| i.name == **name));
    faults.extend(unknown.map(|name| format!("lease.interfaces.{name}: netbootd does not serve {name}")));
    let there = served.iter().filter(|interface| interface.usable().is_ok());
    let on_interfaces = there.map(|interface| {
        let length = interface.networks.first().map_or(32, |(_, length)| *length);
        let prefix = Prefix::of(interface.address(), length);
        let terms = leasing.terms_of(&interface.name);
        Network::new(interface.name.as_str().into(), prefix, interface.addresses.clone(), terms)
    });
    let behind_relays = leasing
        .relayed
        .iter()
        .map(|(prefix, terms)| Network::new(prefix.to_string().into(), *prefix, Vec::new(), terms));
    let mut networks = Vec::new();
    for network in on_interfaces.chain(behind_relays) {
        match network {
            Ok(network) => networks.push(network),
            Err(fault) => faults.push(fault),
        }
    }
    let all_are_there = served.iter().all(|interface| interface.usable().is_ok());
    if all_are_there && faults.is_empty() {
        let misfits = rules.filter_map(|rule| {
            let address = rule.address.filter(|at| !networks.iter().any(|on| on.may_reserve(*at)))?;
            Some(misfit(address, rule, &networks))
        });
        faults.extend(misfits);
    }
    faults
}

/// The interfaces that addresses are leased on.
pub(super) fn served<'a>(leasing: &'a Leasing, interfaces: &'a [Interface]) -> impl Iterator<Item = &'a Interface> {
    interfaces.iter().filter(|interface| leasing.terms_of(&interface.name).enabled)
}

fn misfit(address: Ipv4Addr, rule: &MachineRule, networks: &[Network]) -> String {
    let there: Vec<String> = networks.iter().map(|on| format!("{} on {}", on.prefix, on.name)).collect();
    let whose = rule.name.as_deref().unwrap_or("a machine");
    format!(
        "the address {address} of {whose} cannot be leased: use a free address of a leased network ({})",
        there.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::network::tests::terms;

    fn leasing(range: &str) -> Leasing {
        let (terms, ask_every) = (terms(&[range]), std::time::Duration::from_secs(300));
        let (interfaces, relayed) = (Default::default(), Vec::new());
        Leasing { everyone: true, on_default_route: true, ask_every, terms, interfaces, relayed }
    }

    fn two_addresses() -> Vec<Interface> {
        let addresses = vec![Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(192, 0, 2, 1)];
        let networks = addresses.iter().map(|at| (Prefix::of(*at, 24).network, 24)).collect();
        let (name, link_address) = ("eth1".to_owned(), Some([2, 0, 0, 0, 0, 1]));
        vec![Interface { name, index: 1, link_address, addresses, networks, mtu: 1500, is_up: true }]
    }

    #[test]
    fn the_address_whose_network_has_the_range_goes_first() {
        for (range, first) in [
            ("192.0.2.100-192.0.2.120", [192, 0, 2, 1]),
            ("198.51.100.100-198.51.100.120", [198, 51, 100, 1]),
            ("203.0.113.1-203.0.113.9", [198, 51, 100, 1]),
        ] {
            let leasing = leasing(range);
            let arranged = arranged(two_addresses(), Some(&leasing));
            assert_eq!(arranged[0].address(), Ipv4Addr::from(first), "{range}");
            assert_eq!(arranged[0].networks[0].0, Prefix::of(first.into(), 24).network);
            let faults = faults(&leasing, &arranged, std::iter::empty());
            assert_eq!(faults.is_empty(), !range.starts_with("203"), "{faults:?}");
        }
    }

    #[test]
    fn a_reservation_that_no_network_has_is_a_fault() {
        let reserved =
            |address| MachineRule { address: Some(address), name: Some("k8s08".into()), ..MachineRule::default() };
        let leasing = leasing("192.0.2.100-192.0.2.120");
        let interfaces = arranged(two_addresses(), Some(&leasing));
        let of = |last: [u8; 4]| faults(&leasing, &interfaces, [reserved(last.into())].iter());
        assert_eq!(of([192, 0, 2, 50]), [""; 0]);
        for address in [[192, 0, 2, 1], [192, 0, 2, 255], [172, 16, 0, 9]] {
            let expected = format!(
                "the address {} of k8s08 cannot be leased: use a free address of a leased network (192.0.2.0/24 on eth1)",
                Ipv4Addr::from(address)
            );
            assert_eq!(of(address), [expected]);
        }
    }
}
