//! What an image is, and how a machine boots it.

use serde::Serialize;

/// The kind of an image, and how it boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recognised {
    /// The family, for programs. `menu`: an unknown family, but with its own boot menu. `unknown`: all others.
    pub family: &'static str,
    /// The name, for users.
    pub title: String,
    /// The family's title.
    pub kind: &'static str,
    /// Its version, if it is known.
    pub version: Option<String>,
    /// How it boots.
    pub how: How,
    /// What is booted, for each processor (iPXE's names).
    pub variants: Vec<Variant>,
    /// The memory that a machine needs.
    pub memory: Option<Need>,
    /// Notes for users.
    pub notes: Vec<String>,
}

/// How an image boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "way", rename_all = "kebab-case")]
pub enum How {
    /// A Linux kernel, or a file that is loaded like one.
    Linux,
    /// Xen with modules.
    Xen,
    /// wimboot.
    Wimboot,
    /// ESXi's own loader.
    Esxi,
    /// A virtual drive of iPXE.
    San,
    /// It cannot boot.
    Refused {
        /// The reason.
        why: String,
        /// What works instead.
        instead: String,
    },
}

/// The files for one kind of processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variant {
    /// iPXE's `${buildarch}`, if it is known.
    pub arch: Option<&'static str>,
    /// The kernel, or the file that replaces it.
    pub kernel: Place,
    /// The initial RAM disks, in order.
    pub initrds: Vec<Part>,
    /// More files for a hypervisor or for wimboot: the file, and its arguments or name.
    pub modules: Vec<(String, String)>,
    /// The kernel's command line; Xen's is its own, and that of its Linux is with the first of the modules. The placeholders `{I}`, `{W}`, `{host}` and `{path}` are filled by
    /// [`Variant::cmdline_at`].
    pub cmdline: String,
}

/// The place of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// In the image.
    Image(String),
    /// In the image, packed by gzip; it is served unpacked.
    Unpacked(String),
    /// On this host, in a package.
    Host {
        /// The file.
        path: String,
        /// The package.
        package: String,
    },
    /// The user has to supply it.
    Supplied(&'static str),
}

/// A part of an initial RAM disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// A file.
    File(Place),
    /// A file of the image that is added under a name; no path: the whole image.
    Put {
        /// The file's path in the image.
        path: Option<String>,
        /// Its name in the root of the initial RAM disk.
        name: &'static str,
    },
}

/// The memory that a machine needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Need {
    /// MiB.
    pub mib: u64,
    /// The reason.
    pub why: &'static str,
}

impl Variant {
    /// The command line of the kernel that is the system: of the first module, where a hypervisor starts that.
    #[must_use]
    pub fn own_cmdline(&self, is_hypervisor: bool) -> &str {
        let module = self.modules.first().filter(|_| is_hypervisor).map(|(_, arguments)| arguments);
        module.unwrap_or(&self.cmdline)
    }

    /// The command line for an image at these URLs: `tree` is its folder, without a slash at the end, and `whole` is
    /// the image file.
    #[must_use]
    pub fn cmdline_at(&self, tree: &str, whole: &str) -> String {
        let behind = tree.split_once("://").map_or(tree, |(_, behind)| behind);
        let (host, path) = behind.split_once('/').unwrap_or((behind, ""));
        let path = format!("/{path}");
        let values = [("{I}", tree), ("{W}", whole), ("{host}", host), ("{path}", &path)];
        values.iter().fold(self.cmdline.clone(), |line, (name, value)| line.replace(name, value))
    }
}

/// The family of an image without a known one, and without a menu that can be read.
pub const UNKNOWN: &str = "unknown";
/// The folder of an image for files that are made for it. No image has one of this name.
pub const MADE: &str = ".netbootd";
/// The folder in it for a variant whose processor is not known.
pub const ANY: &str = "any";
/// ESXi's configuration, as its loader is given it.
pub const BOOT_CFG: &str = "boot.cfg";
