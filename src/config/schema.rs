//! The format of the configuration file. The reason for a default is in the comment of its key.

mod lease;
mod machine;

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::lease::{Lease, LeaseClients, LeaseTerms, OptionValue, RelayedNetwork};
pub use self::machine::{Machine, Names, Once, Override};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Config {
    /// Patterns of more configuration files, for example `"machines.d/*.toml"`, relative to the folder of this file.
    /// Each file adds its own rules. A profile, or a setting, that two files have is a fault.
    pub include: Vec<String>,
    /// Interfaces to serve. Without it, netbootd serves the only suitable interface.
    pub interfaces: Vec<String>,
    /// The assets folder. HTTP serves it under `/assets/`; profiles name files in it.
    pub assets: Option<PathBuf>,
    /// A pattern of images below the assets folder, such as `"isos/*.iso"`, or `"isos/**/*.iso"` with sub-folders. Each image is a
    /// profile. The images of a sub-folder have a menu of their own.
    pub isos: Option<String>,
    /// Profile of machines that no rule names. The default is the menu, so that no machine is installed by accident.
    pub default_profile: String,
    /// Folders to search for iPXE binaries, before the folders of the distributions' packages.
    pub loader_dirs: Vec<PathBuf>,
    /// The DHCP server.
    pub dhcp: Dhcp,
    /// Leases of netbootd's own, for networks without a DHCP server.
    pub lease: Lease,
    /// The TFTP server.
    pub tftp: Tftp,
    /// The HTTP server.
    pub http: Http,
    /// The syslog server.
    pub syslog: Syslog,
    /// What is kept over a restart.
    pub state: State,
    /// Who may change assignments while the server runs.
    pub control: Control,
    /// The templates folder: scripts that profiles name, answer files, and replacements of built-in scripts.
    pub templates: Option<PathBuf>,
    /// The built-in menu.
    pub menu: Menu,
    /// Profiles: what can be booted.
    pub profiles: BTreeMap<String, Profile>,
    /// Rules for machines. If several rules match a machine, the most specific one decides.
    pub machines: Vec<Machine>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            interfaces: Vec::new(),
            assets: None,
            isos: None,
            default_profile: "menu".into(),
            loader_dirs: Vec::new(),
            dhcp: Dhcp::default(),
            lease: Lease::default(),
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

/// The DHCP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Dhcp {
    /// How to listen on port 67.
    pub socket: DhcpSocket,
    /// Whether to answer DHCP. If not, the main DHCP server has to name the boot files.
    pub enabled: bool,
    /// The format of an offer. `"auto"` tries the next format if a machine asks again. The others always use one
    /// format: `"direct"`, `"option_67"`, `"boot_server"`, `"option_66"` or `"menu"`.
    pub offer: String,
    /// Delay of offers to firmware, for boot ROMs that miss a fast offer. A rule can set its own delay. iPXE is always
    /// answered without delay. A Raspberry Pi gets its offer after 1 s from its second DISCOVER on.
    pub reply_delay: String,
    /// For a standby: how long a machine has to ask in vain before it is answered. It is answered from its second
    /// DISCOVER on, and not earlier than this after its first. `"2s"` suits all firmware. `"0s"`: at once.
    pub answer_after: String,
    /// Which machines are answered: `"all"`, or `"known"` (only machines that a rule names, or that were approved).
    pub answer: Answer,
    /// Replies per second. A thousand machines that start together send a few thousand requests per second.
    #[schemars(range(min = 1))]
    pub max_rate: u32,
    /// Replies per second to one machine. iPXE asks four times within two seconds.
    #[schemars(range(min = 1))]
    pub max_rate_per_client: u32,
}

impl Default for Dhcp {
    fn default() -> Self {
        Self {
            socket: DhcpSocket::Auto,
            enabled: true,
            offer: "auto".into(),
            reply_delay: "0s".into(),
            answer_after: "0s".into(),
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
    /// Open the port if no other program uses it; otherwise capture. Opening the port is better if both are possible:
    /// it needs no CAP_NET_RAW, the host's firewall applies, and relays find an open port.
    #[default]
    Auto,
    /// Open the port, and share it with programs that share it too.
    Bind,
    /// Capture at layer 2, beside the program that uses the port. For hosts whose DHCP server starts after netbootd and
    /// cannot share the port.
    Capture,
}

/// Which machines are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Every boot client.
    All,
    /// Machines that a rule names, that were approved (`netbootd approve`), or that have an assignment (`netbootd
    /// assign`).
    Known,
}

/// What is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct State {
    /// The state file, for example `"sqlite:///var/lib/netbootd/state.db"`. Without it, this path is used if its folder
    /// exists. Or a PostgreSQL server that several appliances share, as libpq writes it:
    /// `"postgres://netbootd@db.lab/netbootd?sslmode=verify-full"`.
    pub url: Option<String>,
    /// A file that holds the password for the PostgreSQL server. Without it, the systemd credential `state-password`
    /// is used, or the password in the URL, or `~/.pgpass`.
    pub password_file: Option<PathBuf>,
    /// The name of this appliance among those that share the state. The default is the name of the host.
    pub appliance: Option<String>,
    /// The file with the last known copy of the state of a PostgreSQL server, for times when the server cannot be
    /// reached. The default is `/var/lib/netbootd/copy.db`, if its folder exists.
    pub copy: Option<PathBuf>,
    /// How long a PostgreSQL server keeps boots. It keeps at most the last five of each machine.
    pub keep_boots: String,
}

impl Default for State {
    fn default() -> Self {
        Self { url: None, password_file: None, appliance: None, copy: None, keep_boots: "90d".into() }
    }
}

/// Who may change assignments while the server runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Control {
    /// The control socket. Only root and netbootd's user may use it.
    pub socket: PathBuf,
    /// Password for changes from other hosts: the API (`Authorization: Bearer …`) and the status page (sign in).
    /// Without it, other hosts cannot change anything. Requests from this host need no password.
    pub token: Option<String>,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: "/run/netbootd/control.sock".into(), token: None }
    }
}

/// The TFTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Tftp {
    /// Whether to serve TFTP. Firmware that only uses HTTP does not need it.
    pub enabled: bool,
    /// UDP port. Firmware always uses 69.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Send files from this port too, for NAT and firewalls, instead of from a new port for each transfer.
    pub single_port: bool,
    /// Ports to send files from, for example `"50000-50999"`. Without it, the operating system chooses.
    pub transfer_ports: Option<String>,
    /// Largest block in bytes of data. The default is what iPXE and EDK2 ask for on Ethernet: 1500 bytes less the IP,
    /// UDP and TFTP headers. The MTU of the interface limits it too.
    #[schemars(range(min = 512, max = 65_464))]
    pub max_block_size: u16,
    /// Largest number of blocks in flight; EDK2 asks for 4.
    #[schemars(range(min = 1, max = 1024))]
    pub max_window_size: u16,
    /// Transfers at the same time. Above this limit, a client gets an error that asks it to try again.
    #[schemars(range(min = 1, max = 65_536))]
    pub max_transfers: usize,
    /// Transfers of one client address whose client does not answer any more. If there are more, the oldest one ends.
    /// Active transfers do not count, so many machines can share one address.
    #[schemars(range(min = 1, max = 65_536))]
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

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Http {
    /// TCP port. 8080, because another web server often uses 80.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The base of all URLs. Without it, URLs have the address of the interface where the client is.
    pub base_url: Option<String>,
    /// List the folders below `/assets/`. Off by default, because file names can be private.
    pub listing: bool,
    /// Connections at the same time. Above this limit, clients get 503, and iPXE asks again later. A thousand machines
    /// need a few each.
    #[schemars(range(min = 1))]
    pub max_connections: u32,
    /// Connections of one client address at the same time. Firmware opens one, iPXE a few, a rack behind one router
    /// more.
    #[schemars(range(min = 1))]
    pub max_connections_per_client: u32,
    /// Bytes per second for one client, for example `"10MB"`. `"0"`: no limit. For iPXE drivers that hang on fast
    /// links.
    pub rate_limit: String,
    /// Time for running downloads to finish when the server stops.
    pub grace: String,
    /// Give answer files to every client that sends a machine's MAC address, not only to clients with a signed URL. Off
    /// by default, because answer files contain secrets.
    pub answers_open: bool,
    /// How long a signed URL is valid. It has to be longer than the longest pause of an installer at a question.
    pub answers_expire: String,
    /// Proxies whose `X-Forwarded-For` and `Forwarded` headers name the client: IPv4 addresses, or prefixes such as
    /// `"192.0.2.0/24"`. From all others these headers are ignored.
    pub trusted_proxies: Vec<String>,
    /// When a client counts as gone.
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
            trusted_proxies: Vec::new(),
            keepalive: Keepalive::default(),
        }
    }
}

/// When a connection is closed because its client is gone. Slow clients are never disconnected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Keepalive {
    /// Time without traffic before the first keepalive probe.
    pub idle: String,
    /// Time between keepalive probes.
    pub interval: String,
    /// Unanswered keepalive probes that close an idle connection: with the other defaults, after 2 minutes.
    #[schemars(range(min = 1, max = 127))]
    pub probes: u32,
    /// Time without an acknowledgement while data is outstanding. Minutes, because iPXE acknowledges nothing while it
    /// is busy with another task, and before 6.15 Linux probes a closed window only every 120 s.
    pub dead_after: String,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: "60s".into(), interval: "15s".into(), probes: 4, dead_after: "150s".into() }
    }
}

/// The syslog server. Messages of iPXE and installers are shown in the timeline of their machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Syslog {
    /// Whether to listen. Off by default, because a host may have its own syslog server.
    pub enabled: bool,
    /// UDP port. iPXE and Debian's installer always use 514.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Lines per second of all machines. The default is enough for a rack of installers.
    #[schemars(range(min = 1))]
    pub max_rate: u32,
    /// Lines per second of one machine. If an installer sends more, the timeline shows how many were dropped.
    #[schemars(range(min = 1))]
    pub max_rate_per_client: u32,
}

impl Default for Syslog {
    fn default() -> Self {
        Self { enabled: false, port: 514, max_rate: 1000, max_rate_per_client: 50 }
    }
}

/// A profile: a kernel, or one of `script`, `efi`, `iso`, `sanboot` and `disk`. Files are paths below the assets folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Profile {
    /// Title in the menu.
    pub title: Option<String>,
    /// What is different for one build of iPXE: `i386` (every BIOS machine, also with a 64-bit processor), `x86_64`,
    /// `arm64`…
    pub arch: BTreeMap<String, Profile>,
    /// Linux kernel.
    pub kernel: Option<String>,
    /// Initial RAM disks.
    pub initrd: Vec<String>,
    /// Command line of the kernel or EFI program. A template with `machine.mac`, `.name`, `.arch`, `.platform`,
    /// `.uuid`, `.serial`, and `vars`.
    pub cmdline: Option<String>,
    /// Folder of device trees, from which U-Boot takes the file of its board.
    pub fdtdir: Option<String>,
    /// A single device tree, for boards of the same type.
    pub fdt: Option<String>,
    /// For Secure Boot: the shim of the kernel's distribution, which iPXE starts the kernel with. `iso` brings its own.
    pub shim: Option<String>,
    /// An iPXE script: a template of the templates folder, or else a file below the assets folder. iPXE chains the file
    /// from its own URL.
    pub script: Option<String>,
    /// An EFI program.
    pub efi: Option<String>,
    /// A CD or DVD image, which is recognised and booted as its family is: `cmdline` and `initrd` are added to its own.
    pub iso: Option<String>,
    /// A CD image that iPXE makes a drive of. What its loader starts loses the drive.
    pub sanboot: Option<String>,
    /// An answer file of the templates folder, or a folder of them, which `iso` names in the way of its family.
    pub answers: Option<String>,
    /// A disk image.
    pub disk: Option<String>,
    /// The time after the hand-over in which the installer has to report (`/report`). After it, the machine is shown as
    /// stopped.
    pub report_within: Option<String>,
}

/// The built-in menu.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(deny_unknown_fields)]
pub struct Menu {
    /// The entry that is chosen automatically: a profile. Without it: the local disk.
    pub default: Option<String>,
    /// Time until then; `"0s"`: wait without end. A minute by default, so that an unattended machine boots by itself.
    pub timeout: String,
}

impl Default for Menu {
    fn default() -> Self {
        Self { default: None, timeout: "60s".into() }
    }
}
