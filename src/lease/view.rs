//! What people and programs see of the leases.

use std::{net::Ipv4Addr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::book::Held;
use crate::boot::mac::MacAddr;

/// A network, and how its leases stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnNetwork {
    /// The interface's name, or the prefix of a network behind a relay.
    pub name: Arc<str>,
    /// How it stands.
    pub state: Standing,
    /// Why it stopped, as a sentence.
    pub why: Option<String>,
    /// The label of this, for metrics.
    pub label: Option<&'static str>,
    /// Its ranges, as a text.
    pub range: String,
    /// The number of addresses in them.
    pub size: u32,
    /// How often no address was free for a machine.
    pub full: u64,
}

/// How a network stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is asked whether another server leases there.
    Asking,
    /// Addresses are leased.
    Leasing,
    /// No address is leased any more.
    Stopped,
}

impl Standing {
    /// A short fixed name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Asking => "asking",
            Self::Leasing => "leasing",
            Self::Stopped => "stopped",
        }
    }
}

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneLease {
    /// The address.
    pub address: Ipv4Addr,
    /// The machine's card.
    pub card: MacAddr,
    /// The network's name.
    pub network: Arc<str>,
    /// What it is.
    pub held: Held,
    /// In so many seconds this ends; negative: it has ended.
    pub ends_in: i64,
    /// For so many seconds it was given.
    pub time: u64,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// By their names; empty: netbootd leases nowhere.
    pub networks: Vec<OnNetwork>,
    /// By their addresses.
    pub leases: Vec<OneLease>,
    /// Replies since the start, by their names.
    pub replies: Vec<(&'static str, u64)>,
}
