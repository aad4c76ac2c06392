//! Schema → domain types: every fault that the values have among themselves and with the host's files, at once.

use std::{collections::BTreeMap, ops::RangeInclusive, path::Path, sync::Arc, time::Duration};

use super::{Fault, Faults, load::Loaded, schema, units};
use crate::{
    boot::{
        client::MacAddr,
        machine::{Machine, Profile, Rules},
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
    /// The TFTP stage.
    pub tftp: Tftp,
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

/// Resolves a configuration.
///
/// # Errors
/// All faults.
pub fn resolve(loaded: &Loaded) -> Result<Settings, Faults> {
    let mut check = Check { loaded, faults: Vec::new() };
    let config = &loaded.config;
    let assets = check.assets();
    let profiles: BTreeMap<String, Profile> = config
        .profiles
        .iter()
        .map(|(name, profile)| (name.clone(), check.profile(name, profile, assets.as_ref())))
        .collect();
    if !profiles.contains_key(&config.default_profile) && !Rules::BUILT_IN.contains(&config.default_profile.as_str()) {
        let mut names: Vec<&str> = profiles.keys().map(String::as_str).chain(Rules::BUILT_IN).collect();
        names.sort_unstable();
        names.dedup();
        let message = format!("there is no profile {:?}; there are: {}", config.default_profile, names.join(", "));
        check.fault(&["default_profile"], message);
    }
    let tftp = check.tftp();
    let base_url = check.base_url();
    let http_limits = check.http_limits();
    let grace = check.duration(&["http", "grace"], &config.http.grace, Duration::ZERO..=LONGEST);
    if !check.faults.is_empty() {
        return Err(Faults(check.faults));
    }
    Ok(Settings {
        interfaces: config.interfaces.clone(),
        assets: assets.map(Arc::new),
        loader_dirs: config.loader_dirs.clone(),
        tftp,
        http_port: config.http.port,
        listing: config.http.listing,
        base_url,
        http_limits,
        grace,
        profiles,
        default_profile: config.default_profile.clone(),
    })
}

struct Check<'a> {
    loaded: &'a Loaded,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, path: &[&str], message: String) {
        self.faults.push(Fault { place: self.loaded.places.of(path), message });
    }

    fn assets(&mut self) -> Option<AssetRoot> {
        let named = self.loaded.config.assets.as_deref();
        let path = named.or_else(|| Some(Path::new(DEFAULT_ASSETS)).filter(|path| path.is_dir()))?;
        match AssetRoot::open(path) {
            Ok(root) => Some(root),
            Err(error) => {
                self.fault(&["assets"], format!("the assets folder {} cannot be used: {error}", path.display()));
                None
            }
        }
    }

    fn profile(&mut self, name: &str, profile: &schema::Profile, assets: Option<&AssetRoot>) -> Profile {
        let key = |key| ["profiles", name, key];
        if Rules::BUILT_IN.contains(&name) {
            self.fault(&key("kernel")[..2], format!("the name {name:?} is built in: choose another one"));
        }
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            let message = format!("the profile name {name:?} may hold letters, digits, dots, hyphens and underscores");
            self.fault(&key("kernel")[..2], message);
        }
        if profile.kernel.is_empty() {
            self.fault(&key("kernel"), format!("profile {name:?} names no kernel"));
        } else {
            self.file(&key("kernel"), &profile.kernel, assets);
        }
        for (index, initrd) in profile.initrd.iter().enumerate() {
            self.file(&["profiles", name, "initrd", &index.to_string()], initrd, assets);
        }
        // With a machine like any other, so that a slip is told now and not by the first machine that boots.
        let machine = Machine::unnamed(MacAddr([0x52, 0x54, 0, 0, 0, 1]), "x86_64".into());
        if let Err(why) = Templates::default().cmdline(&profile.cmdline, &machine) {
            self.fault(&key("cmdline"), why.to_string());
        }
        Profile { kernel: profile.kernel.clone(), initrd: profile.initrd.clone(), cmdline: profile.cmdline.clone() }
    }

    fn file(&mut self, key: &[&str], name: &str, assets: Option<&AssetRoot>) {
        let problem = match assets {
            None if self.loaded.config.assets.is_some() => return,
            None => format!("{name} is a path below the assets folder, and there is none: set assets"),
            Some(assets) => match assets.file(name) {
                Ok(asset) if asset.size > 0 => return,
                Ok(_) => format!("{name} is empty"),
                Err(why) => format!("{why} (looked for below {})", assets.path().display()),
            },
        };
        self.fault(key, problem);
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

    fn duration(&mut self, key: &[&str], text: &str, range: std::ops::RangeInclusive<Duration>) -> Duration {
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

    fn tftp(&mut self) -> Tftp {
        let tftp = self.loaded.config.tftp.clone();
        let mut within = |key: &str, value: usize, least: usize, most: usize, what: &str| {
            if !(least..=most).contains(&value) {
                self.fault(&["tftp", key], format!("{key} is {value}: {what}, from {least} to {most}"));
            }
        };
        within("port", tftp.port.into(), 1, 65_535, "a UDP port");
        within("max_block_size", tftp.max_block_size.into(), 512, 65_464, "bytes of data in a block (RFC 2348)");
        // Of 65,536 block numbers, half a circle tells what is old from what is new.
        within("max_window_size", tftp.max_window_size.into(), 1, 1024, "blocks in flight");
        within("max_transfers", tftp.max_transfers, 1, 65_536, "transfers at once");
        within(
            "max_transfers_per_client",
            tftp.max_transfers_per_client,
            1,
            65_536,
            "transfers at once for one address",
        );
        let range = tftp.transfer_ports.as_deref().map(port_range);
        if range == Some(None) {
            let message =
                format!("{:?} is no range of ports like \"50000-50999\"", tftp.transfer_ports.unwrap_or_default());
            self.fault(&["tftp", "transfer_ports"], message);
        } else if range.is_some() && tftp.single_port {
            let message = "with single_port every answer comes from one port: leave one of the two out".to_owned();
            self.fault(&["tftp", "transfer_ports"], message);
        }
        Tftp {
            enabled: tftp.enabled,
            port: tftp.port,
            single_port: tftp.single_port,
            transfer_ports: range.flatten(),
            max_block_size: tftp.max_block_size,
            max_window_size: tftp.max_window_size,
            max_transfers: tftp.max_transfers,
            max_transfers_per_client: tftp.max_transfers_per_client,
        }
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
const LONGEST: Duration = Duration::from_secs(32_767);
/// Bytes per second.
const SLOWEST: u64 = 64_000;
/// `"50000-50999"`.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

/// Where the packages put it.
const DEFAULT_ASSETS: &str = "/var/lib/netbootd/assets";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::load::load;

    fn resolved(text: &str) -> Result<Settings, String> {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().canonicalize().expect("there");
        fs::create_dir(folder.join("debian")).expect("made");
        fs::write(folder.join("debian/vmlinuz"), "kernel").expect("written");
        fs::write(folder.join("debian/initrd.img"), "initrd").expect("written");
        fs::write(folder.join("empty"), "").expect("written");
        let path = folder.join("n.toml");
        fs::write(&path, text.replace("SRV", &folder.display().to_string())).expect("written");
        let loaded = load(Some(&path), [], &[]).map_err(|faults| faults.to_string())?;
        resolve(&loaded).map_err(|faults| faults.to_string().replace(&folder.display().to_string(), "SRV"))
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
        let debian = Profile {
            kernel: "debian/vmlinuz".into(),
            initrd: vec!["debian/initrd.img".into()],
            cmdline: "hostname={{ machine.name }}".into(),
        };
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
        let all: String =
            example.lines().map(|line| line.strip_prefix("#:").unwrap_or(line).to_owned() + "\n").collect();
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
SRV/n.toml:6:1: there is no file debian/vmlinux (looked for below SRV)
SRV/n.toml:9:3: ../x leads out of the assets folder (looked for below SRV)
SRV/n.toml:10:3: empty is empty
SRV/n.toml:12:1: the profile's template fails: undefined value: `machine.nmae` is undefined (in cmdline:1)
SRV/n.toml:13:11: the name \"menu\" is built in: choose another one
SRV/n.toml:13:11: profile \"menu\" names no kernel
SRV/n.toml:2:1: there is no profile \"debain\"; there are: a b, debian, local, menu
SRV/n.toml:4:1: \"ftp://x\" is no URL like http://boot.lab:8080";
        assert_eq!(faults, expected);
    }
}
