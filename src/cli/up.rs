//! `netbootd up`: serves until it is stopped, on a laptop or as a service.

use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions, Permissions},
    io::{self, IsTerminal as _, Write as _},
    net::Ipv4Addr,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use figment::value::Value;
use tracing::{info, warn};

use super::failure::{EX_CONFIG, EX_NOPERM, EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure, configuration, unclear};
use super::images::{self, Images};
use super::lease_flags::LeaseFlags;
use super::named_files::{below, folder_of, real};
use crate::{
    config::{
        Faults,
        load::{environment, load},
        resolve::resolve,
        save,
        settings::Settings,
        text_file::is_readable_again,
    },
    daemon::{self, Confinement, StartError, logging, plan::Plan, privileges::PrivilegeError, talk::Talk},
    doctor::{
        finding::{Fix, what_matters},
        run::examine_quickly,
    },
    net::{interface::choose, makers::Makers},
};

/// Serve network boot until stopped.
///
/// With a KERNEL, every machine that boots from the network gets it. With one CD image (FILE.iso), every machine boots it;
/// several make a menu. Without any, the configuration decides.
#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// Linux kernel, or a CD image whose name ends in .iso
    #[arg(value_name = "KERNEL")]
    kernel: Option<PathBuf>,
    /// Initial RAM disks, in the order in which the kernel unpacks them; or more CD images
    #[arg(value_name = "INITRD")]
    initrds: Vec<PathBuf>,
    /// Kernel command line (a template: {{ machine.mac }}, {{ machine.name }}, {{ machine.arch }})
    #[arg(last = true, value_name = "CMDLINE", requires = "kernel")]
    cmdline: Vec<String>,
    /// Configuration file; it is optional [default: /etc/netbootd/netbootd.toml, if it exists]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface to serve, repeatable [default: the only suitable one]
    #[arg(short, long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    /// TCP port of the HTTP server [default: 8080]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    http_port: Option<u16>,
    /// Folder to serve under /assets/ [default: /var/lib/netbootd/assets; with a KERNEL, only the named files]
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// Profile for machines that no rule names [default: menu, or KERNEL]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Answer only machines that a rule names or that you allow; on a terminal, it asks about the others
    #[arg(long, conflicts_with = "everyone")]
    known: bool,
    /// Answer every machine, also beside another ProxyDHCP server
    #[arg(long)]
    everyone: bool,
    /// Write the configuration that it runs with to FILE, for a service
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Folder to search for iPXE loaders before the packages' folders, repeatable
    #[arg(long = "loader-dir", value_name = "DIR")]
    loader_dirs: Vec<PathBuf>,
    /// User to switch to after the ports are open [default: netbootd, if started by root and this user exists]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Keep all rights and start no sandbox, to find out whether missing rights are the cause of a problem
    #[arg(long, conflicts_with = "user")]
    no_sandbox: bool,
    #[command(flatten)]
    lease: LeaseFlags,
    /// Format of the log lines
    #[arg(long, value_enum, default_value = "text")]
    log_format: logging::Format,
}

/// Keys of the configuration, and what the command line gives them.
type Flags = Vec<(&'static str, Value)>;

impl Up {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start(self.log_format);
        let (mut flags, only) = self.flags()?;
        let faulty = |faults: Faults| Failure::new(EX_CONFIG, faults);
        // Also at a reload: the package's file may be gone by then, which must not drop all rules.
        let file = configuration(self.config.as_deref()).map(Path::to_owned);
        let mut settings = loaded(file.as_deref(), &flags, only.as_ref()).map_err(faulty)?;
        info!("netbootd {}", env!("CARGO_PKG_VERSION"));
        let set = self.lease.set_address(&settings.fixed.interfaces)?;
        // Nobody reads along, and nobody answers, where this is no terminal.
        let is_terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
        let other_proxy = if is_terminal { looks_around(&settings, !self.interfaces.is_empty())? } else { None };
        // A person who answers questions is there, and nobody said whom to answer.
        let is_careful = is_terminal && !self.everyone && !self.known && !self.says_whom_to_answer();
        if is_careful && other_proxy.is_some() {
            warn!("only known machines are answered, because of that server; --everyone answers all");
            flags.push(("dhcp.answer", Value::from("known")));
            settings = loaded(file.as_deref(), &flags, only.as_ref()).map_err(faulty)?;
        }
        if let Some(file) = &self.save {
            self.saved(file, &flags, only.is_some())?;
        }
        let asks = is_terminal && (settings.offers.known_only || is_careful);
        let hint = self.lease.hint();
        let plan = Plan::new(settings).map_err(|why| unclear(&why, !self.interfaces.is_empty(), hint))?;
        // The table is read here: in the sandbox, it is out of reach.
        let makers = if asks { Arc::new(Makers::load()) } else { Arc::default() };
        let plan = Plan { talk: Talk { asks, makers }, ends_after: self.lease.ends_after, ..plan };
        if is_careful {
            let strangers = plan.live.rules.load().strangers.clone();
            strangers.be_careful();
            if let Some(server) = other_proxy {
                strangers.other_proxy_answers(server);
            }
        }
        plan.check_leases().map_err(|fault| Failure::new(EX_CONFIG, fault))?;
        let confinement = match self.no_sandbox {
            true => Confinement::No,
            false => Confinement::Yes { user: self.user.clone() },
        };
        // The same files, environment and flags are used at every reload.
        let read = Box::new(move || {
            if let Some(file) = &file {
                is_readable_again(file)?;
            }
            // The package's file may have come since the start.
            loaded(file.as_deref().or_else(|| configuration(None)), &flags, only.as_ref())
        });
        let ended = daemon::run(plan, read, &confinement);
        drop(set);
        ended.map_err(|error| {
            let code = match &error {
                StartError::Privilege(PrivilegeError::NoUser(_)) => EX_USAGE,
                StartError::Privilege(PrivilegeError::NotRoot(_)) => EX_NOPERM,
                StartError::Privilege(_) | StartError::Sandbox(_) => EX_OSERR,
                StartError::Bind(bind) => match bind.error.kind() {
                    io::ErrorKind::PermissionDenied => EX_NOPERM,
                    io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported => {
                        EX_UNAVAILABLE
                    }
                    _ => EX_OSERR,
                },
            };
            Failure::new(code, error)
        })
    }

    /// Whether the environment or the configuration file says whom to answer.
    fn says_whom_to_answer(&self) -> bool {
        if std::env::var_os("NETBOOTD_DHCP__ANSWER").is_some() {
            return true;
        }
        let text = configuration(self.config.as_deref()).and_then(|file| fs::read_to_string(file).ok());
        let document = text.and_then(|text| text.parse::<toml_edit::DocumentMut>().ok());
        document.is_some_and(|document| document.get("dhcp").and_then(|dhcp| dhcp.get("answer")).is_some())
    }

    /// Writes the configuration that it runs with. `named`: only named files are served, which no configuration says.
    fn saved(&self, file: &Path, flags: &[(&str, Value)], named: bool) -> Result<(), Failure> {
        let loaded = load(configuration(self.config.as_deref()), environment(), flags)
            .map_err(|faults| Failure::new(EX_CONFIG, faults))?;
        let text = save::text(&loaded.config).map_err(|error| Failure::new(EX_OSERR, error))?;
        let name = file.display();
        written_for_owner(file, &text).map_err(|error| Failure::new(EX_OSERR, format!("{name}: {error}")))?;
        info!("saved as {name}; netbootd check -c {name} looks at it");
        if let Some(assets) = loaded.config.assets.filter(|_| named) {
            warn!(
                "a service with this configuration serves every file in {}, not only the named ones",
                assets.display()
            );
        }
        info!(
            "as a service: sudo install -m 640 -g netbootd {name} /etc/netbootd/netbootd.toml && sudo systemctl enable --now netbootd"
        );
        Ok(())
    }

    /// The assets folder of the configuration, if the kernel is in it.
    fn configured_assets(&self, kernel: &Path) -> Option<PathBuf> {
        let loaded = load(configuration(self.config.as_deref()), environment(), &[]).ok()?;
        let folder = loaded.config.assets?;
        kernel.canonicalize().ok()?.starts_with(folder.canonicalize().ok()?).then_some(folder)
    }

    /// The flags as configuration keys, which override all other layers. Also the files to serve, if no assets folder
    /// is set.
    fn flags(&self) -> Result<(Flags, Option<BTreeSet<String>>), Failure> {
        let mut only = None;
        let mut flags = Flags::new();
        let mut list = |key, values: &[PathBuf]| {
            let values: Vec<Value> = values.iter().map(|value| text(value)).collect();
            if !values.is_empty() {
                flags.push((key, Value::from(values)));
            }
        };
        let interfaces: Vec<PathBuf> = self.interfaces.iter().map(PathBuf::from).collect();
        list("interfaces", &interfaces);
        list("loader_dirs", &self.loader_dirs);
        flags.extend(self.lease.keys());
        flags.extend(self.http_port.map(|port| ("http.port", Value::from(port))));
        flags.extend(self.assets.as_deref().map(|folder| ("assets", text(folder))));
        if let Some(images) = images::named(self.kernel.as_deref(), &self.initrds)? {
            let first = images.first().copied().unwrap_or(Path::new(""));
            let named = self.assets.clone().or_else(|| self.configured_assets(first));
            let images = Images::of(&images, named.as_deref())?;
            only = named.is_none().then(|| images.served());
            flags.push(("assets", text(&images.folder)));
            flags.push(("profiles", images.profiles(&self.cmdline.join(" "))));
            flags.push(("default_profile", Value::from(images.default_profile())));
        } else if let Some(kernel) = &self.kernel {
            let named = self.assets.clone().or_else(|| self.configured_assets(kernel));
            let Files { folder, kernel, initrds } = Files::of(kernel, &self.initrds, named.as_deref())?;
            // Only the named files are served: a downloads or home folder has other files that must not be public.
            only = named.is_none().then(|| initrds.iter().chain([&kernel]).cloned().collect());
            flags.push(("assets", text(&folder)));
            flags.push(("profiles.command-line.kernel", Value::from(kernel)));
            flags.push(("profiles.command-line.initrd", Value::from(initrds)));
            flags.push(("profiles.command-line.cmdline", Value::from(self.cmdline.join(" "))));
            flags.push(("default_profile", Value::from("command-line")));
        }
        flags.extend(self.profile.as_deref().map(|name| ("default_profile", Value::from(name))));
        flags.extend(self.known.then(|| ("dhcp.answer", Value::from("known"))));
        flags.extend(self.everyone.then(|| ("dhcp.answer", Value::from("all"))));
        Ok((flags, only))
    }
}

fn loaded(file: Option<&Path>, flags: &[(&str, Value)], only: Option<&BTreeSet<String>>) -> Result<Settings, Faults> {
    let mut loaded = load(file, environment(), flags)?;
    loaded.only = only.cloned();
    resolve(&loaded)
}

/// Looks at this host and asks the network once, before the server's own offers are there. Says the one thing that
/// matters. Another ProxyDHCP server that answers.
fn looks_around(settings: &Settings, is_argument: bool) -> Result<Option<Ipv4Addr>, Failure> {
    let interfaces = choose(&settings.fixed.interfaces).map_err(|why| unclear(&why, is_argument, ""))?;
    let quick = match examine_quickly(&interfaces, settings) {
        Ok(mut quick) => {
            // With leases of our own, there has to be no other server.
            quick.findings.retain(|finding| settings.fixed.lease.is_none() || finding.id != "no_leasing_server");
            quick
        }
        // It is a help, and no boot needs it.
        Err(failed) => {
            info!("the network was not looked at: {failed}");
            return Ok(None);
        }
    };
    match what_matters(&quick.findings) {
        None if quick.proxies.is_empty() => {
            let leasing = quick.findings.iter().find(|finding| finding.id == "leasing_server");
            info!("{}", leasing.map_or("nothing was found that keeps machines from booting", |found| &found.text));
        }
        None => {}
        Some(finding) => {
            warn!("{}", finding.text);
            for fix in &finding.fix {
                match fix {
                    Fix::Run(text) => info!("  run: {text}"),
                    Fix::Configure(text) => info!("  set: {text}"),
                    Fix::Paste(text) | Fix::Do(text) => info!("  {text}"),
                }
            }
        }
    }
    let proxies: Vec<String> = quick.proxies.iter().map(ToString::to_string).collect();
    if !proxies.is_empty() {
        let list = proxies.join(", ");
        warn!(
            "another ProxyDHCP server answers on this network: {list}; a machine may take either offer: stop one of the two"
        );
    }
    Ok(quick.proxies.first().copied())
}

fn text(path: &Path) -> Value {
    Value::from(path.to_string_lossy().into_owned())
}

/// The files of the command line, as paths below the folder that they are served from.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    folder: PathBuf,
    kernel: String,
    initrds: Vec<String>,
}

impl Files {
    fn of(kernel: &Path, initrds: &[PathBuf], assets: Option<&Path>) -> Result<Self, Failure> {
        let kernel = real(kernel)?;
        let initrds: Vec<PathBuf> = initrds.iter().map(|path| real(path)).collect::<Result<_, _>>()?;
        let all: Vec<&PathBuf> = initrds.iter().chain([&kernel]).collect();
        let folder = folder_of(&all, assets)?;
        let initrds = initrds.iter().map(|path| below(path, &folder)).collect::<Result<_, _>>()?;
        Ok(Self { kernel: below(&kernel, &folder)?, initrds, folder })
    }
}

/// Writes a file that its owner alone reads: a configuration has tokens, and passwords in `vars`.
fn written_for_owner(file: &Path, text: &str) -> io::Result<()> {
    let mut opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    opened.set_permissions(Permissions::from_mode(0o600))?;
    opened.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_resolved_before_the_folder_is_chosen() {
        let scratch = tempfile::tempdir().expect("a folder");
        let root = scratch.path().canonicalize().expect("there");
        fs::create_dir_all(root.join("boot/late")).expect("made");
        for name in ["boot/vmlinuz-6.1", "boot/late/initrd.img", "elsewhere.img"] {
            fs::write(root.join(name), "x").expect("written");
        }
        symlink("boot/vmlinuz-6.1", root.join("vmlinuz")).expect("made");
        let files = |kernel: &str, initrds: &[&str], assets: Option<&str>| {
            let initrds: Vec<PathBuf> = initrds.iter().map(|name| root.join(name)).collect();
            Files::of(&root.join(kernel), &initrds, assets.map(|name| root.join(name)).as_deref())
                .map_err(|failure| (failure.code, failure.message.replace(&root.display().to_string(), "")))
        };
        let expected = |folder: &str, kernel: &str, initrd: &str| {
            Ok(Files { folder: root.join(folder), kernel: kernel.into(), initrds: vec![initrd.into()] })
        };
        assert_eq!(
            files("vmlinuz", &["boot/late/initrd.img"], None),
            expected("boot", "vmlinuz-6.1", "late/initrd.img")
        );
        assert_eq!(files("vmlinuz", &["elsewhere.img"], None), expected("", "boot/vmlinuz-6.1", "elsewhere.img"));
        assert_eq!(files("vmlinuz", &["elsewhere.img"], Some(".")), expected("", "boot/vmlinuz-6.1", "elsewhere.img"));
        let fix = "put it there, or set --assets to a folder that contains all the files";
        assert_eq!(
            files("vmlinuz", &["elsewhere.img"], Some("boot")),
            Err((EX_USAGE, format!("/elsewhere.img is not in the assets folder /boot: {fix}")))
        );
        let fault = |kernel: &str| files(kernel, &[], None).expect_err(kernel);
        let missing = (EX_UNAVAILABLE, "/nothing: No such file or directory (os error 2)".into());
        assert_eq!(fault("nothing"), missing);
        let (code, words) = fault("boot");
        assert!(code == EX_USAGE && words.starts_with("/boot is a folder: "), "{words}");
        let parameter = Files::of(Path::new("console=ttyS0"), &[], None).expect_err("no file").message;
        assert!(
            parameter.ends_with("parameters of the kernel come behind --: netbootd up KERNEL INITRD -- console=ttyS0")
        );
        assert!(fault("/dev/null").1.starts_with("/dev/null is not a regular file: "));
        assert!(fault("https://mirror/linux").1.contains("/https://mirror/linux: No such file"), "below the folder");
        let address = Files::of(Path::new("https://mirror/linux"), &[], None).expect_err("no file").message;
        assert!(address.starts_with("https://mirror/linux is an address, and no file of this host: "), "{address}");
    }
}
