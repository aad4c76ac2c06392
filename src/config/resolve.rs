//! Schema → domain types. Reports every fault of the values, also together with the files of the host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Fault, Faults, Finding, Level,
    check::{Check, is_profile},
    examine::examine,
    fixed::Fixed,
    isos::tell_apart,
    load::Loaded,
    settings::Settings,
    watched::{Watched, fingerprint, with_images},
};
use crate::boot::machine::Rendered;

/// Resolves a configuration.
///
/// # Errors
/// All faults that stop a server from running with it.
pub fn resolve(loaded: &Loaded) -> Result<Settings, Faults> {
    let (settings, faults) = attempt(loaded);
    if faults.is_empty() { Ok(settings) } else { Err(Faults(faults)) }
}

/// Resolves the valid parts of a configuration, and returns all faults that stop a server from running.
#[must_use]
pub fn attempt(loaded: &Loaded) -> (Settings, Vec<Fault>) {
    let mut check = Check {
        loaded,
        faults: loaded.faults.clone(),
        findings: Vec::new(),
        cmdlines: Vec::new(),
        asked: BTreeSet::new(),
        rendered: Rendered::default(),
        images: BTreeMap::new(),
        host_files: BTreeSet::new(),
    };
    let config = &loaded.config;
    // Taken before the files are read: a change in the meantime gives another number, and the files are read again.
    let read = fingerprint(loaded);
    let assets = check.assets();
    check.loader_dirs();
    let templates = check.templates();
    let mut profiles = check.profiles(assets.as_ref(), &templates);
    check.isos(&mut profiles, assets.as_ref(), &templates);
    tell_apart(&mut profiles, &config.profiles);
    let menu = check.menu(&profiles);
    if !is_profile(&config.default_profile, &profiles) {
        check.no_profile(&["default_profile"], &config.default_profile, &profiles);
    }
    let machines = check.machines(&profiles, assets.as_ref(), &templates);
    check.one_address(&machines);
    check.control();
    let answers = check.answers();
    let mut watched = Watched::of(loaded);
    if let Some(assets) = &assets {
        watched.add_images(&assets.path(), check.images.keys(), config.isos.as_deref());
    }
    check.host_files.iter().for_each(|file| watched.add(file));
    let read = with_images(read, &check.images);
    let loader_place = |index: usize| loaded.places.of(&["machines", &index.to_string(), "override", "loader"]);
    let named = machines.iter().enumerate().filter(|(_, (_, rule))| rule.loader.is_some());
    let mut settings = Settings {
        offers: check.offers(),
        fixed: Fixed {
            interfaces: config.interfaces.clone(),
            assets: assets.map(Arc::new),
            dhcp: check.dhcp(),
            lease: check.lease(),
            tftp: check.tftp(),
            syslog: check.syslog(),
            http: check.http(),
            state: check.state(),
            state_server: check.state_server(),
            control: config.control.clone(),
        },
        loader_dirs: config.loader_dirs.clone(),
        profiles,
        default_profile: config.default_profile.clone(),
        templates,
        rendered: std::mem::take(&mut check.rendered),
        answers,
        menu,
        cmdlines: std::mem::take(&mut check.cmdlines),
        loader_places: named.map(|(index, _)| (index, loader_place(index))).collect(),
        machines,
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

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::*;
    use crate::{
        boot::{
            loader::Loader,
            mac::MacAddr,
            machine::{LocalBoot, OfferShape},
            profile::{Boot, Linux, Profile},
            shape::Shape,
        },
        config::{
            fixed::{Dhcp, StateUrl, Tftp},
            load::load,
            schema,
            settings::Offers,
            stages::DEFAULT_STATE,
        },
        net::limits::ClientLimits,
        offers::attempts::Rates,
    };

    fn resolved(text: &str) -> Result<Settings, String> {
        let scratch = tempfile::tempdir().expect("a folder");
        let folder = scratch.path().canonicalize().expect("there");
        fs::create_dir_all(folder.join("debian/dtbs")).expect("made");
        fs::write(folder.join("debian/vmlinuz"), "kernel").expect("written");
        fs::write(folder.join("debian/initrd.img"), "initrd").expect("written");
        fs::write(folder.join("debian/shimx64.efi"), "shim").expect("written");
        fs::write(folder.join("empty"), "").expect("written");
        fs::create_dir(folder.join("templates")).expect("made");
        let path = folder.join("n.toml");
        fs::write(&path, text.replace("SRV", &folder.display().to_string())).expect("written");
        let loaded = load(Some(&path), [], &[]).map_err(|faults| faults.to_string())?;
        let (settings, faults) = attempt(&loaded);
        // The test files have only a few bytes, which gives this fault too. Ignore it.
        let is_meant = |finding: &&Finding| {
            finding.level == Level::Fault && !finding.fault.message.ends_with("it is of an unknown type")
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
            shim: None,
        };
        let debian = Profile::from(Boot::Linux(debian));
        assert_eq!(settings.profiles, BTreeMap::from([("debian".into(), debian)]));
        assert_eq!(settings.fixed.interfaces, ["eth1"]);
        assert_eq!(
            (settings.fixed.http.port, settings.fixed.http.base_url.as_deref()),
            (8081, Some("http://boot.lab:8081"))
        );
        assert_eq!(settings.default_profile, "debian");
        assert!(settings.fixed.assets.is_some());
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
        assert_eq!((settings.fixed.http.limits, settings.fixed.http.grace), (defaults, 30 * second));
    }

    #[test]
    fn faults_of_the_limits_have_their_places() {
        let faults = resolved(
            "[http]\nmax_connections = 0\nrate_limit = \"9kB\"\ngrace = \"soon\"\n\
             trusted_proxies = [\"192.0.2.1\", \"proxy.lab\"]\n\
             [http.keepalive]\nidle = \"100ms\"\nprobes = 0\ndead_after = \"12h\"\n",
        )
        .map(|_| ())
        .expect_err("faults");
        let expected = "\
SRV/n.toml:2:1: max_connections is 0, so no client could be served: use 1 or more
SRV/n.toml:3:1: \"9kB\" is too slow for firmware: use 64kB or more, or 0 for no limit
SRV/n.toml:8:1: probes is 0: use 1 to 127 (tcp(7), TCP_KEEPCNT)
SRV/n.toml:7:1: \"100ms\" is out of range: use 1 s to 32767 s
SRV/n.toml:9:1: \"12h\" is out of range: use 2 s to 32767 s
SRV/n.toml:5:1: \"proxy.lab\" is neither an IPv4 address nor a prefix; examples: \"192.0.2.1\", \"192.0.2.0/24\"
SRV/n.toml:4:1: \"soon\" is not a time; examples: \"90s\", \"2m\", \"500ms\"";
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
        assert_eq!((settings.default_profile.as_str(), settings.fixed.interfaces.len()), ("debian", 1));
    }

    #[test]
    fn the_tftp_stage_is_set_and_its_faults_have_their_places() {
        let tftp = |text: &str| resolved(text).map(|settings| settings.fixed.tftp);
        let default = tftp("").expect("no fault");
        assert_eq!((default.port, default.max_transfers, default.transfer_ports.clone()), (69, 256, None));
        assert_eq!(
            tftp("[tftp]\nenabled = false\ntransfer_ports = \"50000-50999\"\nmax_transfers = 1000\n"),
            Ok(Tftp { enabled: false, transfer_ports: Some(50_000..=50_999), max_transfers: 1000, ..default.clone() })
        );
        assert_eq!(tftp("[tftp]\nsingle_port = true\n"), Ok(Tftp { single_port: true, ..default }));
        let faults = "\
SRV/n.toml:2:1: port is 0: use 1 to 65535 (a UDP port)
SRV/n.toml:3:1: max_block_size is 100: use 512 to 65464 (bytes of data in a block, RFC 2348)
SRV/n.toml:4:1: max_window_size is 2000: use 1 to 1024 (blocks in flight)
SRV/n.toml:5:1: max_transfers is 0: use 1 to 65536 (transfers at the same time)
SRV/n.toml:6:1: \"9-8\" is not a range of ports; example: \"50000-50999\"";
        let text = "[tftp]\nport = 0\nmax_block_size = 100\nmax_window_size = 2000\nmax_transfers = 0\n\
                    transfer_ports = \"9-8\"\n";
        assert_eq!(tftp(text), Err(faults.into()));
        assert_eq!(
            tftp("[tftp]\nsingle_port = true\ntransfer_ports = \"8-9\"\n"),
            Err("SRV/n.toml:3:1: single_port and transfer_ports cannot be used together: remove one of them".into())
        );
    }

    #[test]
    fn the_dhcp_socket_is_one_of_three() {
        let socket = |text: &str| resolved(text).map(|settings| settings.fixed.dhcp.socket);
        assert_eq!(socket(""), Ok(schema::DhcpSocket::Auto));
        assert_eq!(socket("[dhcp]\nsocket = \"capture\"\n"), Ok(schema::DhcpSocket::Capture));
        let fault = socket("[dhcp]\nsocket = \"raw\"\n").expect_err("a fault");
        assert_eq!(fault, "SRV/n.toml:2:1: dhcp.socket: unknown value \"raw\"; possible are: auto, bind, capture");
    }

    #[test]
    fn a_base_url_that_no_machine_can_use_is_a_fault_and_shows_no_password() {
        let base = |url: &str| resolved(&format!("[http]\nbase_url = \"{url}\"\n")).map(|settings| settings.findings);
        let port = "names a port that does not exist: use 1 to 65535, or leave the port out";
        for url in ["http://x:99999", "http://x:0", "http://x:", "http://[::1]:99999"] {
            assert_eq!(base(url).map(|_| ()), Err(format!("SRV/n.toml:2:1: {url:?} {port}")));
        }
        let user = base("http://u:secret@x:80").map(|_| ()).expect_err("a user");
        assert!(user.starts_with("SRV/n.toml:2:1: \"http://u:***@x:80\" names a user, "), "{user}");
        let end = base("http://x/#end").map(|_| ()).expect_err("a fragment");
        assert!(end.contains("is not a valid URL"), "{end}");
        let warnings = |url: &str| -> Vec<String> {
            let findings = base(url).expect("no fault").into_iter();
            findings.map(|finding| finding.fault.message).filter(|message| message.contains(url)).collect()
        };
        assert_eq!((warnings("http://192.0.2.1:8080"), warnings("http://192.0.2.1/x")), (vec![], vec![]));
        for (url, words) in [("http://[::1]:8080", "has an IPv6 address"), ("http://boot.lab", "has a host name")] {
            assert!(warnings(url).iter().any(|warning| warning.starts_with(&format!("{url} {words}, "))), "{url}");
        }

        let kernel = |url: &str| {
            let settings = resolved(&format!("[profiles.d]\nkernel = \"{url}\"\n"));
            settings.map(|settings| {
                Faults(settings.findings.into_iter().map(|finding| finding.fault).collect()).to_string()
            })
        };
        assert_eq!(kernel("http://m:99999/k").map(|_| ()), Err(format!("SRV/n.toml:2:1: \"http://m:99999/k\" {port}")));
        let shown = kernel("http://u:secret@m/k").expect("no fault");
        assert!(shown.contains("http://u:***@m/k is on another server") && !shown.contains("secret"), "{shown}");
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
SRV/n.toml:14:11: the profile name \"a b\" is not valid: use letters, digits, dots, hyphens and underscores
SRV/n.toml:13:11: the name \"menu\" is a built-in profile: choose another name
SRV/n.toml:4:1: \"ftp://x\" is not a valid URL; example: http://boot.lab:8080
SRV/n.toml:9:3: ../x leads out of the assets folder: name a file within the folder by a path without \"..\", or copy the file there
SRV/n.toml:10:3: empty is empty
SRV/n.toml:6:1: there is no file debian/vmlinux (searched below SRV)
SRV/n.toml:13:11: profile \"menu\" has no kernel, script, efi, iso, sanboot or disk
SRV/n.toml:2:1: unknown profile \"debain\" (did you mean \"debian\"?); known profiles: a b, debian, local, menu, shell
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
SRV/n.toml:9:1: \"52:54\" is not a MAC address: write it like 52:54:00:12:34:56
SRV/n.toml:6:1: \"k8s_08\" is not a host name: use letters, digits, hyphens and dots, at most 253 characters (RFC 1123 §2.1)
SRV/n.toml:14:1: unknown architecture \"amd64\" (did you mean \"x86_64\"?); known are: bios, i386, x86_64, arm32, arm64, riscv32, riscv64, loong64
SRV/n.toml:12:1: \"1234\" is not a UUID; example: 00112233-4455-6677-8899-aabbccddeeff
SRV/n.toml:13:1: \"b8\" is not an OUI: write the first three bytes of a MAC address, like b8:27:eb
SRV/n.toml:17:1: the rule matches no machine: add mac, uuid, serial, manufacturer, product, asset, oui, interface or arch (for all machines, set default_profile)
SRV/n.toml:10:1: unknown profile \"debain\" (did you mean \"debian\"?); known profiles: debian, local, menu, shell
SRV/n.toml:16:1: there is no file no/shim.efi (searched below SRV)
SRV/n.toml:4:1: the profile's template fails: undefined value: `vars.role` is undefined (in cmdline:1) (for the machine nobody)";
        assert_eq!(resolved(&format!("{profile}{bad}")).map(|_| ()), Err(expected.into()));
    }

    #[test]
    fn the_dhcp_stage_and_the_state_are_set_and_their_faults_have_their_places() {
        let settings = resolved("").expect("no fault");
        let default = Dhcp { enabled: true, socket: schema::DhcpSocket::Auto, rates: Rates::default() };
        let offers = Offers {
            shape: OfferShape::Auto,
            reply_delay: Duration::ZERO,
            answer_after: Duration::ZERO,
            known_only: false,
        };
        assert_eq!((settings.fixed.dhcp, settings.offers), (default, offers));
        assert_eq!(settings.fixed.state, StateUrl::Default(DEFAULT_STATE.into()));
        let settings = resolved(
            "[dhcp]\noffer = \"boot_server\"\nreply_delay = \"1s\"\nanswer = \"known\"\nmax_rate_per_client = 50\n\
             [state]\nurl = \"sqlite://s.db\"\n",
        );
        let settings = settings.expect("no fault");
        assert_eq!(settings.fixed.dhcp, Dhcp { rates: Rates { per_client: 50, ..Rates::default() }, ..default });
        let shape = OfferShape::Always(Shape::BootServer);
        let expected = Offers { shape, reply_delay: Duration::from_secs(1), known_only: true, ..offers };
        assert_eq!(settings.offers, expected);
        assert_eq!(settings.fixed.state, StateUrl::Set("sqlite://s.db".into()));
        let faults = "\
SRV/n.toml:2:1: unknown offer \"67\"; known are: auto, direct, option_67, boot_server, option_66, menu
SRV/n.toml:3:1: max_rate is 0, so no client could be answered: use 1 or more
SRV/n.toml:5:1: \"state.db\" is not a valid URL; example: \"sqlite:///var/lib/netbootd/state.db\"";
        let shared = resolved(
            "[dhcp]\nanswer_after = \"2s\"\n[state]\nurl = \"postgres://n:secret@db/n\"\nappliance = \"a\"\n\
             copy = \"/srv/copy.db\"\nkeep_boots = \"7d\"\n",
        );
        let shared = shared.expect("no fault");
        assert_eq!(shared.offers.answer_after, Duration::from_secs(2));
        assert_eq!(shared.fixed.state, StateUrl::Set("sqlite:///srv/copy.db".into()));
        assert_eq!(format!("{:?}", shared.fixed.state_server), "Some(postgres://n:***@db/n as a)");
        let text = "[state]\nurl = \"postgres://n:secret@db:port/n\"\npassword_file = \"SRV/none\"\nappliance = \"\"\n";
        let of_server = "\
SRV/n.toml:2:1: \"postgres://n:***@db:port/n\" is not a valid URL: error with configuration: invalid port number; example: \"postgres://netbootd@db.lab/netbootd?sslmode=verify-full\"
SRV/n.toml:3:1: SRV/none cannot be read: No such file or directory (os error 2); it holds the password of the server
SRV/n.toml:4:1: \"\" is no name for an appliance: use 1 to 64 characters";
        assert_eq!(resolved(text).map(|_| ()), Err(of_server.into()));
        assert!(resolved("[state]\nurl = \"postgres://n@/n?host=/run/postgresql\"\nappliance = \"a\"\n").is_ok());
        let one_address = |once: &str| {
            let text = format!(
                "[http]\nbase_url = \"http://boot.lab:8080\"\n[state]\nurl = \"postgres://n@db/n\"\nappliance = \"a\"\n\
                 [[machines]]\nmac = \"52:54:00:12:34:56\"\nprofile = \"menu\"\nonce = {once}\n"
            );
            let findings = resolved(&text).expect("no fault").findings;
            findings.iter().any(|finding| finding.fault.message.contains("all appliances have this address"))
        };
        assert_eq!((one_address("true"), one_address("\"installed\"")), (true, false));
        // A pipe is opened by nobody else, and must not be waited for.
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("made");
        let text = format!("[state]\nurl = \"postgres://n@db/n\"\npassword_file = {pipe:?}\nappliance = \"a\"\n");
        let refused = resolved(&text).map(|_| ()).expect_err("a pipe");
        assert!(refused.contains("cannot be read: it is not a regular file"), "{refused}");
        let text = "[dhcp]\noffer = \"67\"\nmax_rate = 0\n[state]\nurl = \"state.db\"\n";
        assert_eq!(resolved(text).map(|_| ()), Err(faults.into()));
    }
}
