//! What a name is looked up in, who asks, and what is found.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use super::{asset::Asset, root::AssetRoot};
use crate::{
    boot::{
        answer::Signer,
        beginning::Beginning,
        identity::MachineId,
        live::Live,
        loader::{ClientArch, LoaderFile},
        mac::MacAddr,
        machine::Rules,
        outcome::Outcome,
        over::{Of, Over},
        query::Query,
    },
    offers::attempts::Attempts,
};

/// The places where names are searched.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The loaders, and the data for texts.
    pub rules: &'a Rules,
    /// The assets folder, if there is one.
    pub assets: Option<&'a AssetRoot>,
    /// Our HTTP server, as the client reaches it, without a slash at the end.
    pub base: &'a str,
    /// For texts that are made for one machine. Without it there are none.
    pub caller: Option<Caller<'a>>,
}

/// The client, as far as the result depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The architecture of its firmware, for the name [`UNIVERSAL`].
    pub firmware: ClientArch,
    /// It is an iPXE that can run a script. A loader would only make it ask again.
    pub is_ipxe: bool,
}

/// The result for a client.
#[derive(Debug)]
pub enum Found {
    /// A loader of this host.
    Loader(LoaderFile),
    /// A file below the assets folder.
    Asset {
        /// Its path there. It can differ from the path that the client sent.
        path: String,
        /// The open file.
        asset: Arc<Asset>,
        /// A loader in the assets folder that has the name of a loader of this host.
        of: Of,
    },
    /// A text that was made for the client.
    Text {
        /// Its name in the timeline.
        name: String,
        /// The whole text.
        text: String,
        /// The decision, if it is the boot script of a machine.
        decided: Option<Decided>,
    },
}

/// A decision that a text contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The machine, if it is known.
    pub machine: Option<MachineId>,
    /// What the text does.
    pub outcome: Outcome,
    /// The text waits until it is kept that its machine begins a one-time profile with it.
    pub begins: Option<Box<Beginning>>,
}

impl Found {
    /// The name of the loader, if it is one.
    #[must_use]
    pub fn loader(&self) -> Option<&str> {
        match self {
            Self::Loader(file) => Some(&file.name),
            Self::Asset { path, of: Of::Loader, .. } => Some(path),
            Self::Asset { .. } | Self::Text { .. } => None,
        }
    }
}

/// What is known about the client.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The client's address.
    pub address: Option<Ipv4Addr>,
    /// Our interface that received the request, if our address shows it.
    pub interface: Option<&'a str>,
    /// The protocol.
    pub over: Over,
    /// What it fetches counts as what its machine boots.
    pub is_boot_client: bool,
    /// What machines tried recently, and their addresses.
    pub attempts: &'a Mutex<Attempts>,
    /// The data for decisions.
    pub live: &'a Live,
    /// Signs the URLs of answer files.
    pub signer: Option<Signer<'a>>,
}

impl Caller<'_> {
    /// The machine at the client's address.
    pub(super) fn machine(&self) -> Option<MachineId> {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.machine_at(self.address?)
    }

    /// Such a client sends only a name. The rest was in its DHCP request.
    pub(super) fn query(&self, mac: MacAddr) -> Query {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let heard_on = || attempts.heard_on(mac).map(|name| name.to_string());
        Query {
            mac: Some(mac.to_string()),
            uuid: self
                .address
                .and_then(|at| attempts.machine_at(at))
                .filter(|m| m.card == mac)
                .and_then(|m| m.uuid())
                .map(|uuid| uuid.to_string()),
            arch: attempts.loader_of(mac).map(|loader| loader.arch().to_owned()),
            interface: self.interface.map(str::to_owned).or_else(heard_on),
            ..Query::default()
        }
    }
}
