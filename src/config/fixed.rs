//! The settings that a reload cannot change.

use std::{
    fmt,
    net::Ipv4Addr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::schema;
use crate::{
    boot::urls::without_password,
    files::AssetRoot,
    lease::terms::Leasing,
    net::{limits::ClientLimits, proxies::TrustedProxies},
    offers::attempts::Rates,
};

/// Settings that are used at the start. A change needs a restart.
#[derive(Clone, Debug)]
pub struct Fixed {
    /// Interfaces by name; none: netbootd chooses one.
    pub interfaces: Vec<String>,
    /// The assets folder, open.
    pub assets: Option<Arc<AssetRoot>>,
    /// The DHCP stage.
    pub dhcp: Dhcp,
    /// The terms of leases, if addresses are leased.
    pub lease: Option<Leasing>,
    /// The TFTP stage.
    pub tftp: Tftp,
    /// The syslog stage, where it is served.
    pub syslog: Option<Syslog>,
    /// The HTTP stage.
    pub http: Http,
    /// The path of the state file; with a server, of the copy.
    pub state: StateUrl,
    /// The server that several appliances share.
    pub state_server: Option<StateServer>,
    /// Who may change assignments while the server runs.
    pub control: schema::Control,
}

impl Fixed {
    /// The sections that differ.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let folder = |fixed: &Self| fixed.assets.as_ref().map(|assets| assets.named().to_owned());
        let state = |fixed: &Self| (fixed.state.clone(), fixed.state_server.clone());
        let sections = [
            ("interfaces", self.interfaces == other.interfaces),
            ("assets", folder(self) == folder(other)),
            ("[dhcp] enabled, socket or rates", self.dhcp == other.dhcp),
            ("[lease]", self.lease == other.lease),
            ("[tftp]", self.tftp == other.tftp),
            ("[syslog]", self.syslog == other.syslog),
            ("[http]", self.http == other.http),
            ("[state]", state(self) == state(other)),
            ("[control]", self.control == other.control),
        ];
        sections.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }
}

/// The DHCP stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dhcp {
    /// Whether to serve it.
    pub enabled: bool,
    /// How to listen on port 67.
    pub socket: schema::DhcpSocket,
    /// Answers a second.
    pub rates: Rates,
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

/// The HTTP stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// TCP port.
    pub port: u16,
    /// Base of all URLs, without a slash at its end; none: the address that the client is on.
    pub base_url: Option<String>,
    /// Whether the folders below the assets folder are shown.
    pub listing: bool,
    /// The limits for clients.
    pub limits: ClientLimits,
    /// The proxies that name their clients.
    pub trusted_proxies: TrustedProxies,
    /// The time for running transfers to finish when the server stops.
    pub grace: Duration,
}

impl Http {
    /// Base of the URLs for clients that reach this server at an address.
    #[must_use]
    pub fn base(&self, address: Ipv4Addr) -> String {
        self.base_url.clone().unwrap_or_else(|| format!("http://{address}:{}", self.port))
    }

    /// The same for firmware, which often has no DNS: where the configuration names a host, the address all the same.
    #[must_use]
    pub fn firmware_base(&self, address: Ipv4Addr) -> String {
        let has_address = self.host().is_some_and(|host| host.parse::<Ipv4Addr>().is_ok());
        let with_address = self.base_url.clone().filter(|_| has_address);
        with_address.unwrap_or_else(|| format!("http://{address}:{}", self.port))
    }

    /// The host of a base that is good otherwise.
    pub(super) fn host(&self) -> Option<String> {
        let uri = self.base_url.as_deref()?.parse::<http::Uri>().ok();
        let uri = uri.filter(|uri| uri.scheme_str() == Some("http"))?;
        Some(uri.host()?.trim_matches(['[', ']']).to_owned())
    }
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
