//! What can be booted.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use super::{image::Role, urls::is_remote};

/// The memory that a machine needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// MiB.
    pub mib: u64,
    /// The reason, for people.
    pub why: String,
}

/// Something to boot, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What people read in the menu; none: its name.
    pub title: Option<String>,
    /// What it boots, where no variant fits.
    pub boot: Boot,
    /// By iPXE's `${buildarch}`: `i386`, `x86_64`, `arm64`…
    pub variants: BTreeMap<String, Boot>,
    /// The architectures that it has something for, where that is known, and what the others get.
    pub only_for: Option<OnlyFor>,
    /// What it is, for people, a line each: of an image, what it is and the memory that it needs.
    pub about: Vec<String>,
    /// The memory that a machine needs for it, where that is known.
    pub memory: Option<Memory>,
    /// The sub-menu that it is in; none: the menu itself.
    pub folder: Option<String>,
    /// What it boots reports within this time of its hand-over, or something is wrong.
    pub report_within: Option<Duration>,
}

impl Profile {
    /// What it boots on this build of iPXE.
    #[must_use]
    pub fn boot(&self, arch: &str) -> &Boot {
        let refused = || self.only_for.as_ref().filter(|only| !only.archs.contains(arch)).map(|only| &only.others);
        self.variants.get(arch).or_else(refused).unwrap_or(&self.boot)
    }

    /// Whether it has something for this build of iPXE.
    #[must_use]
    pub fn is_for(&self, arch: &str) -> bool {
        self.variants.contains_key(arch) || self.only_for.as_ref().is_none_or(|only| only.archs.contains(arch))
    }

    /// Why a machine with so many MiB of memory has too little for it.
    #[must_use]
    pub fn lacks_memory(&self, mib: Option<u64>) -> Option<String> {
        let (has, needs) = (mib?, self.memory.as_ref()?);
        // What firmware keeps for itself, and for graphics, is missing in some machines' own count.
        let lacks = has + has / 16 < needs.mib;
        lacks.then(|| format!("it has {has} MiB of memory, and needs {} MiB: {}", needs.mib, needs.why))
    }

    /// All that it may boot, with the variant's architecture.
    pub fn boots(&self) -> impl Iterator<Item = (Option<&str>, &Boot)> {
        let variants = self.variants.iter().map(|(arch, boot)| (Some(arch.as_str()), boot));
        std::iter::once((None, &self.boot)).chain(variants)
    }
}

/// See [`Profile::only_for`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlyFor {
    /// By iPXE's `${buildarch}`; empty where a machine did not say it.
    pub archs: BTreeSet<&'static str>,
    /// [`Boot::Faulty`].
    pub others: Boot,
}

impl From<Boot> for Profile {
    fn from(boot: Boot) -> Self {
        Self {
            title: None,
            boot,
            variants: BTreeMap::new(),
            only_for: None,
            about: Vec::new(),
            memory: None,
            folder: None,
            report_within: None,
        }
    }
}

/// What is booted. Files are paths below the assets folder, or URLs on other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Boot {
    /// A Linux kernel.
    Linux(Linux),
    /// A script: a template of the user's own, else an asset, which is chained where it lies.
    Script(String),
    /// An EFI program, with its arguments (a template).
    Efi {
        /// The program.
        path: String,
        /// Template of its arguments.
        cmdline: String,
    },
    /// A kernel that takes other files than initial RAM disks: Xen, wimboot.
    Modules(Modules),
    /// A CD image, which iPXE makes a drive of.
    Iso(String),
    /// A disk image, which iPXE makes a drive of.
    Disk(String),
    /// The built-in menu of profiles.
    Menu,
    /// The local disk.
    Local,
    /// iPXE's shell.
    Shell,
    /// Nothing, since its configuration is at fault: what is wrong, and the fix, as its machines show it.
    Faulty(String),
}

/// A Linux kernel with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linux {
    /// The kernel.
    pub kernel: String,
    /// Initial RAM disks in the order in which the kernel unpacks them.
    pub initrd: Vec<String>,
    /// Template of the kernel's command line.
    pub cmdline: String,
    /// For boot programs that hand the kernel a device tree: U-Boot.
    pub device_tree: Option<DeviceTree>,
    /// The shim that iPXE starts the kernel with where Secure Boot is on.
    pub shim: Option<String>,
}

/// A kernel that takes files under names or with arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modules {
    /// The kernel.
    pub kernel: String,
    /// The arguments of a hypervisor; `None` where the kernel is none.
    pub hypervisor: Option<String>,
    /// Template of the kernel's command line. Where that is a hypervisor, it is the line of the first module, the kernel
    /// that it starts.
    pub cmdline: String,
    /// What it is given beside, in order.
    pub modules: Vec<Module>,
}

/// A file that a kernel is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// The file.
    pub path: String,
    /// What iPXE calls it.
    pub name: String,
    /// Its arguments; wimboot's are the name under which Windows finds the file. A kernel's are [`Modules::cmdline`].
    pub arguments: String,
}

/// The device tree that a kernel is handed instead of the firmware's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceTree {
    /// A folder, in which U-Boot knows its board's file.
    Folder(String),
    /// One file, for machines of one kind.
    File(String),
}

impl Boot {
    /// The files that a machine fetches from us before it has what it needs: the kernel, or what stands for it, first.
    /// None where some are on another server: then nobody here sees when it has them all.
    #[must_use]
    pub fn files(&self) -> Vec<&str> {
        let named = self.named();
        if named.iter().any(|name| is_remote(name)) { Vec::new() } else { named }
    }

    /// The files that it names, wherever they are: the kernel, or what stands for it, first.
    #[must_use]
    pub fn named(&self) -> Vec<&str> {
        match self {
            Self::Linux(Linux { kernel, initrd, .. }) => {
                std::iter::once(kernel).chain(initrd).map(String::as_str).collect()
            }
            Self::Modules(Modules { kernel, modules, .. }) => {
                std::iter::once(kernel.as_str()).chain(modules.iter().map(|module| module.path.as_str())).collect()
            }
            Self::Efi { path, .. } | Self::Iso(path) | Self::Disk(path) => vec![path],
            Self::Script(_) | Self::Menu | Self::Local | Self::Shell | Self::Faulty(_) => Vec::new(),
        }
    }

    /// The file of those that is started, and what it has to be.
    pub(super) fn started(&self) -> Option<(Role, &str)> {
        match self {
            Self::Linux(Linux { kernel, .. }) | Self::Modules(Modules { kernel, .. }) => Some((Role::Kernel, kernel)),
            Self::Efi { path, .. } => Some((Role::Efi, path)),
            Self::Iso(_)
            | Self::Disk(_)
            | Self::Script(_)
            | Self::Menu
            | Self::Local
            | Self::Shell
            | Self::Faulty(_) => None,
        }
    }

    /// What it is, for people.
    #[must_use]
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Linux(_) => "a Linux kernel",
            Self::Script(_) => "an iPXE script",
            Self::Efi { .. } => "an EFI program",
            Self::Modules(_) => "a kernel with modules",
            Self::Iso(_) => "a CD image",
            Self::Disk(_) => "a disk image",
            Self::Menu => "a menu",
            Self::Local => "the local disk",
            Self::Shell => "iPXE's shell",
            Self::Faulty(_) => "nothing that boots",
        }
    }

    /// The shim that iPXE needs only where Secure Boot is on.
    #[must_use]
    pub fn shim(&self) -> Option<&str> {
        match self {
            Self::Linux(Linux { shim, .. }) => shim.as_deref(),
            _ => None,
        }
    }

    /// The template of what follows the kernel on its line, where there is one.
    #[must_use]
    pub fn cmdline(&self) -> Option<&str> {
        match self {
            Self::Linux(Linux { cmdline, .. }) | Self::Modules(Modules { cmdline, .. }) | Self::Efi { cmdline, .. } => {
                Some(cmdline)
            }
            _ => None,
        }
    }
}

/// A profile that cannot boot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileFault {
    /// The profile's name.
    pub profile: String,
    /// The variant that is at fault; `None`: what it boots where no variant fits.
    pub arch: Option<String>,
    /// What is wrong, and the fix.
    pub fault: String,
}

impl ProfileFault {
    /// Of a profile, or of one of its variants.
    #[must_use]
    pub fn of(profile: &str, arch: Option<&str>, fault: String) -> Self {
        Self { profile: profile.to_owned(), arch: arch.map(str::to_owned), fault }
    }
}

impl fmt::Display for ProfileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, arch, fault } = self;
        match arch {
            Some(arch) => write!(f, "profile {profile} cannot boot on {arch}: {fault}"),
            None => write!(f, "profile {profile} cannot boot: {fault}"),
        }
    }
}
