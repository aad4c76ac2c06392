//! `[lease]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::machine::Names;

/// Leases of netbootd's own, for networks without a DHCP server. A key in this section switches them on.
///
/// netbootd leases only while no other server does: it asks before its first lease and every five minutes, and stops
/// when another server answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Lease {
    /// Whether to lease addresses. Without it: if another key of this section is set.
    pub enabled: Option<bool>,
    /// Who gets a lease: `"boot"` (boot clients, and machines that booted from netbootd within the last hour), or `"all"`.
    pub clients: LeaseClients,
    /// Lease also on an interface with this host's default route, if no other server answers there.
    pub on_default_route: bool,
    /// The longest time between two questions whether another server leases addresses; at most `"5m"`.
    pub ask_every: String,
    /// Addresses, for example `"192.0.2.100-192.0.2.200"`; or a list. Without it: all addresses of the interface's
    /// network, except those of this server.
    pub range: Names,
    /// How long a lease is valid. Firmware gets at most ten minutes, because the system that it boots asks again.
    pub time: String,
    /// Router (option 3).
    pub router: Names,
    /// DNS servers (option 6).
    pub dns: Names,
    /// Domain name (option 15).
    pub domain: Option<String>,
    /// NTP servers (option 42).
    pub ntp: Names,
    /// More DHCP options, by name or number.
    pub options: BTreeMap<String, OptionValue>,
    /// What is different on an interface.
    pub interfaces: BTreeMap<String, LeaseTerms>,
    /// Networks behind relays.
    pub relayed: Vec<RelayedNetwork>,
}

impl Lease {
    /// Whether addresses are leased.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.enabled.unwrap_or_else(|| *self != Self::default())
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            enabled: None,
            clients: LeaseClients::Boot,
            on_default_route: false,
            ask_every: "5m".into(),
            range: Names::default(),
            time: "1h".into(),
            router: Names::default(),
            dns: Names::default(),
            domain: None,
            ntp: Names::default(),
            options: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            relayed: Vec::new(),
        }
    }
}

/// Who gets a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeaseClients {
    /// Boot clients, and machines that booted from us within the last hour.
    Boot,
    /// Every client.
    All,
}

/// The keys of `[lease]` that one network can have of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct LeaseTerms {
    /// Whether to lease addresses there.
    pub enabled: Option<bool>,
    /// Addresses.
    pub range: Names,
    /// How long a lease is valid.
    pub time: Option<String>,
    /// Router (option 3).
    pub router: Names,
    /// DNS servers (option 6).
    pub dns: Names,
    /// Domain name (option 15).
    pub domain: Option<String>,
    /// NTP servers (option 42).
    pub ntp: Names,
    /// More DHCP options, by name or number.
    pub options: BTreeMap<String, OptionValue>,
}

/// A network whose router forwards DHCP requests to netbootd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct RelayedNetwork {
    /// The network, for example `"198.51.100.0/24"`. The relay's address is in it.
    pub prefix: String,
    /// Addresses of it.
    pub range: Names,
    /// How long a lease is valid.
    pub time: Option<String>,
    /// Router (option 3).
    pub router: Names,
    /// DNS servers (option 6).
    pub dns: Names,
    /// Domain name (option 15).
    pub domain: Option<String>,
    /// NTP servers (option 42).
    pub ntp: Names,
    /// More DHCP options, by name or number.
    pub options: BTreeMap<String, OptionValue>,
}

/// The value of a DHCP option.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, a number, true, false, or a list of texts")]
pub enum OptionValue {
    /// `true` or `false`
    Switch(bool),
    /// A number.
    Number(i64),
    /// A text, an address, or `"hex:01ff"`.
    Text(String),
    /// Several.
    List(Vec<String>),
}
