//! Why a request got no boot: one enum, which is the log's field, the metric's label and the sentence that people read.

use std::net::Ipv4Addr;

use super::loader::{ClientArch, Loader};

/// The reason of a refusal or of silence. Its `Display` is a sentence with the fix where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Shorter than a DHCP header, no magic cookie, an impossible hardware address…
    #[error("malformed DHCP packet: {0}")]
    MalformedDhcp(&'static str),
    /// Some other server's reply, or a relayed one.
    #[error("a reply, not a request")]
    NotARequest,
    /// An ordinary DHCP client: its own server answers it.
    #[error("not a PXE client (no option 60 that starts with PXEClient or HTTPClient)")]
    NotPxe,
    /// The client takes up another server's lease.
    #[error("addressed to the DHCP server {0}")]
    OtherServer(Ipv4Addr),
    /// Release, decline, and whatever else needs no answer from a proxy.
    #[error("DHCP message type {0} needs no answer from a proxy")]
    MessageType(u8),
    /// The architecture has no loader by default.
    #[error(
        "there is no network boot loader for {0}: put one below the assets folder, and set loader in [machines.override] to \
         its path"
    )]
    NoLoader(ClientArch),
    /// There is a loader for the architecture, but none was found on this host.
    #[error("no {} loader was found: {}", .0.title(), install_hint(*.0))]
    LoaderMissing(Loader),
    /// A rule's loader is GRUB, and none was found on this host.
    #[error("no GRUB for {} was found: {}", .0.title(), grub_hint(*.0))]
    GrubMissing(Loader),
    /// A machine's rule names a loader for other firmware.
    #[error("its rule names the loader {name}, which is for {}: this machine is {}", .of.title(), .wanted.title())]
    OtherLoader {
        /// The loader that the rule names.
        name: String,
        /// The firmware that runs it.
        of: Loader,
        /// The firmware that asks.
        wanted: Loader,
    },
    /// `dhcp.answer = "known"`, no rule names the machine, and nobody approved it.
    #[error(
        "no rule names this machine and it is not approved; only known machines are answered (dhcp.answer = \"known\"): add a [[machines]] rule, or run netbootd approve with its MAC address"
    )]
    Unknown,
    /// A Raspberry Pi takes its own firmware's files, and there is no folder for them.
    #[error(
        "a Raspberry Pi boots from its own files (bootcode.bin or start4.elf, config.txt…): put them into a folder and set assets to it"
    )]
    NoRaspberryPi,
    /// An ordinary DHCP client that did not boot from us.
    #[error(
        "no lease: it is no boot client and did not boot from netbootd within the last hour (lease.clients = \"boot\")"
    )]
    NotOurClient,
    /// Every address of the range is in use.
    #[error("no lease: every address of {0} is in use; set a larger lease.range, or a shorter lease.time")]
    LeasesFull(String),
    /// A request for an address that gets no answer, or a refusal.
    #[error("no lease: {0}")]
    NoLease(&'static str),
    /// More requests than one machine, or all of them, make.
    #[error("too many requests {0} within a second")]
    TooOften(&'static str),
    /// iPXE starts, and boots nothing, over and over.
    #[error("it started iPXE {0} times in the last minutes without booting: a script or boot file starts iPXE again")]
    IpxeLoop(usize),
    /// The loader is fetched over and over, and no iPXE that can use HTTP comes of it.
    #[error(
        "it fetched its loader {0} times in the last minutes, but no iPXE with HTTP has started: try another loader with [machines.override]"
    )]
    LoaderLoop(usize),
    /// TFTP packet that is no request.
    #[error("malformed TFTP request: {0}")]
    MalformedTftp(&'static str),
    /// WRQ: netbootd is read-only.
    #[error("writing is refused: netbootd only serves files")]
    Write,
    /// Netascii would rewrite line ends inside a binary; mail is obsolete (RFC 1350 §1).
    #[error("transfer mode {0} would damage a boot file: ask for octet (with tftp-hpa: -m binary)")]
    Mode(String),
    /// A mode that TFTP does not have (RFC 1350 §2).
    #[error("{0:?} is not a TFTP transfer mode: ask for octet (with tftp-hpa: -m binary)")]
    UnknownMode(String),
    /// No file of that name.
    #[error("there is no file {0}")]
    NotFound(String),
    /// No answer file of that name.
    #[error("there is no answer file {0}")]
    NoAnswer(String),
    /// No file of that name, which has bytes in it that no file name has.
    #[error(
        "there is no file {0}: the name ends in bytes that do not belong to it; on the DHCP server, end option 67 with a NUL byte, or name the file in the header's boot file field"
    )]
    Garbled(String),
    /// A name that leads out of the assets folder.
    #[error("{} leads out of the assets folder: {}", .0, escape_hint(.0))]
    Escape(String),
    /// The assets folder is not there: it may be on a mount that comes later.
    #[error("the assets folder {0} is not there")]
    NoFolder(String),
    /// A file without a byte in it.
    #[error("{0} is empty")]
    Empty(String),
    /// A file that a machine cannot start.
    #[error("{name} {fault}")]
    Unfit {
        /// Its name.
        name: String,
        /// Why, and the fix.
        fault: String,
    },
    /// A profile that cannot boot as it is configured, or without a file that it names.
    #[error("profile {profile:?} cannot boot: {fault}")]
    Faulty {
        /// The profile's name.
        profile: String,
        /// What is wrong, and the fix.
        fault: String,
    },
    /// A one-time profile, and nothing that says whether the machine has booted it already.
    #[error(
        "profile {profile:?} boots once, and it is not known whether it already did: {fault}; repair the state, or \
         choose the profile from the menu"
    )]
    NobodyKnows {
        /// The profile's name.
        profile: String,
        /// What is wrong with the state.
        fault: String,
    },
    /// A one-time profile that another appliance began to give the machine, and has not been heard from since.
    #[error(
        "profile {profile:?} boots once, and the appliance {by} gave the machine its script and is silent since, so it is not \
         known whether it already did: start {by} again, or look at the machine's disk and run netbootd once"
    )]
    BegunElsewhere {
        /// The profile's name.
        profile: String,
        /// The appliance.
        by: String,
    },
    /// A one-time profile, for a program whose downloads are counted for no machine.
    #[error(
        "profile {0:?} boots once, and downloads by HTTP of a program that does not say that it boots are not counted, so it \
         would boot at every start: let this machine boot by TFTP, or set once = \"installed\""
    )]
    NotCounted(String),
    /// A one-time profile of which nobody here sees that a machine boots it.
    #[error(
        "profile {0:?} boots once, and has files on another server, so netbootd does not see when a machine has them, and the \
         profile would boot at every start: copy the files into the assets folder, or let what it boots request \
         {{{{ report(\"installed\") }}}}"
    )]
    NotSeen(String),
    /// Its installer was handed over as often as `once_tries` allows.
    #[error(
        "it was handed over {count} times and never reported installed{}",
        .failed.as_ref().map(|words| format!("; its last report: failed: {words}")).unwrap_or_default()
    )]
    TriedOften {
        /// How often.
        count: u32,
        /// The words of the last report that it failed.
        failed: Option<String>,
    },
    /// A range that no number stands in: an iPXE that cannot print 64-bit numbers sends its format's letters.
    #[error(
        "it asks for the range {0:?}, which has no numbers: this build of iPXE cannot read a part of a file, \
         so another loader is needed ([machines.override] loader)"
    )]
    NoNumbers(String),
    /// A file that the operating system would not give us.
    #[error("{name} cannot be read: {error}")]
    Unreadable {
        /// The name asked for.
        name: String,
        /// The operating system's words.
        error: String,
    },
    /// Too many transfers at once, in total or for this client.
    #[error("too many transfers at once ({0}): try again")]
    Busy(&'static str),
    /// Each of the ports that transfers are sent from sends one.
    #[error("no free port in tftp.transfer_ports: try again")]
    NoFreePort,
    /// There is no profile of that name; what names it, with the fix.
    #[error("there is no profile {0:?}{1}")]
    NoProfile(String, &'static str),
    /// An EFI program, and a machine that has no EFI.
    #[error("profile {0:?} is an EFI program, and this machine is a BIOS")]
    EfiOnBios(String),
    /// A profile that a `pxelinux.cfg` file cannot carry.
    #[error("profile {profile:?} cannot be booted by U-Boot, petitboot or PXELINUX: {why}")]
    NotInPxelinux {
        /// Its name.
        profile: String,
        /// What is in the way, and the fix.
        why: String,
    },
    /// A profile that a GRUB script cannot carry.
    #[error("profile {profile:?} cannot be booted by GRUB: {why}")]
    NotInGrub {
        /// Its name.
        profile: String,
        /// What is in the way, and the fix.
        why: String,
    },
    /// A query of `/boot.ipxe` that makes no sense.
    #[error("the request's {0}")]
    BadQuery(String),
    /// A template that does not render for this machine.
    #[error("the profile's template fails: {0}")]
    Template(String),
    /// An answer file, for a client that may not have it.
    #[error("the answer file {name} was not sent: {denied}")]
    AnswerDenied {
        /// As much of its name as people need to see.
        name: String,
        /// Why not.
        denied: Denied,
    },
}

impl Reason {
    /// The state's fault where a one-time profile cannot be given, because it could be forgotten that it was.
    pub const NOT_KEPT: &str = "the state could not keep that it begins";

    /// [`Reason::NotFound`] with as much of the name as people need to see: names come from strangers.
    #[must_use]
    pub fn not_found(name: &str) -> Self {
        Self::NotFound(name.chars().take(200).collect())
    }

    /// [`Reason::NoAnswer`] with as much of the name.
    #[must_use]
    pub fn no_answer(name: &str) -> Self {
        Self::NoAnswer(name.chars().take(200).collect())
    }

    /// [`Reason::Garbled`] with as much of the name, its bytes escaped.
    #[must_use]
    pub fn garbled(name: &[u8]) -> Self {
        Self::Garbled(name.escape_ascii().to_string().chars().take(200).collect())
    }

    /// [`Reason::AnswerDenied`], with as much of the name.
    #[must_use]
    pub fn denied(name: &str, denied: Denied) -> Self {
        Self::AnswerDenied { name: name.chars().take(200).collect(), denied }
    }

    /// What to do about it, for people; where the sentence says so itself there is none.
    #[must_use]
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Self::MalformedTftp(what) if what.starts_with("RRQ") => Some(
                "if a DHCP server names the boot file, let it send a complete name that ends with a NUL byte; else look for \
                 newer firmware of this machine",
            ),
            Self::NoFreePort => {
                Some("set a wider range in tftp.transfer_ports, or replace it by tftp.single_port = true")
            }
            _ => None,
        }
    }

    /// A short fixed name for logs and metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::MalformedDhcp(_) => "malformed_dhcp",
            Self::NotARequest => "not_a_request",
            Self::NotPxe => "not_pxe",
            Self::OtherServer(_) => "other_server",
            Self::MessageType(_) => "message_type",
            Self::NoLoader(_) => "no_loader",
            Self::LoaderMissing(_) => "loader_missing",
            Self::GrubMissing(_) => "grub_missing",
            Self::NotInGrub { .. } => "not_in_grub",
            Self::OtherLoader { .. } => "other_loader",
            Self::Unknown => "unknown_machine",
            Self::NoRaspberryPi => "no_raspberry_pi",
            Self::NotOurClient => "not_our_client",
            Self::LeasesFull(_) => "leases_full",
            Self::NoLease(_) => "no_lease",
            Self::TooOften(_) => "too_often",
            Self::IpxeLoop(_) => "ipxe_loop",
            Self::LoaderLoop(_) => "loader_loop",
            Self::MalformedTftp(_) => "malformed_tftp",
            Self::Write => "write",
            Self::Mode(_) | Self::UnknownMode(_) => "mode",
            Self::NotFound(_) => "not_found",
            Self::NoAnswer(_) => "no_answer",
            Self::Garbled(_) => "garbled_name",
            Self::Escape(_) => "escape",
            Self::NoFolder(_) => "no_assets_folder",
            Self::Empty(_) => "empty",
            Self::Unfit { .. } => "unfit",
            Self::Faulty { .. } => "faulty_profile",
            Self::TriedOften { .. } => "tried_often",
            Self::NobodyKnows { .. } => "state_not_known",
            Self::BegunElsewhere { .. } => "begun_elsewhere",
            Self::NotCounted(_) => "not_counted",
            Self::NotSeen(_) => "not_seen",
            Self::NoNumbers(_) => "range_without_numbers",
            Self::Unreadable { .. } => "unreadable",
            Self::Busy(_) => "busy",
            Self::NoFreePort => "no_free_port",
            Self::NoProfile(..) => "no_profile",
            Self::EfiOnBios(_) => "efi_on_bios",
            Self::NotInPxelinux { .. } => "not_in_pxelinux",
            Self::BadQuery(_) => "bad_query",
            Self::Template(_) => "template",
            Self::AnswerDenied { .. } => "answer_denied",
        }
    }
}

/// Where the loaders of an architecture come from.
#[must_use]
pub fn install_hint(loader: Loader) -> &'static str {
    match loader {
        Loader::Bios | Loader::EfiX86_64 => {
            "install the package ipxe (Debian, Ubuntu) or ipxe-bootimgs-x86 (Fedora, RHEL)"
        }
        Loader::EfiI386 => {
            "install the package ipxe-bootimgs-x86 (Fedora, RHEL), or name a folder that holds \
             ipxe-i386.efi in loader_dirs or with --loader-dir"
        }
        Loader::EfiArm64 => {
            "install the package ipxe (Debian 13) or ipxe-bootimgs-aarch64 (Fedora, RHEL), or name a folder that holds \
             snponly-arm64.efi in loader_dirs or with --loader-dir"
        }
        Loader::EfiArm32 | Loader::EfiRiscv32 | Loader::EfiRiscv64 | Loader::EfiLoong64 => {
            "build iPXE for it, and name the folder in loader_dirs or with --loader-dir"
        }
    }
}

/// How a name stays in the assets folder.
fn escape_hint(name: &str) -> &'static str {
    if name.split(['/', '\\']).any(|part| part == "..") {
        "name a file within the folder by a path without \"..\", or copy the file there"
    } else {
        "mount its target within the folder (mount --bind), or copy it there; a link that stays inside is made with ln -sr"
    }
}

/// Where GRUB for a network boot comes from.
fn grub_hint(loader: Loader) -> &'static str {
    match loader {
        Loader::EfiX86_64 => {
            "install the packages shim-signed and grub-efi-amd64-signed (Debian 13, Ubuntu), or put grubnetx64.efi into a \
             folder of loader_dirs"
        }
        Loader::EfiArm64 => {
            "install the packages shim-signed and grub-efi-arm64-signed on an arm64 host, or put shimaa64.efi and \
             grubaa64.efi into a folder of loader_dirs"
        }
        _ => "put it below the assets folder, and set loader in [machines.override] to its path",
    }
}

/// Why an answer is not given. It says nothing about machines: anyone may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No signature, or none of ours for this name.
    #[error("it needs the signed address in the machine's own boot script (a template's answer() or answers())")]
    NotSigned,
    /// It was good once.
    #[error("its signed address has expired: boot the machine from the network again to get a new one")]
    Expired,
}
