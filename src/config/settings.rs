//! The settings of the daemon, without what it finds on the host.

use std::{
    collections::BTreeMap,
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Finding, schema, watched::Watched};
use crate::{
    boot::{
        machine::{MachineRule, Menu, OfferShape, Rendered},
        policy::Policy,
        profile::Profile,
        selector::Selector,
        template::Templates,
        urls::without_password,
    },
    files::AssetRoot,
    lease::terms::Leasing,
    net::{limits::ClientLimits, proxies::TrustedProxies},
    offers::attempts::Rates,
};

/// The settings of the daemon. Interfaces and loaders are found later on the host.
#[derive(Debug)]
pub struct Settings {
    /// Interfaces by name; none: netbootd chooses one.
    pub interfaces: Vec<String>,
    /// The assets folder, open.
    pub assets: Option<Arc<AssetRoot>>,
    /// Folders to search for loaders, before the folders of the packages.
    pub loader_dirs: Vec<std::path::PathBuf>,
    /// The DHCP stage.
    pub dhcp: Dhcp,
    /// The terms of leases, if addresses are leased.
    pub lease: Option<Leasing>,
    /// The path of the state file; with a server, of the copy.
    pub state: StateUrl,
    /// The server that several appliances share.
    pub state_server: Option<StateServer>,
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
    /// The limits for HTTP clients.
    pub http_limits: ClientLimits,
    /// The proxies that name their clients.
    pub trusted_proxies: TrustedProxies,
    /// The time for running transfers to finish when the server stops.
    pub grace: Duration,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// The profile of machines that no rule names.
    pub default_profile: String,
    /// The embedded templates with the user's own.
    pub templates: Templates,
    /// What rendering them has found.
    pub rendered: Rendered,
    /// Which clients get answer files.
    pub answers: Policy,
    /// The built-in menu.
    pub menu: Menu,
    /// Rules for machines.
    pub machines: Vec<(Selector, MachineRule)>,
    /// Who may change assignments while the server runs.
    pub control: schema::Control,
    /// The files that it was read from.
    pub watched: Watched,
    /// A fingerprint of those files: the same number as long as they do not change.
    pub read: u64,
    /// Faults and warnings that a server can run with.
    pub findings: Vec<Finding>,
    /// The length of the command lines of the profiles.
    pub cmdlines: Vec<Cmdline>,
    /// The place of each rule's loader key, by the index of the rule.
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
    /// How long a machine asks in vain before a standby answers it; zero: none.
    pub answer_after: Duration,
    /// Whether only machines that a rule names are answered.
    pub known_only: bool,
    /// Answers a second.
    pub rates: Rates,
}

/// The path of the state file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateUrl {
    /// Set in the configuration: it has to work.
    Set(String),
    /// The default path of the packages. It is optional.
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

/// A PostgreSQL server that keeps the state of several appliances.
#[derive(Clone, PartialEq, Eq)]
pub struct StateServer {
    /// As libpq writes it; it may hold a password.
    pub url: String,
    /// The password, where a file holds it.
    pub password: Option<String>,
    /// That file.
    pub password_file: Option<PathBuf>,
    /// The name of this appliance.
    pub appliance: String,
    /// How long boots are kept.
    pub keep_boots: Duration,
}

impl fmt::Debug for StateServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", without_password(&self.url), self.appliance)
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

/// The longest command line that the template of a profile makes, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cmdline {
    /// The profile.
    pub profile: String,
    /// Its variant.
    pub arch: Option<String>,
    /// The place of the template.
    pub place: String,
    /// What a message about it begins with, where the place does not say which profile it is.
    pub whose: String,
    /// Bytes, including the names of the initrds that are added to it.
    pub length: usize,
}
