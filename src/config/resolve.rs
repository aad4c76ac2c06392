//! Schema → domain types: every fault that the values have among themselves and with the host's files, at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::RangeInclusive,
    path::Path,
    sync::Arc,
    time::Duration,
};

pub use super::fixed::Fixed;
use super::{
    Fault, Faults, Finding, Level,
    examine::examine,
    limits::Cmdline,
    load::Loaded,
    machines::is_profile,
    meant, schema, units,
    watched::{Watched, fingerprint},
};
use crate::{
    boot::{
        answer,
        attempts::{Rates, Shape},
        machine::{MachineRule, Menu, OfferShape, Rules},
        profile::Profile,
        selector::Selector,
        template::Templates,
        urls::is_remote,
        why::Why,
    },
    files::{AssetRoot, permission},
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

/// Resolves a configuration.
///
/// # Errors
/// All faults that keep a server from running with it.
pub fn resolve(loaded: &Loaded) -> Result<Settings, Faults> {
    let (settings, faults) = attempt(loaded);
    if faults.is_empty() { Ok(settings) } else { Err(Faults(faults)) }
}

/// Resolves as much of a configuration as there is sense in, and tells all faults that keep a server from running.
#[must_use]
pub fn attempt(loaded: &Loaded) -> (Settings, Vec<Fault>) {
    let mut check = Check {
        loaded,
        faults: loaded.faults.clone(),
        findings: Vec::new(),
        cmdlines: Vec::new(),
        asked: BTreeSet::new(),
    };
    let config = &loaded.config;
    // Before it is read: what changes meanwhile is read again, and is another number then.
    let read = fingerprint(loaded);
    let assets = check.assets();
    let templates = check.templates();
    let profiles = check.profiles(assets.as_ref(), &templates);
    let menu = check.menu(&profiles);
    if !is_profile(&config.default_profile, &profiles) {
        check.no_profile(&["default_profile"], &config.default_profile, &profiles);
    }
    let machines = check.machines(&profiles, assets.as_ref(), &templates);
    check.control();
    let answers = check.answers();
    let watched = Watched::of(loaded);
    let loader_place = |index: usize| loaded.places.of(&["machines", &index.to_string(), "override", "loader"]);
    let named = machines.iter().enumerate().filter(|(_, (_, rule))| rule.loader.is_some());
    let mut settings = Settings {
        interfaces: config.interfaces.clone(),
        assets: assets.map(Arc::new),
        loader_dirs: config.loader_dirs.clone(),
        dhcp: check.dhcp(),
        state: check.state(),
        tftp: check.tftp(),
        syslog: check.syslog(),
        http_port: config.http.port,
        listing: config.http.listing,
        base_url: check.base_url(),
        http_limits: check.http_limits(),
        grace: check.duration(&["http", "grace"], &config.http.grace, Duration::ZERO..=LONGEST),
        profiles,
        default_profile: config.default_profile.clone(),
        templates,
        answers,
        menu,
        cmdlines: std::mem::take(&mut check.cmdlines),
        loader_places: named.map(|(index, _)| (index, loader_place(index))).collect(),
        machines,
        control: config.control.clone(),
        watched,
        read,
        findings: Vec::new(),
    };
    settings.findings = std::mem::take(&mut check.findings);
    let notes = loaded.places.notes.iter().cloned();
    settings.findings.extend(notes.map(|fault| Finding { level: Level::Warning, fault }));
    let (duplicates, findings) = examine(loaded, &settings);
    check.faults.extend(duplicates);
    settings.findings.extend(findings);
    settings.findings.extend(check.open_answers(&settings));
    (settings, check.faults)
}

pub(super) struct Check<'a> {
    pub(super) loaded: &'a Loaded,
    /// Of the text itself: with these no server starts.
    pub(super) faults: Vec<Fault>,
    /// What a server runs with, and somebody does not get what is promised.
    pub(super) findings: Vec<Finding>,
    /// How long the command lines of the profiles get.
    pub(super) cmdlines: Vec<Cmdline>,
    /// The answer files that profiles name.
    pub(super) asked: BTreeSet<String>,
}

impl Check<'_> {
    pub(super) fn fault(&mut self, path: &[&str], message: String) {
        if self.loaded.is_doubtful(path) {
            return;
        }
        self.faults.push(Fault { place: self.loaded.places.of(path), message });
    }

    /// A fault of one part of the configuration, which a server runs with: whoever needs that part is told.
    pub(super) fn part(&mut self, path: &[&str], message: String) {
        self.finding(Level::Fault, path, message);
    }

    pub(super) fn finding(&mut self, level: Level, path: &[&str], message: String) {
        if !self.loaded.is_doubtful(path) {
            self.findings.push(Finding { level, fault: Fault { place: self.loaded.places.of(path), message } });
        }
    }

    pub(super) fn no_profile(&mut self, path: &[&str], name: &str, profiles: &BTreeMap<String, Profile>) {
        if self.loaded.is_doubtful(&["profiles"]) {
            return;
        }
        let mut names: Vec<&str> = profiles.keys().map(String::as_str).chain(Rules::BUILT_IN).collect();
        names.sort_unstable();
        names.dedup();
        let meant = meant(name, names.iter().copied());
        self.part(path, format!("there is no profile {name:?}{meant}; there are: {}", names.join(", ")));
    }

    fn dhcp(&mut self) -> Dhcp {
        let schema::Dhcp { enabled, socket, offer, reply_delay, answer, max_rate, max_rate_per_client } =
            self.loaded.config.dhcp.clone();
        let reply_delay = self.duration(&["dhcp", "reply_delay"], &reply_delay, REPLY_DELAY);
        let shape = match (offer.as_str(), Shape::named(&offer)) {
            ("auto", _) => OfferShape::Auto,
            (_, Some(shape)) => OfferShape::Always(shape),
            (_, None) => {
                let there = Shape::LADDER.map(Shape::name);
                let (meant, there) = (meant(&offer, there), there.join(", "));
                self.fault(&["dhcp", "offer"], format!("there is no offer {offer:?}{meant}; there are: auto, {there}"));
                OfferShape::Auto
            }
        };
        for (key, rate) in [("max_rate", max_rate), ("max_rate_per_client", max_rate_per_client)] {
            if rate == 0 {
                self.fault(&["dhcp", key], format!("{key} is 0: nobody could be answered"));
            }
        }
        let rates = Rates { total: max_rate, per_client: max_rate_per_client };
        Dhcp { enabled, socket, offer: shape, reply_delay, known_only: answer == schema::Answer::Known, rates }
    }

    fn syslog(&mut self) -> Option<Syslog> {
        let schema::Syslog { enabled, port, max_rate, max_rate_per_client } = self.loaded.config.syslog.clone();
        if port == 0 {
            self.fault(&["syslog", "port"], "port is 0: a UDP port, from 1 to 65535".into());
        }
        for (key, rate) in [("max_rate", max_rate), ("max_rate_per_client", max_rate_per_client)] {
            if rate == 0 {
                self.fault(&["syslog", key], format!("{key} is 0: nobody could say anything"));
            }
        }
        enabled.then_some(Syslog { port, rates: Rates { total: max_rate, per_client: max_rate_per_client } })
    }

    fn control(&mut self) {
        if let Some(token) = self.loaded.config.control.token.as_deref().filter(|token| token.len() < 16) {
            let message = format!(
                "{} characters are too easy to guess: at least 16, such as openssl rand -hex 16 gives",
                token.len()
            );
            self.fault(&["control", "token"], message);
        }
    }

    fn state(&mut self) -> StateUrl {
        let Some(url) = self.loaded.config.state.url.clone() else {
            return StateUrl::Default(DEFAULT_STATE.into());
        };
        if !url.starts_with("sqlite://") || url.len() == "sqlite://".len() {
            self.fault(&["state", "url"], format!("{url:?} is no URL like {DEFAULT_STATE:?}"));
        }
        StateUrl::Set(url)
    }

    fn assets(&mut self) -> Option<AssetRoot> {
        let named = self.loaded.config.assets.as_deref();
        let path = named.or_else(|| Some(Path::new(DEFAULT_ASSETS)).filter(|path| path.is_dir()))?;
        let root = AssetRoot::open(path).unwrap_or_else(|error| {
            let reason = permission::denied(path).unwrap_or_else(|| error.to_string());
            let message = format!("the assets folder {} cannot be used: {reason}", path.display());
            match error.kind() {
                io::ErrorKind::InvalidInput => self.fault(&["assets"], message),
                _ => self.part(&["assets"], message),
            }
            AssetRoot::waiting_for(path)
        });
        Some(match &self.loaded.only {
            Some(only) => root.only(only.clone()),
            None => root,
        })
    }

    pub(super) fn file(&mut self, key: &[&str], name: &str, assets: Option<&AssetRoot>) {
        if is_remote(name) {
            return self.remote(key, name);
        }
        let problem = match assets {
            None if self.loaded.is_doubtful(&["assets"]) => return,
            None => format!("{name} is a path below the assets folder, and there is none: set assets"),
            Some(assets) => match assets.look(name) {
                // Of the folder itself it has been told already.
                Ok(()) | Err(Why::NoFolder(_)) => return,
                Err(why @ Why::Empty(_)) => why.to_string(),
                Err(why @ Why::Unreadable { .. }) => {
                    permission::denied(&assets.path().join(name)).unwrap_or_else(|| why.to_string())
                }
                Err(why) => format!("{why} (looked for below {})", assets.path().display()),
            },
        };
        self.part(key, problem);
    }

    /// A file on another server, which nobody looks at before a machine does.
    fn remote(&mut self, key: &[&str], url: &str) {
        let is_url = |uri: http::Uri| uri.host().is_some_and(|host| !host.is_empty());
        if !url.parse().is_ok_and(is_url) {
            return self.fault(key, format!("{url:?} is no URL: percent-encode what it may not hold, a space as %20"));
        }
        let message = format!(
            "{url} is on another server: it was not looked at, and that a machine has fetched it is seen only by its report"
        );
        self.finding(Level::Warning, key, message);
    }

    fn http_limits(&mut self) -> ClientLimits {
        let schema::Http { max_connections, max_connections_per_client, rate_limit, keepalive, .. } =
            &self.loaded.config.http;
        for (key, value) in
            [("max_connections", max_connections), ("max_connections_per_client", max_connections_per_client)]
        {
            if *value == 0 {
                self.fault(&["http", key], format!("{key} is 0: nobody could be served"));
            }
        }
        let rate = units::bytes(rate_limit).and_then(|rate| match rate {
            // Slower, and the largest segment would take seconds: UEFI HTTP Boot gives up after 5 s without progress.
            1..SLOWEST => Err(format!("{rate_limit:?} is too slow for firmware: at least 64kB, or 0 for no limit")),
            rate => Ok(rate),
        });
        let rate_limit = rate.unwrap_or_else(|message| {
            self.fault(&["http", "rate_limit"], message);
            0
        });
        let schema::Keepalive { idle, interval, probes, dead_after } = keepalive;
        let second = Duration::from_secs(1);
        let key = |key| ["http", "keepalive", key];
        if !(1..=127).contains(probes) {
            self.fault(&key("probes"), format!("{probes} probes: 1 to 127 (tcp(7), TCP_KEEPCNT)"));
        }
        ClientLimits {
            max_connections: *max_connections,
            max_connections_per_client: *max_connections_per_client,
            rate_limit,
            idle: self.duration(&key("idle"), idle, second..=LONGEST),
            interval: self.duration(&key("interval"), interval, second..=LONGEST),
            probes: *probes,
            dead_after: self.duration(&key("dead_after"), dead_after, 2 * second..=LONGEST),
        }
    }

    pub(super) fn duration(&mut self, key: &[&str], text: &str, range: std::ops::RangeInclusive<Duration>) -> Duration {
        let checked = units::duration(text).and_then(|duration| match range.contains(&duration) {
            true => Ok(duration),
            false => {
                Err(format!("{text:?} is not within {} s and {} s", range.start().as_secs(), range.end().as_secs()))
            }
        });
        checked.unwrap_or_else(|message| {
            self.fault(key, message);
            *range.start()
        })
    }

    fn base_url(&mut self) -> Option<String> {
        let url = self.loaded.config.http.base_url.as_deref()?.trim_end_matches('/');
        let is_good = url.parse::<http::Uri>().is_ok_and(|uri| {
            uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none()
        });
        if !is_good {
            self.fault(&["http", "base_url"], format!("{url:?} is no URL like http://boot.lab:8080"));
        }
        Some(url.to_owned())
    }
}

/// What the kernel takes for keepalive (MAX_TCP_KEEPIDLE), and enough for everything else.
pub(super) const LONGEST: Duration = Duration::from_secs(32_767);
/// Firmware waits for offers for 4, 8, 16 and 32 s (PXE 2.1 §2.2.1): what comes later than the first of these is of no
/// use to most.
pub(super) const REPLY_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
/// Bytes per second.
const SLOWEST: u64 = 64_000;

/// Where the packages put it.
const DEFAULT_ASSETS: &str = "/var/lib/netbootd/assets";
/// Beside it.
const DEFAULT_STATE: &str = "sqlite:///var/lib/netbootd/state.db";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        boot::{
            client::MacAddr,
            loader::Loader,
            machine::LocalBoot,
            profile::{Boot, Linux},
        },
        config::load::load,
    };

    fn resolved(text: &str) -> Result<Settings, String> {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().canonicalize().expect("there");
        fs::create_dir_all(folder.join("debian/dtbs")).expect("made");
        fs::write(folder.join("debian/vmlinuz"), "kernel").expect("written");
        fs::write(folder.join("debian/initrd.img"), "initrd").expect("written");
        fs::write(folder.join("empty"), "").expect("written");
        fs::create_dir(folder.join("templates")).expect("made");
        let path = folder.join("n.toml");
        fs::write(&path, text.replace("SRV", &folder.display().to_string())).expect("written");
        let loaded = load(Some(&path), [], &[]).map_err(|faults| faults.to_string())?;
        let (settings, faults) = attempt(&loaded);
        // The files here are a few letters each, which is told of them as well.
        let is_meant = |finding: &&Finding| {
            finding.level == Level::Fault && !finding.fault.message.ends_with("it is of no kind that is known")
        };
        let parts = settings.findings.iter().filter(is_meant);
        let all: Vec<Fault> = faults.into_iter().chain(parts.map(|finding| finding.fault.clone())).collect();
        let words = || Faults(all.clone()).to_string().replace(&folder.display().to_string(), "SRV");
        if all.is_empty() { Ok(settings) } else { Err(words()) }
    }

    #[test]
    fn a_good_file_is_what_the_daemon_runs() {
        let settings = resolved(
            "interfaces = [\"eth1\"]\nassets = \"SRV\"\ndefault_profile = \"debian\"\n\
             [http]\nport = 8081\nbase_url = \"http://boot.lab:8081/\"\n\
             [profiles.debian]\nkernel = \"debian/vmlinuz\"\ninitrd = [\"debian/initrd.img\"]\n\
             cmdline = \"hostname={{ machine.name }}\"\n",
        )
        .expect("no fault");
        let debian = Linux {
            kernel: "debian/vmlinuz".into(),
            initrd: vec!["debian/initrd.img".into()],
            cmdline: "hostname={{ machine.name }}".into(),
            device_tree: None,
        };
        let debian = Profile::from(Boot::Linux(debian));
        assert_eq!(settings.profiles, BTreeMap::from([("debian".into(), debian)]));
        assert_eq!(settings.interfaces, ["eth1"]);
        assert_eq!((settings.http_port, settings.base_url.as_deref()), (8081, Some("http://boot.lab:8081")));
        assert_eq!(settings.default_profile, "debian");
        assert!(settings.assets.is_some());
        let second = Duration::from_secs(1);
        let defaults = ClientLimits {
            max_connections: 4096,
            max_connections_per_client: 64,
            rate_limit: 0,
            idle: 60 * second,
            interval: 15 * second,
            probes: 4,
            dead_after: 150 * second,
        };
        assert_eq!((settings.http_limits, settings.grace), (defaults, 30 * second));
    }

    #[test]
    fn faults_of_the_limits_have_their_places() {
        let faults = resolved(
            "[http]\nmax_connections = 0\nrate_limit = \"9kB\"\ngrace = \"soon\"\n\
             [http.keepalive]\nidle = \"100ms\"\nprobes = 0\ndead_after = \"12h\"\n",
        )
        .map(|_| ())
        .expect_err("faults");
        let expected = "\
SRV/n.toml:2:1: max_connections is 0: nobody could be served
SRV/n.toml:3:1: \"9kB\" is too slow for firmware: at least 64kB, or 0 for no limit
SRV/n.toml:7:1: 0 probes: 1 to 127 (tcp(7), TCP_KEEPCNT)
SRV/n.toml:6:1: \"100ms\" is not within 1 s and 32767 s
SRV/n.toml:8:1: \"12h\" is not within 2 s and 32767 s
SRV/n.toml:4:1: \"soon\" is no time like \"90s\", \"2m\" or \"500ms\"";
        assert_eq!(faults, expected);
    }

    #[test]
    fn the_example_that_is_shipped_is_good_as_it_is_and_with_everything_in_it() {
        let example = include_str!("../../packaging/netbootd.toml");
        resolved(example).expect("as it is");
        // The line for editors is no key.
        let lines = example.lines().filter(|line| !line.starts_with("#:schema "));
        let all: String = lines.map(|line| line.strip_prefix("#:").unwrap_or(line).to_owned() + "\n").collect();
        let settings = resolved(&all.replace("/srv/netboot", "SRV")).expect("with everything");
        assert_eq!((settings.default_profile.as_str(), settings.interfaces.len()), ("debian", 1));
    }

    #[test]
    fn the_tftp_stage_is_set_and_its_faults_have_their_places() {
        let tftp = |text: &str| resolved(text).map(|settings| settings.tftp);
        let default = tftp("").expect("no fault");
        assert_eq!((default.port, default.max_transfers, default.transfer_ports.clone()), (69, 256, None));
        assert_eq!(
            tftp("[tftp]\nenabled = false\ntransfer_ports = \"50000-50999\"\nmax_transfers = 1000\n"),
            Ok(Tftp { enabled: false, transfer_ports: Some(50_000..=50_999), max_transfers: 1000, ..default.clone() })
        );
        assert_eq!(tftp("[tftp]\nsingle_port = true\n"), Ok(Tftp { single_port: true, ..default }));
        let faults = "\
SRV/n.toml:2:1: port is 0: a UDP port, from 1 to 65535
SRV/n.toml:3:1: max_block_size is 100: bytes of data in a block (RFC 2348), from 512 to 65464
SRV/n.toml:4:1: max_window_size is 2000: blocks in flight, from 1 to 1024
SRV/n.toml:5:1: max_transfers is 0: transfers at once, from 1 to 65536
SRV/n.toml:6:1: \"9-8\" is no range of ports like \"50000-50999\"";
        let text = "[tftp]\nport = 0\nmax_block_size = 100\nmax_window_size = 2000\nmax_transfers = 0\n\
                    transfer_ports = \"9-8\"\n";
        assert_eq!(tftp(text), Err(faults.into()));
        assert_eq!(
            tftp("[tftp]\nsingle_port = true\ntransfer_ports = \"8-9\"\n"),
            Err("SRV/n.toml:3:1: with single_port every answer comes from one port: leave one of the two out".into())
        );
    }

    #[test]
    fn the_dhcp_socket_is_one_of_three() {
        let socket = |text: &str| resolved(text).map(|settings| settings.dhcp.socket);
        assert_eq!(socket(""), Ok(schema::DhcpSocket::Auto));
        assert_eq!(socket("[dhcp]\nsocket = \"capture\"\n"), Ok(schema::DhcpSocket::Capture));
        let fault = socket("[dhcp]\nsocket = \"raw\"\n").expect_err("a fault");
        assert_eq!(fault, "SRV/n.toml:2:1: dhcp.socket: there is no \"raw\"; there are: auto, bind, capture");
    }

    #[test]
    fn all_faults_come_at_once_with_their_places() {
        let faults = resolved(
            "assets = \"SRV\"\ndefault_profile = \"debain\"\n[http]\nbase_url = \"ftp://x\"\n\
             [profiles.debian]\nkernel = \"debian/vmlinux\"\ninitrd = [\n  \"debian/initrd.img\",\n  \"../x\",\n  \"empty\",\n]\n\
             cmdline = \"{{ machine.nmae }}\"\n[profiles.menu]\n[profiles.\"a b\"]\nkernel = \"debian/vmlinuz\"\n",
        )
        .map(|_| ())
        .expect_err("faults");
        let expected = "\
SRV/n.toml:14:11: the profile name \"a b\" may hold letters, digits, dots, hyphens and underscores
SRV/n.toml:13:11: the name \"menu\" is built in: choose another one
SRV/n.toml:4:1: \"ftp://x\" is no URL like http://boot.lab:8080
SRV/n.toml:9:3: ../x leads out of the assets folder: mount its target within the folder (mount --bind), or copy it there; \
a link that stays inside is made with ln -sr (looked for below SRV)
SRV/n.toml:10:3: empty is empty
SRV/n.toml:6:1: there is no file debian/vmlinux (looked for below SRV)
SRV/n.toml:13:11: profile \"menu\" names no kernel (nor script, efi, iso or disk)
SRV/n.toml:2:1: there is no profile \"debain\" (is it \"debian\"?); there are: a b, debian, local, menu, shell
SRV/n.toml:12:1: the profile's template fails: undefined value: `machine.nmae` is undefined (in cmdline:1)";
        assert_eq!(faults, expected);
    }

    #[test]
    fn rules_about_machines_are_read_and_their_faults_have_their_places() {
        let profile = "assets = \"SRV\"\n[profiles.debian]\nkernel = \"debian/vmlinuz\"\n\
                       cmdline = \"hostname={{ machine.name }} role={{ vars.role }}\"\n";
        let good = "[[machines]]\nname = \"k8s08\"\nmac = \"52:54:00:12:34:56\"\nprofile = \"debian\"\n\
                    vars = { role = \"worker\" }\n[machines.override]\nloader = \"ipxe.efi\"\nlocal_boot = \"exit1\"\n\
                    [[machines]]\noui = [\"b8:27:eb\"]\narch = [\"bios\", \"arm64\"]\nprofile = \"local\"\n";
        let machines = resolved(&format!("{profile}{good}")).expect("no fault").machines;
        let (selector, rule) = &machines[0];
        assert_eq!(selector.macs, [MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56])]);
        assert_eq!((rule.name.as_deref(), rule.profile.as_deref()), (Some("k8s08"), Some("debian")));
        assert_eq!((rule.loader.as_deref(), rule.local_boot), (Some("ipxe.efi"), LocalBoot::Exit1));
        assert_eq!(rule.vars["role"], "worker");
        assert_eq!(machines[1].0.archs, [Loader::Bios, Loader::EfiArm64]);

        let bad = "[[machines]]\nname = \"k8s_08\"\nmac = [\n\"52:54:00:12:34:56\",\n\"52:54\"]\nprofile = \"debain\"\n\
                   [[machines]]\nuuid = \"1234\"\noui = \"b8\"\narch = \"amd64\"\n[machines.override]\nloader = \"no/shim.efi\"\n\
                   [[machines]]\nname = \"nobody\"\nprofile = \"debian\"\n";
        let expected = "\
SRV/n.toml:9:1: \"52:54\" is no MAC address: write it like 52:54:00:12:34:56
SRV/n.toml:6:1: \"k8s_08\" is no host name: letters, digits, hyphens and dots, 253 at most (RFC 1123 §2.1)
SRV/n.toml:14:1: there is no architecture \"amd64\" (is it \"x86_64\"?); there are: bios, i386, x86_64, arm32, arm64, riscv32, riscv64, loong64
SRV/n.toml:12:1: \"1234\" is no UUID: write it like 00112233-4455-6677-8899-aabbccddeeff
SRV/n.toml:13:1: \"b8\" is no OUI: write the first three bytes of a MAC address, like b8:27:eb
SRV/n.toml:17:1: the rule names no machine: give it mac, uuid, serial, manufacturer, product, asset, oui, interface or arch (for all machines, set default_profile)
SRV/n.toml:10:1: there is no profile \"debain\" (is it \"debian\"?); there are: debian, local, menu, shell
SRV/n.toml:16:1: there is no file no/shim.efi (looked for below SRV)
SRV/n.toml:4:1: the profile's template fails: undefined value: `vars.role` is undefined (in cmdline:1) (for the machine nobody)";
        assert_eq!(resolved(&format!("{profile}{bad}")).map(|_| ()), Err(expected.into()));
    }

    #[test]
    fn the_dhcp_stage_and_the_state_are_set_and_their_faults_have_their_places() {
        let settings = resolved("").expect("no fault");
        let default = Dhcp {
            enabled: true,
            socket: schema::DhcpSocket::Auto,
            offer: OfferShape::Auto,
            reply_delay: Duration::ZERO,
            known_only: false,
            rates: Rates::default(),
        };
        assert_eq!((settings.dhcp, settings.state), (default, StateUrl::Default(DEFAULT_STATE.into())));
        let settings = resolved(
            "[dhcp]\noffer = \"boot_server\"\nreply_delay = \"1s\"\nanswer = \"known\"\nmax_rate_per_client = 50\n\
             [state]\nurl = \"sqlite://s.db\"\n",
        );
        let settings = settings.expect("no fault");
        let rates = Rates { per_client: 50, ..Rates::default() };
        let offer = OfferShape::Always(Shape::BootServer);
        assert_eq!(
            settings.dhcp,
            Dhcp { offer, reply_delay: Duration::from_secs(1), known_only: true, rates, ..default }
        );
        assert_eq!(settings.state, StateUrl::Set("sqlite://s.db".into()));
        let faults = "\
SRV/n.toml:2:1: there is no offer \"67\"; there are: auto, direct, option_67, boot_server, option_66, menu
SRV/n.toml:3:1: max_rate is 0: nobody could be answered
SRV/n.toml:5:1: \"state.db\" is no URL like \"sqlite:///var/lib/netbootd/state.db\"";
        let text = "[dhcp]\noffer = \"67\"\nmax_rate = 0\n[state]\nurl = \"state.db\"\n";
        assert_eq!(resolved(text).map(|_| ()), Err(faults.into()));
    }
}
