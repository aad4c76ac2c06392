//! What the daemon runs, but for what it finds on the host.

use std::{collections::BTreeMap, ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

use super::{Finding, schema, watched::Watched};
use crate::{
    boot::{
        answer,
        attempts::Rates,
        machine::{MachineRule, Menu, OfferShape},
        profile::Profile,
        selector::Selector,
        template::Templates,
    },
    files::AssetRoot,
    net::limits::ClientLimits,
};

/// What the daemon runs, but for what it finds on the host: interfaces and loaders.
#[derive(Debug)]
pub struct Settings {
    /// Interfaces by name; none: to be chosen.
    pub interfaces: Vec<String>,
    /// The assets folder, open.
    pub assets: Option<Arc<AssetRoot>>,
    /// Folders to look for loaders in, before the packages' places.
    pub loader_dirs: Vec<std::path::PathBuf>,
    /// The DHCP stage.
    pub dhcp: Dhcp,
    /// Where what outlives a restart is kept.
    pub state: StateUrl,
    /// The TFTP stage.
    pub tftp: Tftp,
    /// The syslog stage, where it is served.
    pub syslog: Option<Syslog>,
    /// TCP port of the HTTP stage.
    pub http_port: u16,
    /// Whether HTTP shows the folders below the assets folder.
    pub listing: bool,
    /// Base of all URLs, without a slash at its end.
    pub base_url: Option<String>,
    /// What HTTP clients are held to.
    pub http_limits: ClientLimits,
    /// For transfers that run when the server is told to stop.
    pub grace: Duration,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// The profile of a machine that no rule names.
    pub default_profile: String,
    /// The embedded templates with the user's own.
    pub templates: Templates,
    /// Who gets answer files.
    pub answers: answer::Policy,
    /// The built-in menu.
    pub menu: Menu,
    /// Rules about machines.
    pub machines: Vec<(Selector, MachineRule)>,
    /// Who may change something while the server runs.
    pub control: schema::Control,
    /// What it was read from.
    pub watched: Watched,
    /// The same number as long as nothing has changed of that.
    pub read: u64,
    /// What a server runs with, and people want to know of.
    pub findings: Vec<Finding>,
    /// How long the command lines of the profiles get.
    pub cmdlines: Vec<Cmdline>,
    /// Where each rule names a loader, by its place among the rules.
    pub loader_places: BTreeMap<usize, String>,
}

/// The DHCP stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dhcp {
    /// Whether to serve it.
    pub enabled: bool,
    /// How to listen on port 67.
    pub socket: schema::DhcpSocket,
    /// The shape of offers.
    pub offer: OfferShape,
    /// How long offers to firmware wait.
    pub reply_delay: Duration,
    /// Whether only machines that a rule names are answered.
    pub known_only: bool,
    /// Answers a second.
    pub rates: Rates,
}

/// Where the state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateUrl {
    /// Where the configuration says: it has to work.
    Set(String),
    /// Where the packages put it, if they did.
    Default(String),
}

impl StateUrl {
    /// The file that it names.
    #[must_use]
    pub fn path(&self) -> &Path {
        let (Self::Set(url) | Self::Default(url)) = self;
        let path = url.strip_prefix("sqlite://").unwrap_or(url);
        Path::new(path.split('?').next().unwrap_or(path))
    }
}

/// The TFTP stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tftp {
    /// Whether to serve it.
    pub enabled: bool,
    /// UDP port.
    pub port: u16,
    /// Answer from that port itself.
    pub single_port: bool,
    /// Ports to answer from; none: any.
    pub transfer_ports: Option<RangeInclusive<u16>>,
    /// Largest block in bytes of data.
    pub max_block_size: u16,
    /// Blocks in flight at most.
    pub max_window_size: u16,
    /// Transfers at once.
    pub max_transfers: usize,
    /// Transfers at once for one address.
    pub max_transfers_per_client: usize,
}

/// The syslog stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// UDP port.
    pub port: u16,
    /// Lines a second.
    pub rates: Rates,
}

/// The longest command line that a profile's template makes, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmdline {
    /// The profile.
    pub profile: String,
    /// Its variant.
    pub arch: Option<String>,
    /// Where the template stands.
    pub place: String,
    /// Bytes, with the names of the initrds that are put before it.
    pub length: usize,
}
