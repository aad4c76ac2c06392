//! The configuration file's shape. A default stands beside its reason.

mod machine;

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::machine::{Machine, Names, Once, Override};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Config {
    /// Patterns of files with more of this, such as `"machines.d/*.toml"`, relative to this one's folder.
    pub include: Vec<String>,
    /// Interfaces to serve; none: the only one that fits is chosen.
    pub interfaces: Vec<String>,
    /// The folder that HTTP serves under `/assets/`; profiles name files in it.
    pub assets: Option<PathBuf>,
    /// For machines that no rule names. The menu, so that a machine that was never meant to be installed is not.
    pub default_profile: String,
    /// Folders to look for iPXE binaries in, before the places of the distributions' packages.
    pub loader_dirs: Vec<PathBuf>,
    /// The DHCP stage.
    pub dhcp: Dhcp,
    /// The TFTP stage.
    pub tftp: Tftp,
    /// The HTTP stage.
    pub http: Http,
    /// The syslog stage.
    pub syslog: Syslog,
    /// What outlives a restart.
    pub state: State,
    /// Who may change something while the server runs.
    pub control: Control,
    /// Folder of templates: scripts that profiles name, answer files, and such as take an embedded one's place.
    pub templates: Option<PathBuf>,
    /// The built-in menu.
    pub menu: Menu,
    /// What can be booted.
    pub profiles: BTreeMap<String, Profile>,
    /// Rules about machines; of those that fit one, the most specific decides.
    pub machines: Vec<Machine>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            interfaces: Vec::new(),
            assets: None,
            default_profile: "menu".into(),
            loader_dirs: Vec::new(),
            dhcp: Dhcp::default(),
            tftp: Tftp::default(),
            http: Http::default(),
            syslog: Syslog::default(),
            state: State::default(),
            control: Control::default(),
            templates: None,
            menu: Menu::default(),
            profiles: BTreeMap::new(),
            machines: Vec::new(),
        }
    }
}

/// The DHCP stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Dhcp {
    /// How to listen on port 67.
    pub socket: DhcpSocket,
    /// Whether to answer at all. Without it, the LAN's own DHCP server has to name the loaders.
    pub enabled: bool,
    /// The shape of an offer: `"auto"` tries one after the other with a machine that does not take the first, or
    /// always `"direct"`, `"option_67"`, `"boot_server"`, `"option_66"` or `"menu"`.
    pub offer: String,
    /// How long an offer to firmware waits, for boot ROMs that miss an instant one; a rule may have one of its own. iPXE
    /// is always answered at once, and a Raspberry Pi a second late from its second DISCOVER on.
    pub reply_delay: String,
    /// Who is answered: `"all"`, or `"known"`: only machines that a rule names, or that were approved.
    pub answer: Answer,
    /// Answers a second. A thousand machines that start together ask a few thousand times a second.
    pub max_rate: u32,
    /// Answers a second to one machine. iPXE asks four times within two seconds.
    pub max_rate_per_client: u32,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            socket: DhcpSocket::Auto,
            enabled: true,
            offer: "auto".into(),
            reply_delay: "0s".into(),
            answer: Answer::All,
            max_rate: 20_000,
            max_rate_per_client: 10,
        }
    }
}

/// How to listen on port 67.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DhcpSocket {
    /// By the port where no other program has it, else beside that program. A port of our own is the better one where
    /// there is a choice: it needs no CAP_NET_RAW, it is behind the host's firewall, and relays find it open.
    #[default]
    Auto,
    /// By the port, shared with those that share it.
    Bind,
    /// At layer 2, beside whatever has the port: for a host whose DHCP server starts after us and wants the port for
    /// itself.
    Capture,
}

/// Who is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Every boot client.
    All,
    /// Machines that a rule names, or that `netbootd approve` or `assign` let in.
    Known,
}

/// What outlives a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct State {
    /// Where it is kept, as `"sqlite:///var/lib/netbootd/state.db"`; none: there, if that folder exists.
    pub url: Option<String>,
}

/// Who may change something while the server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Control {
    /// The control socket, for root and the server's own user.
    pub socket: PathBuf,
    /// What `/api/v1` (`Authorization: Bearer …`) and the status page (by signing in) ask of those who change something
    /// from another host; none: they may not. Requests from this host need none.
    pub token: Option<String>,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: "/run/netbootd/control.sock".into(), token: None }
    }
}

/// The TFTP stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
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
    /// Transfers of one address that are not answered, or whose client fell silent: of more, the oldest ends. Those that
    /// get on do not count, so that many machines may share one address.
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
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
    /// Give answer files to everyone who names a machine's MAC address, and not only by the signed addresses in the
    /// machines' scripts. They hold secrets, so no.
    pub answers_open: bool,
    /// For how long a signed address is good: as long as an installer may wait at a question.
    pub answers_expire: String,
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
            answers_open: false,
            answers_expire: "24h".into(),
            keepalive: Keepalive::default(),
        }
    }
}

/// How clients that are gone are told from slow ones. There is no setting that ends a slow one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
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

/// The syslog stage: what iPXE and installers say while they boot joins their machines' timelines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Syslog {
    /// Whether to listen. Off, since a host may have a syslog server of its own.
    pub enabled: bool,
    /// UDP port. iPXE and Debian's installer know no other than 514.
    pub port: u16,
    /// Lines a second of all machines: a rack of installers.
    pub max_rate: u32,
    /// Lines a second of one machine; an installer's busiest seconds lose some, which is told.
    pub max_rate_per_client: u32,
}

impl Default for Syslog {
    fn default() -> Self {
        Self { enabled: false, port: 514, max_rate: 1000, max_rate_per_client: 50 }
    }
}

/// Something to boot: a kernel, or one of `script`, `efi`, `iso` and `disk`. Files are paths below the assets folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Profile {
    /// What people read in the menu.
    pub title: Option<String>,
    /// What differs for a build of iPXE: `i386` (which a BIOS is, whatever its processor), `x86_64`, `arm64`…
    pub arch: BTreeMap<String, Profile>,
    /// Linux kernel.
    pub kernel: Option<String>,
    /// Initial RAM disks.
    pub initrd: Vec<String>,
    /// Of the kernel or the EFI program. A template: `machine.mac`, `.name`, `.arch`, `.platform`, `.uuid`, `.serial`, and
    /// `vars`.
    pub cmdline: Option<String>,
    /// Folder of device trees, for U-Boot, which knows its board's file in it.
    pub fdtdir: Option<String>,
    /// One device tree, for boards of one kind.
    pub fdt: Option<String>,
    /// An iPXE script: a template of the templates folder, else a file below the assets folder, which is chained where it
    /// lies.
    pub script: Option<String>,
    /// An EFI program.
    pub efi: Option<String>,
    /// A CD image.
    pub iso: Option<String>,
    /// A disk image.
    pub disk: Option<String>,
    /// What it boots reports (`/report`) within this time of its hand-over, or the machine is shown as stopped.
    pub report_within: Option<String>,
}

/// The built-in menu.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Menu {
    /// What is chosen where nobody is there: a profile; none: the local disk.
    pub default: Option<String>,
    /// Until then; `"0s"`: for ever. A minute, so that a machine that was left alone comes up by itself.
    pub timeout: String,
}

impl Default for Menu {
    fn default() -> Self {
        Self { default: None, timeout: "60s".into() }
    }
}
