//! `[lease]` → the terms of leases.

use std::{collections::BTreeMap, net::Ipv4Addr, ops::RangeInclusive, time::Duration};

use super::{
    check::Check,
    lease_options::{self, NotAnOption, hosts},
    schema::{Lease, LeaseClients, LeaseTerms, Names, OptionValue, RelayedNetwork},
};
use crate::{
    boot::{machine::MachineRule, selector::Selector},
    lease::{
        network::Network,
        terms::{Leasing, Prefix, Range, Terms},
    },
};

/// The keys of one table, with those of `[lease]` where it has none of its own.
struct Keys<'a> {
    path: Vec<&'a str>,
    range: &'a Names,
    router: &'a Names,
    dns: &'a Names,
    domain: Option<&'a str>,
    ntp: &'a Names,
    options: &'a BTreeMap<String, OptionValue>,
}

impl Check<'_> {
    /// The terms, if addresses are leased at all.
    pub(super) fn lease(&mut self) -> Option<Leasing> {
        let lease = self.loaded.config.lease.clone();
        let Lease { clients, on_default_route, ask_every, time, interfaces, relayed, .. } = &lease;
        let time = self.duration(&["lease", "time"], time, TIME);
        let ask_every = self.duration(&["lease", "ask_every"], ask_every, ASK_EVERY);
        let global = Keys {
            path: vec!["lease"],
            range: &lease.range,
            router: &lease.router,
            dns: &lease.dns,
            domain: lease.domain.as_deref(),
            ntp: &lease.ntp,
            options: &lease.options,
        };
        let terms = Terms {
            enabled: true,
            ranges: self.ranges(&global),
            time,
            options: self.lease_options(&global, BTreeMap::new()),
        };
        let own = interfaces.iter().map(|(name, own)| (name.clone(), self.on_interface(name, own, &terms))).collect();
        let mut networks: Vec<(Prefix, Terms)> = Vec::new();
        for (index, network) in relayed.iter().enumerate() {
            let index = index.to_string();
            let Some((prefix, terms)) = self.behind_relay(&index, network, &terms) else { continue };
            let mut others = networks.iter().flat_map(|(_, other)| &other.ranges);
            let both = others.find_map(|other| Some((other, terms.ranges.iter().find(|range| range.overlaps(other))?)));
            if let Some((other, range)) = both {
                let message = format!("the ranges {other} and {range} overlap: {ONE_NETWORK}");
                self.fault(&["lease", "relayed", &index, "range"], message);
            }
            networks.push((prefix, terms));
        }
        if lease.is_on() && !self.loaded.config.dhcp.enabled {
            let message = "leases need DHCP: set dhcp.enabled = true, or remove [lease]";
            self.fault(&["dhcp", "enabled"], message.into());
        }
        let served = self.loaded.config.interfaces.clone();
        for name in interfaces.keys().filter(|name| !served.is_empty() && !served.contains(name)) {
            let message = format!("netbootd does not serve {name}: add it to interfaces, or remove this section");
            self.fault(&["lease", "interfaces", name], message);
        }
        let everyone = *clients == LeaseClients::All;
        lease.is_on().then_some(Leasing {
            everyone,
            on_default_route: *on_default_route,
            ask_every,
            terms,
            interfaces: own,
            relayed: networks,
        })
    }

    fn on_interface(&mut self, name: &str, own: &LeaseTerms, all: &Terms) -> Terms {
        let LeaseTerms { enabled, range, time, router, dns, domain, ntp, options } = own;
        let path = vec!["lease", "interfaces", name];
        let keys = Keys { path, range, router, dns, domain: domain.as_deref(), ntp, options };
        Terms { enabled: enabled.unwrap_or(true), ..self.terms(&keys, time.as_deref(), all) }
    }

    fn behind_relay(&mut self, index: &str, network: &RelayedNetwork, all: &Terms) -> Option<(Prefix, Terms)> {
        let RelayedNetwork { prefix, range, time, router, dns, domain, ntp, options } = network;
        let path = vec!["lease", "relayed", index];
        let keys = Keys { path: path.clone(), range, router, dns, domain: domain.as_deref(), ntp, options };
        let terms = self.terms(&keys, time.as_deref(), &Terms { ranges: Vec::new(), ..all.clone() });
        let Some(prefix) = prefix_of(prefix) else {
            let message = format!("{prefix:?} is not a network; example: \"198.51.100.0/24\"");
            self.fault(&[&path[..], &["prefix"]].concat(), message);
            return None;
        };
        if terms.ranges.is_empty() {
            let at = |host: u32| Ipv4Addr::from_bits(prefix.network.to_bits() | host);
            let example =
                format!("{}-{}", at(1), prefix.last().to_bits().checked_sub(1).map_or(at(2), Ipv4Addr::from_bits));
            let message = format!("the network {prefix} has no range: add one, such as \"{example}\"");
            self.fault(&path, message);
        } else if let Err(message) = Network::new(prefix.to_string().into(), prefix, Vec::new(), &terms) {
            self.fault(&[&path[..], &["range"]].concat(), message);
        }
        Some((prefix, terms))
    }

    fn terms(&mut self, keys: &Keys<'_>, time: Option<&str>, all: &Terms) -> Terms {
        let own = self.ranges(keys);
        let ranges = if own.is_empty() { all.ranges.clone() } else { own };
        let time = time.map_or(all.time, |time| self.duration(&keys.of("time"), time, TIME));
        Terms { enabled: true, ranges, time, options: self.lease_options(keys, all.options.clone()) }
    }

    fn ranges(&mut self, keys: &Keys<'_>) -> Vec<Range> {
        let mut ranges: Vec<Range> = Vec::new();
        for text in keys.range.all() {
            match text.parse::<Range>() {
                Ok(range) if range.has_no_hosts() => {
                    let message = format!("no machine can have an address of {range}: {ADDRESSES}");
                    self.fault(&keys.of("range"), message);
                }
                Ok(range) => match ranges.iter().find(|other| other.overlaps(&range)) {
                    Some(other) => self.fault(
                        &keys.of("range"),
                        format!("the ranges {other} and {range} overlap: an address can be in one of them only"),
                    ),
                    None => ranges.push(range),
                },
                Err(message) => self.fault(&keys.of("range"), message),
            }
        }
        let size: u64 = ranges.iter().map(|range| u64::from(range.size())).sum();
        if size > u64::from(Range::MOST) {
            let message = format!("the ranges have {size} addresses: use {} at most", Range::MOST);
            self.fault(&keys.of("range"), message);
        }
        ranges
    }

    fn lease_options(&mut self, keys: &Keys<'_>, mut options: BTreeMap<u8, Vec<u8>>) -> BTreeMap<u8, Vec<u8>> {
        let lists = [("router", 3, keys.router), ("dns", 6, keys.dns), ("ntp", 42, keys.ntp)];
        for (key, code, names) in lists.into_iter().filter(|(_, _, names)| !names.all().is_empty()) {
            match hosts(names.all()) {
                Ok(data) => drop(options.insert(code, data)),
                Err(message) => self.fault(&keys.of(key), message),
            }
        }
        if let Some(domain) = keys.domain {
            match lease_options::domain(domain) {
                Ok(data) => drop(options.insert(15, data)),
                Err(message) => self.fault(&keys.of("domain"), message),
            }
        }
        for (name, value) in keys.options {
            match lease_options::encode(name, value) {
                Ok((code, data)) => drop(options.insert(code, data)),
                Err(NotAnOption(message)) => {
                    let path = [keys.of("options"), vec![name.as_str()]].concat();
                    self.fault(&path, message);
                }
            }
        }
        options
    }

    /// Reservations: each address is one machine's.
    pub(super) fn reservations(&mut self, rules: &[(Selector, MachineRule)]) {
        let reserved = rules.iter().enumerate().filter_map(|(index, (_, rule))| Some((index, rule.address?)));
        let reserved: Vec<(usize, Ipv4Addr)> = reserved.collect();
        for (place, (index, address)) in reserved.iter().enumerate() {
            let index_text = index.to_string();
            let path = ["machines", &index_text, "address"];
            let before = reserved.get(..place).unwrap_or_default().iter().find(|(_, other)| other == address);
            if let Some((other, _)) = before {
                let words = format!(
                    "{address} is already the address of the rule at {}: give each machine its own",
                    self.loaded.places.of(&["machines", &other.to_string()])
                );
                self.fault(&path, words);
            }
            if (Range { first: *address, last: *address }).has_no_hosts() {
                self.fault(&path, format!("no machine can have the address {address}: {ADDRESSES}"));
            }
            let is_for_one = rules.get(*index).is_some_and(|(selector, _)| selector.names_one_machine());
            if !is_for_one {
                let words = "an address is for one machine: the rule needs mac, uuid or serial";
                self.fault(&path, words.into());
            }
            if !self.loaded.config.lease.is_on() {
                let words =
                    format!("{address} is not used: netbootd leases no addresses without [lease] or up --lease");
                self.finding(super::Level::Warning, &path, words);
            }
        }
    }
}

impl<'a> Keys<'a> {
    fn of(&self, key: &'a str) -> Vec<&'a str> {
        [&self.path[..], &[key]].concat()
    }
}

fn prefix_of(text: &str) -> Option<Prefix> {
    let (address, length) = text.trim().split_once('/')?;
    let length = length.parse().ok().filter(|length| (8..=30).contains(length))?;
    Some(Prefix::of(address.parse().ok()?, length))
}

const ADDRESSES: &str = "use addresses of a network of this server, such as 192.0.2.100";
const ONE_NETWORK: &str = "an address can be in one network only";
/// A server that comes later must be noticed within five minutes.
const ASK_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(300);
/// A shorter lease would end before a client renews it. A longer one is out of an installer's needs.
const TIME: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 3600);
