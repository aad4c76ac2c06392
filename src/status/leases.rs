//! Leases, as programs and people are shown them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::server::Server;
use crate::{
    boot::{machine::Live, selector::Facts},
    lease::{
        book::Held,
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
            let in_use = leases.iter().filter(|lease| lease.network == *network.name && !lease.ended).count();
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

fn moment(now: Moment, seconds: i64) -> Moment {
    let now = now.since(Moment::default());
    let apart = Duration::from_secs(seconds.unsigned_abs());
    let then = if seconds >= 0 { now + apart } else { now.saturating_sub(apart) };
    Moment::from_secs(then.as_secs())
}
