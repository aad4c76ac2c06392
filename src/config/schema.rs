//! The configuration file's shape. A default stands beside its reason.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Interfaces to serve; none: the only one that fits is chosen.
    pub interfaces: Vec<String>,
    /// The folder that HTTP serves under `/assets/`; profiles name files in it.
    pub assets: Option<PathBuf>,
    /// For machines that no rule names. The menu, so that a machine that was never meant to be installed is not.
    pub default_profile: String,
    /// Folders to look for iPXE binaries in, before the places of the distributions' packages.
    pub loader_dirs: Vec<PathBuf>,
    /// The TFTP stage.
    pub tftp: Tftp,
    /// The HTTP stage.
    pub http: Http,
    /// What can be booted.
    pub profiles: BTreeMap<String, Profile>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            assets: None,
            default_profile: "menu".into(),
            loader_dirs: Vec::new(),
            tftp: Tftp::default(),
            http: Http::default(),
            profiles: BTreeMap::new(),
        }
    }
}

/// The TFTP stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tftp {
    /// Whether to serve it. Firmware that boots by HTTP alone does without.
    pub enabled: bool,
    /// UDP port. Firmware knows no other than 69.
    pub port: u16,
    /// Answer from that port itself, for NAT and firewalls, instead of from one for each transfer.
    pub single_port: bool,
    /// Ports to answer from, as `"50000-50999"`; none: those that the operating system chooses.
    pub transfer_ports: Option<String>,
    /// Largest block in bytes of data. What iPXE and EDK2 ask for over Ethernet: 1500 bytes less IP, UDP and TFTP
    /// headers. An interface's MTU bounds it as well.
    pub max_block_size: u16,
    /// Blocks in flight at most; EDK2 asks for 4.
    pub max_window_size: u16,
    /// Transfers at once: a rack of machines; the next one is told to try again.
    pub max_transfers: usize,
    /// Transfers at once for one address: a machine needs one.
    pub max_transfers_per_client: usize,
}

impl Default for Tftp {
    fn default() -> Self {
        Self {
            enabled: true,
            port: 69,
            single_port: false,
            transfer_ports: None,
            max_block_size: 1468,
            max_window_size: 64,
            max_transfers: 256,
            max_transfers_per_client: 8,
        }
    }
}

/// The HTTP stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Http {
    /// TCP port. 8080, because 80 is often some other web server's.
    pub port: u16,
    /// Base of all URLs that clients are given; none: the address of the interface that the client is on.
    pub base_url: Option<String>,
    /// Show the folders below `/assets/`. Off, because names of files may tell more than those who put them there think.
    pub listing: bool,
    /// Connections at once; beyond it 503, and iPXE waits and asks again. A thousand machines need a few each.
    pub max_connections: u32,
    /// Connections of one address at once. Firmware opens one, iPXE a few; a rack behind one router more.
    pub max_connections_per_client: u32,
    /// Bytes per second for one client, such as `"10MB"`; `"0"`: as fast as it takes them. For iPXE drivers that hang on
    /// fast links.
    pub rate_limit: String,
    /// For downloads that run when the server is told to stop.
    pub grace: String,
    /// How clients that are gone are told from slow ones.
    pub keepalive: Keepalive,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            port: 8080,
            base_url: None,
            listing: false,
            max_connections: 4096,
            max_connections_per_client: 64,
            rate_limit: "0".into(),
            grace: "30s".into(),
            keepalive: Keepalive::default(),
        }
    }
}

/// How clients that are gone are told from slow ones. There is no setting that ends a slow one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keepalive {
    /// Until the first probe on a connection without traffic.
    pub idle: String,
    /// Between probes.
    pub interval: String,
    /// Unanswered ones that end an idle connection: 2 minutes in all, with the rest of the defaults.
    pub probes: u32,
    /// Without any acknowledgement while data is outstanding. Minutes, because an iPXE that is busy with something other
    /// than its network acknowledges nothing, and Linux probes a closed window every 120 s before 6.15.
    pub dead_after: String,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: "60s".into(), interval: "15s".into(), probes: 4, dead_after: "150s".into() }
    }
}

/// Something to boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// Path below the assets folder.
    pub kernel: String,
    /// Paths below the assets folder.
    pub initrd: Vec<String>,
    /// Template: `machine.mac`, `machine.name`, `machine.arch`.
    pub cmdline: String,
}
