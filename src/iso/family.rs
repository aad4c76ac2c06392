//! What the table of [`super::families`] says of a family of images.

/// A family of images.
#[derive(Debug)]
pub struct Family {
    /// The identifier, for programs.
    pub id: &'static str,
    /// The name, for users.
    pub title: &'static str,
    /// All of them are true.
    pub tests: &'static [Test],
    /// Files that the command line or the memory needs: a name, and patterns, the best first.
    pub finds: &'static [(&'static str, &'static [&'static str])],
    /// Patterns of the kernel, the best first.
    pub kernel: &'static [&'static str],
    /// The initial RAM disks, in order.
    pub initrd: &'static [Initrd],
    /// How it boots.
    pub way: Way,
    /// The memory that a machine needs.
    pub memory: Memory,
    /// Notes for users.
    pub notes: &'static [&'static str],
}

/// A property of an image.
#[derive(Debug)]
pub enum Test {
    /// One of these patterns matches a file.
    Has(&'static [&'static str]),
    /// This pattern matches more than one file.
    Several(&'static str),
    /// None of these patterns matches a file.
    Lacks(&'static [&'static str]),
    /// The volume's name matches one of these patterns.
    Label(&'static [&'static str]),
    /// `.disk/info` contains one of these words.
    Info(&'static [&'static str]),
    /// `.disk/info` has a number behind these words, a release.
    Release(&'static str),
    /// The system identifier of the volume starts with this.
    System(&'static str),
    /// A file that matches the pattern contains one of these words.
    Says(&'static str, &'static [&'static str]),
    /// No entry of the image's own menus has one of these words among its arguments.
    MenuLacks(&'static [&'static str]),
    /// The release of casper is known and at least this: 1472 is 1.472.
    CasperFrom(u32),
    /// It is known and lower than this.
    CasperBefore(u32),
}

/// One initial RAM disk, or a part of it.
#[derive(Debug)]
pub enum Initrd {
    /// A file of the image, by patterns, the best first.
    One(&'static [&'static str]),
    /// All files that match a pattern; there may be none.
    Any(&'static str),
    /// The whole image with this name, added to the initial RAM disk.
    Image(&'static str),
    /// A file of `finds` with this name, added to the initial RAM disk.
    Found(&'static str, &'static str),
}

/// How a family boots.
#[derive(Debug)]
pub enum Way {
    /// A kernel with this command line.
    Linux(&'static str),
    /// The kernel and initial RAM disk of a package on this host, with this command line. The image is only the mirror.
    /// Placeholders in the paths: `{major}`, the first number of the version, and `{arch}`.
    Netboot {
        /// The package.
        package: &'static str,
        /// Its kernel.
        kernel: &'static str,
        /// Its initial RAM disk.
        initrd: &'static str,
        /// The command line.
        cmdline: &'static str,
    },
    /// Xen: the hypervisor is the kernel, and these are its modules with their command lines.
    Xen {
        /// The command line of the hypervisor.
        cmdline: &'static str,
        /// Pattern and command line.
        modules: &'static [(&'static str, &'static str)],
    },
    /// wimboot, which the user has to supply, with these files under these names.
    Wimboot(&'static [(&'static str, &'static str)]),
    /// ESXi's loader with a changed boot.cfg.
    Esxi,
    /// A virtual drive of iPXE. The started system can no longer use it.
    San,
    /// It cannot boot: the reason, and what works instead.
    No {
        /// The reason.
        why: &'static str,
        /// What works instead.
        instead: &'static str,
    },
}

/// The memory in MiB that a machine needs: a base, plus a multiple of the size of the image or of a file of `finds`.
#[derive(Debug)]
pub struct Memory {
    /// MiB.
    pub base: u64,
    /// The factor, and the name; `""` is the whole image.
    pub of: Option<(u64, &'static str)>,
    /// The reason, for users.
    pub why: &'static str,
}

impl Memory {
    /// As much for every image.
    pub(super) const fn mib(base: u64, why: &'static str) -> Self {
        Self { base, of: None, why }
    }

    /// A base, and a multiple of the size of the image or of a file.
    pub(super) const fn with(base: u64, times: u64, what: &'static str, why: &'static str) -> Self {
        Self { base, of: Some((times, what)), why }
    }
}

impl Family {
    /// The values that most rows do not set.
    pub(super) const NONE: Self = Self {
        id: "",
        title: "",
        tests: &[],
        finds: &[],
        kernel: &[],
        initrd: &[],
        way: Way::San,
        memory: Memory::mib(0, ""),
        notes: &[],
    };
}

/// The network card that iPXE booted from, in the format of pxelinux.
macro_rules! bootif {
    ($before:literal) => {
        concat!($before, " BOOTIF=01-${netX/mac:hexhyp}")
    };
}
pub(super) use bootif;

/// How families name an answer file on their command lines. `{file}` is the address of a file, `{folder}` that of a folder,
/// which ends in a slash.
#[derive(Debug)]
pub struct Answers {
    /// Their ids.
    pub families: &'static [&'static str],
    /// The arguments.
    pub argument: &'static str,
}
