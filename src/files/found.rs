//! What a name is looked up in, who asks, and what is found.

use std::{
    net::Ipv4Addr,
    sync::{Mutex, PoisonError},
};

use super::{asset::Asset, root::AssetRoot};
use crate::boot::{
    answer::Signer,
    attempts::Attempts,
    client::MacAddr,
    event::{Of, Over},
    identity::MachineId,
    loader::{Loader, LoaderFile},
    machine::{Live, Rules},
    script::{Outcome, Query},
};

/// What names are looked up in.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// The loaders, and what texts are made by.
    pub rules: &'a Rules,
    /// The assets folder, where there is one.
    pub assets: Option<&'a AssetRoot>,
    /// Our HTTP stage as the client reaches it, without a slash at its end.
    pub base: &'a str,
    /// For texts of one machine's own; without it there are none.
    pub caller: Option<Caller<'a>>,
}

/// Who asks, as far as the answer depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// The loader that its firmware runs, for the name [`UNIVERSAL`].
    pub firmware: Loader,
    /// It is an iPXE that can run a script: a loader would only lead it back here.
    pub is_ipxe: bool,
}

/// What a client gets.
#[derive(Debug)]
pub enum Found {
    /// A loader of this host.
    Loader(LoaderFile),
    /// A file below the assets folder.
    Asset {
        /// Its path there, which may be written otherwise than the client wrote it.
        path: String,
        /// The open file.
        asset: Asset,
        /// A loader of the user's own goes by the name of one of this host's.
        of: Of,
    },
    /// A text that was made for whoever asks.
    Text {
        /// What it is called in the timeline.
        name: String,
        /// The whole of it.
        text: String,
        /// What was decided, where it is a boot script of one machine.
        decided: Option<Decided>,
    },
}

/// A decision that came with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The machine, where it is known.
    pub machine: Option<MachineId>,
    /// What the text is to do.
    pub outcome: Outcome,
}

impl Found {
    /// The name of a loader, one of this host's or of the user's own.
    #[must_use]
    pub fn loader(&self) -> Option<&str> {
        match self {
            Self::Loader(file) => Some(&file.name),
            Self::Asset { path, of: Of::Loader, .. } => Some(path),
            Self::Asset { .. } | Self::Text { .. } => None,
        }
    }
}

/// What is known of whoever asks for a text of its own.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Where it asks from.
    pub address: Option<Ipv4Addr>,
    /// The interface of ours that it asks on, where that is told by our address.
    pub interface: Option<&'a str>,
    /// By which protocol.
    pub over: Over,
    /// What machines have tried, and at which addresses they are.
    pub attempts: &'a Mutex<Attempts>,
    /// What decides.
    pub live: &'a Live,
    /// Who signs the addresses of answer files.
    pub signer: Option<Signer<'a>>,
}

impl Caller<'_> {
    /// The machine at the caller's address.
    pub(super) fn machine(&self) -> Option<MachineId> {
        let attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        attempts.machine_at(self.address?)
    }

    /// Such a client says no more of itself than a name; its DHCP request said the rest.
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
