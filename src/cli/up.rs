//! `netbootd up`: serve until stopped, on a laptop and as a service alike.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use figment::value::Value;
use tracing::info;

use super::failure::{EX_CONFIG, EX_NOPERM, EX_OSERR, EX_UNAVAILABLE, EX_USAGE, Failure, configuration};
use crate::{
    config::{Faults, load::load, resolve::resolve, settings::Settings},
    daemon::{self, Confinement, StartError, logging, plan::Plan, privileges::PrivilegeError},
};

/// Serve network boot until stopped.
///
/// With a KERNEL, every machine that network-boots gets it; without one, what the configuration says.
#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// Linux kernel
    #[arg(value_name = "KERNEL")]
    kernel: Option<PathBuf>,
    /// Initial RAM disks, in the order in which the kernel unpacks them
    #[arg(value_name = "INITRD")]
    initrds: Vec<PathBuf>,
    /// The kernel's command line (a template: {{ machine.mac }}, {{ machine.name }}, {{ machine.arch }})
    #[arg(last = true, value_name = "CMDLINE", requires = "kernel")]
    cmdline: Vec<String>,
    /// Configuration [default: /etc/netbootd/netbootd.toml where it exists; none is needed]
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Interface to serve, repeatable [default: the only one that fits]
    #[arg(short, long = "interface", value_name = "NAME")]
    interfaces: Vec<String>,
    /// TCP port of the HTTP stage [default: 8080]
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// Folder to serve under /assets/ [default: /var/lib/netbootd/assets; with a KERNEL, only the files that are named]
    #[arg(long, value_name = "DIR")]
    assets: Option<PathBuf>,
    /// Profile of machines that no rule names [default: menu, or KERNEL]
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Folder to look for iPXE loaders in before the packages' places, repeatable
    #[arg(long = "loader-dir", value_name = "DIR")]
    loader_dirs: Vec<PathBuf>,
    /// User to become once the ports are open [default: netbootd where root starts it and there is such a user]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Keep every right that it was started with, to find out whether they are what is missed
    #[arg(long, conflicts_with = "user")]
    no_sandbox: bool,
    /// How to write log lines
    #[arg(long, value_enum, default_value = "text")]
    log_format: logging::Format,
}

/// Keys of the configuration, and what the command line gives them.
type Flags = Vec<(&'static str, Value)>;

impl Up {
    pub(super) fn run(self) -> Result<(), Failure> {
        logging::start(self.log_format);
        let (flags, only) = self.flags()?;
        let settings = self.loaded(&flags, only.as_ref()).map_err(|faults| Failure::new(EX_CONFIG, faults))?;
        info!("netbootd {}", env!("CARGO_PKG_VERSION"));
        let plan = Plan::new(settings).map_err(|unclear| Failure::new(EX_USAGE, unclear))?;
        let confinement = match self.no_sandbox {
            true => Confinement::No,
            false => Confinement::Yes { user: self.user.clone() },
        };
        // The same files, environment and flags, whenever they are read again.
        let read = Box::new(move || self.loaded(&flags, only.as_ref()));
        daemon::run(plan, read, &confinement).map_err(|error| {
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

    fn loaded(&self, flags: &[(&str, Value)], only: Option<&BTreeSet<String>>) -> Result<Settings, Faults> {
        let mut loaded = load(configuration(self.config.as_deref()), std::env::vars(), flags)?;
        loaded.only = only.cloned();
        resolve(&loaded)
    }

    /// The assets folder of the configuration, where it holds the kernel.
    fn configured_assets(&self, kernel: &Path) -> Option<PathBuf> {
        let loaded = load(configuration(self.config.as_deref()), std::env::vars(), &[]).ok()?;
        let folder = loaded.config.assets?;
        kernel.canonicalize().ok()?.starts_with(folder.canonicalize().ok()?).then_some(folder)
    }

    /// The flags as keys of the configuration, of which they are the last layer; and the files that are served, where no
    /// folder was named to be.
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
        flags.extend(self.http_port.map(|port| ("http.port", Value::from(port))));
        flags.extend(self.assets.as_deref().map(|folder| ("assets", text(folder))));
        if let Some(kernel) = &self.kernel {
            let named = self.assets.clone().or_else(|| self.configured_assets(kernel));
            let Files { folder, kernel, initrds } = Files::of(kernel, &self.initrds, named.as_deref())?;
            // Downloads and homes hold more than what was meant for everyone on the network.
            only = named.is_none().then(|| initrds.iter().chain([&kernel]).cloned().collect());
            flags.push(("assets", text(&folder)));
            flags.push(("profiles.command-line.kernel", Value::from(kernel)));
            flags.push(("profiles.command-line.initrd", Value::from(initrds)));
            flags.push(("profiles.command-line.cmdline", Value::from(self.cmdline.join(" "))));
            flags.push(("default_profile", Value::from("command-line")));
        }
        flags.extend(self.profile.as_deref().map(|name| ("default_profile", Value::from(name))));
        Ok((flags, only))
    }
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
    /// Links are followed first: `/vmlinuz` is a link into `/boot`, and its folder would be the whole file system.
    fn of(kernel: &Path, initrds: &[PathBuf], assets: Option<&Path>) -> Result<Self, Failure> {
        let real = |path: &Path| {
            path.canonicalize().map_err(|error| Failure::new(EX_UNAVAILABLE, format!("{}: {error}", path.display())))
        };
        let kernel = real(kernel)?;
        let folder = match assets {
            Some(folder) => real(folder)?,
            None => kernel.parent().unwrap_or(Path::new("/")).to_owned(),
        };
        let below = |path: &Path| -> Result<String, Failure> {
            let below = path.strip_prefix(&folder).map_err(|_| {
                let (path, folder) = (path.display(), folder.display());
                let mend = "put it there, or name a folder that holds all the files with --assets";
                Failure::new(EX_USAGE, format!("{path} is not in the assets folder {folder}: {mend}"))
            })?;
            let words = || Failure::new(EX_USAGE, format!("{}: the name is not UTF-8: rename it", path.display()));
            below.to_str().map(str::to_owned).ok_or_else(words)
        };
        let initrds = initrds.iter().map(|path| below(&real(path)?)).collect::<Result<_, _>>()?;
        Ok(Self { kernel: below(&kernel)?, initrds, folder })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn files_are_named_below_the_folder_that_they_really_are_in() {
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
        assert_eq!(files("vmlinuz", &["elsewhere.img"], Some(".")), expected("", "boot/vmlinuz-6.1", "elsewhere.img"));
        let mend = "put it there, or name a folder that holds all the files with --assets";
        assert_eq!(
            files("vmlinuz", &["elsewhere.img"], None),
            Err((EX_USAGE, format!("/elsewhere.img is not in the assets folder /boot: {mend}")))
        );
        assert_eq!(
            files("nothing", &[], None),
            Err((EX_UNAVAILABLE, "/nothing: No such file or directory (os error 2)".into()))
        );
    }
}
