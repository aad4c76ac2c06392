//! Leases, as programs and people are shown them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::server::Server;
use crate::{
    boot::{live::Live, selector::Facts},
    lease::{
        book::Held,
        terms::Range,
        view::{OnNetwork, OneLease, Standing},
    },
    timeline::moment::Moment,
};

/// All leases, and how their networks stand. Field names are kept from one release to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Leases {
    /// The networks on which addresses are leased, or were.
    pub networks: Vec<Network>,
    /// The addresses that are or were in use, in their order.
    pub leases: Vec<Lease>,
}

/// A network on which addresses are leased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// The name of the interface, or the prefix of a network behind a relay.
    pub name: String,
    /// How it stands.
    pub state: Standing,
    /// Why no address is leased any more.
    pub why: Option<String>,
    /// The addresses.
    pub range: String,
    /// How many addresses these are.
    pub addresses: u32,
    /// How many of them are in use now.
    pub in_use: u32,
}

/// An address that is or was in use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// The address.
    pub address: String,
    /// The MAC address of the machine's card.
    pub mac: String,
    /// The machine's name from its rule.
    pub name: Option<String>,
    /// The network.
    pub network: String,
    /// What the address is.
    pub state: Held,
    /// Whether this has ended. The machine gets the same address again if nobody has it then.
    pub ended: bool,
    /// When this ends, or ended.
    pub ends: Moment,
}

impl Leases {
    /// As they are now.
    #[must_use]
    pub fn now(live: &Live, server: &dyn Server, now: Moment) -> Self {
        let seen = server.leases();
        let rules = live.rules.load();
        let lease = |lease: &OneLease| {
            let facts =
                Facts { mac: lease.card, uuid: None, serial: None, hardware: None, arch: None, interface: None };
            Lease {
                address: lease.address.to_string(),
                mac: lease.card.to_string(),
                name: rules.machines.of(&facts).and_then(|(_, rule)| rule.name.clone()),
                network: lease.network.to_string(),
                state: lease.held,
                ended: lease.ends_in <= 0,
                ends: moment(now, lease.ends_in),
            }
        };
        let leases: Vec<Lease> = seen.leases.iter().map(lease).collect();
        let network = |network: &OnNetwork| {
            let in_use = in_use(network, &seen.leases);
            Network {
                name: network.name.to_string(),
                state: network.state,
                why: network.why.clone(),
                range: network.range.clone(),
                addresses: network.size,
                in_use: u32::try_from(in_use).unwrap_or(u32::MAX),
            }
        };
        Self { networks: seen.networks.iter().map(network).collect(), leases }
    }
}

/// How many addresses of its ranges are in use. Reservations, and leases of a range that was changed, may be outside.
fn in_use(network: &OnNetwork, leases: &[OneLease]) -> usize {
    let ranges: Vec<Range> = network.range.split(", ").filter_map(|range| range.parse().ok()).collect();
    let is_here = |lease: &&OneLease| lease.network == network.name && lease.ends_in > 0;
    let here = leases.iter().filter(is_here);
    here.filter(|lease| ranges.iter().any(|range| range.contains(lease.address))).count()
}

fn moment(now: Moment, seconds: i64) -> Moment {
    let now = now.since(Moment::default());
    let apart = Duration::from_secs(seconds.unsigned_abs());
    let then = if seconds >= 0 { now + apart } else { now.saturating_sub(apart) };
    Moment::from_secs(then.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::mac::MacAddr;

    #[test]
    fn addresses_outside_of_the_ranges_are_not_counted() {
        let network = OnNetwork {
            name: "eth1".into(),
            state: Standing::Leasing,
            why: None,
            label: None,
            range: "192.0.2.100-192.0.2.101, 192.0.2.105".into(),
            size: 3,
            full: 0,
        };
        let lease = |network: &str, last: u8, ends_in| OneLease {
            address: [192, 0, 2, last].into(),
            card: MacAddr([2, 0, 0, 0, 0, last]),
            network: network.into(),
            held: Held::Leased,
            ends_in,
            time: 600,
        };
        let leases = [("eth1", 100, 9), ("eth1", 101, 0), ("eth1", 103, 9), ("eth1", 105, 9), ("eth2", 101, 9)];
        let leases = leases.map(|(network, last, ends_in)| lease(network, last, ends_in));
        assert_eq!(in_use(&network, &leases), 2);
    }
}
