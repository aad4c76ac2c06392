//! What a boot was last seen at, and what did not follow → how it stands, and the probable cause of a stop with its
//! fix.

use std::{borrow::Cow, time::Duration};

use super::{
    boot::{Ending, Going, Timeline},
    event::AddressOffer,
    moment::Moment,
    stage::Stage,
};
use crate::boot::{
    chain::is_shim_name,
    loader::{ClientArch, Loader},
};

/// How a boot stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It makes progress, or the next step may still come.
    Booting,
    /// A download takes nothing for now, and its machine lives.
    SlowButAlive,
    /// It shows the menu.
    Menu,
    /// It shows iPXE's shell.
    Shell,
    /// It was sent on to its own disk.
    Local,
    /// It has everything that its script names; what became of it is not known.
    HandedOver,
    /// What it booted said that it is done.
    Reported,
    /// It has stopped.
    Stopped(Stop),
}

impl State {
    /// A short fixed name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::SlowButAlive => "slow_but_alive",
            Self::Menu => "menu",
            Self::Shell => "shell",
            Self::Local => "local",
            Self::HandedOver => "handed_over",
            Self::Reported => "reported",
            Self::Stopped(_) => "stopped",
        }
    }
}

/// Where a boot stopped, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The last stage that it reached.
    pub stage: Stage,
    /// When it was last heard.
    pub since: Moment,
    /// Probably.
    pub cause: Cause,
}

/// Why a boot stopped, as far as it can be seen from here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// netbootd refused it.
    Refused {
        /// [`super::why::Why::label`].
        label: Cow<'static, str>,
        /// In words, with the fix.
        text: String,
    },
    /// Another server sent it something else; the words are [`super::rival::Rival`]'s, with the fix.
    Rival(String),
    /// It was kept from the network for so many seconds before its first packet came.
    HeldBack(u16),
    /// It has no address, and no offer of one was seen.
    NotLeased,
    /// It was offered an address, and did not take it.
    AddressNotTaken(AddressOffer),
    /// It took an address, and no offer to boot.
    OfferIgnored,
    /// It took an address, and did not fetch its loader by HTTP.
    HttpBootIgnored,
    /// It asked for this boot file by TFTP, which is not here.
    NotHere(String),
    /// It asked port 4011, and fetched nothing.
    LoaderNotFetched,
    /// The loader's transfer ended before its end.
    LoaderStopped(String),
    /// It has its loader, and no iPXE was heard.
    LoaderNotStarted(String),
    /// It has a loader for other firmware, which it cannot start.
    OtherFirmware {
        /// The loader.
        name: String,
        /// The firmware that runs it.
        of: Loader,
        /// The firmware of the machine.
        wanted: Loader,
    },
    /// It has its unsigned EFI loader, and nothing was heard behind it.
    UnsignedNotStarted(String),
    /// It has its shim, which asked for nothing.
    ShimNotStarted(String),
    /// It has its shim and the second stage, and no iPXE or GRUB was heard.
    SecondStageNotStarted(String),
    /// It had this kernel whole, and came back for its script, with Secure Boot on.
    KernelRefused(String),
    /// GRUB has its configuration, and did not fetch its script by HTTP.
    GrubScriptNotFetched,
    /// iPXE knows where its script is, and did not fetch it.
    ScriptNotFetched,
    /// It did not ask for these.
    NotFetched(Vec<String>),
    /// It ended a download itself.
    ClosedByMachine(String),
    /// It said that it has no memory for this file.
    NoMemory(String),
    /// It acknowledged no more of a TFTP transfer of another file than its loader, or nothing at all.
    FileStopped {
        /// The file.
        name: String,
        /// In words.
        what: String,
    },
    /// It is gone: power or link.
    Dead(String),
    /// A download was ended by this server.
    OurFault(String),
    /// What it booted did not report in so many seconds.
    NeverReported(u64),
    /// What it booted reported that it failed.
    ReportedFailure(String),
    /// Its address is in another network than the one that it was heard on; in words.
    OtherNetwork(String),
    /// Its script fetches itself again and again.
    ScriptLoops,
    /// It boots the profile again that it has reported as installed.
    InstallsAgain(String),
    /// A file changed while it was sent.
    FileChanged(String),
}

impl Cause {
    /// A short fixed name, for programs.
    #[must_use]
    pub fn label(&self) -> Cow<'static, str> {
        let label = match self {
            Self::Refused { label, .. } => return label.clone(),
            Self::Rival(_) => "rival",
            Self::HeldBack(_) => "held_back",
            Self::NotLeased => "not_leased",
            Self::AddressNotTaken(_) => "address_not_taken",
            Self::OfferIgnored => "offer_ignored",
            Self::HttpBootIgnored => "http_boot_ignored",
            Self::NotHere(_) => "not_here",
            Self::LoaderNotFetched => "loader_not_fetched",
            Self::LoaderStopped(_) => "loader_stopped",
            Self::LoaderNotStarted(_) => "loader_not_started",
            Self::OtherFirmware { .. } => "other_firmware",
            Self::UnsignedNotStarted(_) => "unsigned_not_started",
            Self::ShimNotStarted(_) => "shim_not_started",
            Self::SecondStageNotStarted(_) => "second_stage_not_started",
            Self::KernelRefused(_) => "kernel_refused",
            Self::GrubScriptNotFetched => "grub_script_not_fetched",
            Self::ScriptNotFetched => "script_not_fetched",
            Self::NotFetched(_) => "not_fetched",
            Self::ClosedByMachine(_) => "closed_by_machine",
            Self::NoMemory(_) => "no_memory",
            Self::FileStopped { .. } => "file_stopped",
            Self::Dead(_) => "dead",
            Self::OurFault(_) => "server",
            Self::NeverReported(_) => "never_reported",
            Self::ReportedFailure(_) => "reported_failure",
            Self::OtherNetwork(_) => "other_network",
            Self::ScriptLoops => "script_loops",
            Self::InstallsAgain(_) => "installs_again",
            Self::FileChanged(_) => "file_changed",
        };
        Cow::Borrowed(label)
    }

    /// What happened, in a sentence.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Refused { text, .. } | Self::Rival(text) => text.clone(),
            Self::HeldBack(secs) => {
                format!("it had sent requests for {secs} s before the first one arrived here, and it took no address")
            }
            Self::NotLeased => "it keeps asking and takes no address from any DHCP server".into(),
            Self::AddressNotTaken(AddressOffer { address, server }) => {
                format!("it does not take the address {address} that {server} offers")
            }
            Self::OfferIgnored => "it took an address but did not fetch the boot file that it was offered".into(),
            Self::HttpBootIgnored => "it took an address but did not fetch its loader by HTTP".into(),
            Self::NotHere(name) => format!("it asked for {name} by TFTP, which is not here"),
            Self::LoaderNotFetched => "it got the name of its loader on port 4011 but sent no TFTP request".into(),
            Self::LoaderStopped(what) => format!("the download of its loader stopped early: {what}"),
            Self::LoaderNotStarted(name) => format!("it fetched {name} completely, but no iPXE has started since"),
            Self::OtherFirmware { name, of, wanted } => {
                format!("it fetched {name}, which is for {}, but this machine is {}", of.title(), wanted.title())
            }
            Self::UnsignedNotStarted(name) => {
                format!("it fetched {name} completely, which is not signed, but no iPXE has started since")
            }
            Self::ShimNotStarted(name) => {
                format!("it fetched the shim {name} completely, but the shim has not started")
            }
            Self::SecondStageNotStarted(name) => {
                format!("its shim fetched {name} completely, but no iPXE or GRUB has started since")
            }
            Self::KernelRefused(name) => {
                format!("it fetched the kernel {name} and did not start it; its Secure Boot is on")
            }
            Self::GrubScriptNotFetched => "GRUB started but did not fetch its script by HTTP".into(),
            Self::ScriptNotFetched => "iPXE got the address of its script but did not fetch it".into(),
            Self::NotFetched(files) => format!("it fetched its script but did not ask for {}", files.join(", ")),
            Self::NoMemory(name) => format!("it has too little memory for {name} (its TFTP error 3)"),
            Self::FileStopped { name, what } => format!("the download of {name} stopped early: {what}"),
            Self::ClosedByMachine(name) => format!("it closed the connection before it had all of {name}"),
            Self::Dead(what) => what.clone(),
            Self::OurFault(what) => format!("this server could not send the file: {what}"),
            Self::NeverReported(within) => {
                format!("after the hand-over, no report came within {}", rough(*within))
            }
            Self::ReportedFailure(text) if text.is_empty() => "the booted system reported a failure".into(),
            Self::ReportedFailure(text) => format!("the booted system reported a failure: {text}"),
            Self::OtherNetwork(text) => text.clone(),
            Self::ScriptLoops => "its script fetches itself again and again, and no other file".into(),
            Self::InstallsAgain(profile) => {
                format!("it boots profile {profile} again, which it has reported as installed")
            }
            Self::FileChanged(name) => format!("{name} changed while it was sent"),
        }
    }

    /// What to do about it, in a sentence; none where the text says it.
    #[must_use]
    pub fn fix(&self) -> Option<&'static str> {
        Some(match self {
            Self::Refused { label, .. } if label == "not_found" => {
                "put the file into the assets folder, or correct the profile that names it"
            }
            Self::Refused { label, .. } if label == "no_answer" => {
                "put the file into the templates folder, or correct the profile or template that names it"
            }
            Self::Refused { .. } | Self::Rival(_) => return None,
            Self::HeldBack(_) => {
                "set its switch port to portfast (edge port): spanning tree blocks a port for 30 s, longer than firmware waits"
            }
            Self::NotLeased => {
                "check that a DHCP server leases addresses on this network, has free ones, and serves this machine"
            }
            Self::AddressNotTaken(_) => {
                "check its cable, its VLAN and its switch port, since the offers may not reach it; if another host leases there, name this host in its DHCP server (netbootd dhcp-snippet prints the lines), since some firmware reads only the leasing server's offer"
            }
            Self::OfferIgnored => {
                "some firmware reads only the leasing server's offer, and some switches drop all other offers (DHCP snooping, DHCP guarding): name this host in the leasing server, next-server (siaddr) first and then the file, since options 66 and 67 alone are not enough for all; netbootd dhcp-snippet prints the lines for dnsmasq, ISC dhcpd, Kea, Windows, OpenWrt, pfSense, UniFi and MikroTik (PAN-OS: option 150); or let the switch trust the port of this host; its screen may show a PXE-E number"
            }
            Self::HttpBootIgnored => {
                "its firmware may allow https only: allow HTTP in its setup, or boot it by PXE; else allow the HTTP port to this host in every firewall on the way"
            }
            Self::NotHere(_) => {
                "if the DHCP server names this boot file, let it name netboot: by TFTP, each machine gets the loader for its firmware under this name (netbootd dhcp-snippet prints the lines); else put the file into the assets folder"
            }
            Self::LoaderNotFetched => "allow UDP port 69 to this host in every firewall on the way",
            Self::NoMemory(_) => {
                "boot a smaller file (for a loader, set another one in [machines.override]), or give the machine more memory"
            }
            Self::LoaderStopped(_) | Self::FileStopped { .. } => {
                "check its cable; behind NAT or a firewall set tftp.single_port = true; on a path with a smaller MTU lower tftp.max_block_size"
            }
            Self::LoaderNotStarted(_) => {
                "if its screen hangs in iPXE, set another loader in [machines.override]; a UEFI machine may have Secure Boot on, which refuses unsigned loaders: switch it off"
            }
            Self::OtherFirmware { .. } => {
                "let the DHCP server name the file netboot: by TFTP, each machine gets the loader for its firmware under this name (netbootd dhcp-snippet prints the lines)"
            }
            Self::UnsignedNotStarted(_) => {
                "if Secure Boot is on, firmware refuses unsigned loaders: put iPXE's signed set (snponly-shimx64.efi and snponly.efi of the folder x86_64-sb in ipxeboot.tar.gz, github.com/ipxe/ipxe/releases) into a folder of loader_dirs, or install shim-signed and grub-efi-amd64-signed and set loader = \"grub\" in [machines.override], or switch Secure Boot off; if its screen hangs in iPXE, set another loader in [machines.override]"
            }
            Self::ShimNotStarted(_) => {
                "its firmware may not trust Microsoft's third-party CA, which signs shims: allow the \"Microsoft 3rd Party UEFI CA\" in its setup, next to Secure Boot; else add the shim's key to its db"
            }
            Self::SecondStageNotStarted(_) => {
                "it is probably not signed for this shim, or revoked: take both files from one release (netbootd loaders shows who signed them), or enrol the key of the second stage (mokutil --import); its screen shows the shim's message"
            }
            Self::KernelRefused(_) => {
                "if the kernel is signed by its distribution, set shim in its profile to that distribution's shim (shim = \"debian/shimx64.efi\"); with GRUB, use the shim and GRUB of the same distribution; if it is not signed or was changed, replace it or sign it (netbootd check shows which kernels are signed)"
            }
            Self::GrubScriptNotFetched => {
                "allow the HTTP port to this host in every firewall on the way; GRUB needs its http module, which GRUB 2.06 of Debian 12 does not have: take GRUB of Debian 13 or Ubuntu"
            }
            Self::ScriptNotFetched => {
                "allow the HTTP port to this host in every firewall on the way; its screen shows iPXE's error"
            }
            Self::NotFetched(_) => "its screen shows why: a kernel for another processor, or a script that ended early",
            Self::ClosedByMachine(_) => {
                "check its screen: too little memory for the file, a key that was pressed, or a reset"
            }
            Self::Dead(_) => "check its power and its cable; it boots from the beginning when it is back",
            Self::OurFault(_) => "check this server's log, and the file",
            Self::NeverReported(_) => "check its screen, or its syslog lines",
            Self::ReportedFailure(_) => "check its screen and its own log",
            Self::OtherNetwork(_) => {
                "check the VLAN of its switch port, and which DHCP server answers there; netbootd doctor shows every server"
            }
            Self::ScriptLoops => {
                "end the script with boot, exit or shell; chain only to other addresses than /boot.ipxe"
            }
            Self::InstallsAgain(_) => {
                "set once = \"installed\" in its rule, or netbootd assign MACHINE local; boot it from its disk now"
            }
            Self::FileChanged(_) => "write a new version beside the old one, then rename it; start the machine again",
        })
    }

    /// Whether a line was shown of it when it happened.
    pub(super) fn was_told(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::ReportedFailure(_))
    }
}

impl Timeline {
    /// How it stands.
    #[must_use]
    pub fn state(&self, now: Moment) -> State {
        let quiet = now.since(self.last);
        if let Some(cause) = self.goes_round(now) {
            return self.stopped(cause);
        }
        match &self.ending {
            Some(Ending::Menu) => State::Menu,
            Some(Ending::Shell) => State::Shell,
            Some(Ending::Local) => State::Local,
            Some(Ending::Reported { ok: true, .. }) => State::Reported,
            Some(Ending::Reported { ok: false, text }) => self.stopped(Cause::ReportedFailure(text.clone())),
            Some(Ending::HandedOver { at, .. }) => {
                let within = self.chosen.as_ref().and_then(|chosen| chosen.report_within);
                match within.filter(|within| now.since(*at) > Duration::from_secs(*within)) {
                    Some(within) => self.stopped(Cause::NeverReported(within)),
                    None => State::HandedOver,
                }
            }
            // Loaders and firmware look for files that need not be there, and go on.
            Some(Ending::Refused { label, .. })
                if label == "not_found" && (quiet < LOOKING || self.has_own_files()) =>
            {
                State::Booting
            }
            Some(Ending::Refused { label, text }) => {
                self.stopped(Cause::Refused { label: label.clone(), text: text.clone() })
            }
            None => match &self.kernel_refused {
                Some(kernel) => self.stopped(Cause::KernelRefused(kernel.clone())),
                None => self.under_way(quiet),
            },
        }
    }

    /// What goes on, and leads nowhere.
    fn goes_round(&self, now: Moment) -> Option<Cause> {
        let is_over =
            matches!(self.ending, Some(Ending::Reported { .. } | Ending::Local | Ending::Menu | Ending::Shell));
        let again = || {
            let chosen = self.chosen.as_ref().filter(|chosen| !chosen.once)?;
            self.installed.clone().filter(|installed| *installed == chosen.profile)
        };
        match is_over {
            true => None,
            false if self.scripts >= LOOPS && now.since(self.last) < STILL_LOOPS => Some(Cause::ScriptLoops),
            false => again().map(Cause::InstallsAgain),
        }
    }

    fn under_way(&self, quiet: Duration) -> State {
        let is_paused = |going: &Going| matches!(going, Going::Paused { .. });
        if self.downloads.iter().any(|download| is_paused(&download.pace)) {
            return State::SlowButAlive;
        }
        if self.downloads.iter().any(|download| download.pace == Going::Progressing) {
            return State::Booting;
        }
        let newest = self.downloads.iter().max_by_key(|download| download.began);
        if let Some(download) = newest
            && let Going::Stopped { label, text } = &download.pace
        {
            let cause = match label.as_ref() {
                "dead" => Cause::Dead(text.clone()),
                "server" => Cause::OurFault(text.clone()),
                "changed" => Cause::FileChanged(download.name.clone()),
                "no_memory" => Cause::NoMemory(download.name.clone()),
                _ if download.stage == Stage::Loader => Cause::LoaderStopped(text.clone()),
                "silent" => Cause::FileStopped { name: download.name.clone(), what: text.clone() },
                _ => Cause::ClosedByMachine(download.name.clone()),
            };
            return self.stopped(cause);
        }
        match self.missing(quiet) {
            Some(cause) => self.stopped(cause),
            None => State::Booting,
        }
    }

    /// ★ The table: what was last seen → what should have followed by now.
    fn missing(&self, quiet: Duration) -> Option<Cause> {
        let asks_in_vain = self.discovers >= ASKED_OFTEN || quiet > NEXT_OFFER;
        let patience = if self.stage() <= Stage::BootServer && !self.has_ipxe { Duration::ZERO } else { NEXT_STAGE };
        if quiet < patience {
            return None;
        }
        match self.stage() {
            Stage::Discover | Stage::Offer if self.has_ipxe => Some(Cause::ScriptNotFetched),
            // It asked here, so no other server is in the way. A U-Boot asks for its next file within a second.
            Stage::Discover | Stage::Offer | Stage::BootServer
                if let Some(name) = &self.not_here
                    && (quiet >= LOOKING || asks_in_vain) =>
            {
                Some(Cause::NotHere(name.clone()))
            }
            Stage::Discover | Stage::Offer if !asks_in_vain => None,
            Stage::Discover | Stage::Offer => Some(match (&self.rival, self.address) {
                (Some(rival), _) => Cause::Rival(rival.clone()),
                (None, Some(_)) if self.other_network.is_some() => self.out_of_reach(),
                (None, Some(_)) if self.is_http_boot => Cause::HttpBootIgnored,
                (None, Some(_)) => Cause::OfferIgnored,
                (None, None) if self.secs >= HELD_BACK => Cause::HeldBack(self.secs),
                (None, None) => self.offered.map_or(Cause::NotLeased, Cause::AddressNotTaken),
            }),
            Stage::BootServer if quiet > NEXT_OFFER => {
                Some(self.rival.clone().map_or_else(|| self.out_of_reach(), Cause::Rival))
            }
            Stage::BootServer => None,
            Stage::Loader if self.has_ipxe => Some(Cause::ScriptNotFetched),
            Stage::Loader => self.loader_not_started(),
            _ => {
                let lacks = self.lacks();
                // A script that asks who it is, and nothing behind it.
                let is_first = self.chosen.is_none();
                let refused = self.kernel_that_did_not_start().filter(|_| self.has_grub && !lacks.is_empty());
                match lacks.is_empty() {
                    // GRUB asks a shim for its verdict before it fetches anything else.
                    _ if let Some(kernel) = refused => Some(Cause::KernelRefused(kernel)),
                    true if self.has_grub => is_first.then_some(Cause::GrubScriptNotFetched),
                    true => is_first.then_some(Cause::ScriptNotFetched),
                    false => Some(Cause::NotFetched(lacks.into_iter().map(str::to_owned).collect())),
                }
            }
        }
    }

    /// It does not fetch its loader.
    fn out_of_reach(&self) -> Cause {
        self.other_network.clone().map_or(Cause::LoaderNotFetched, Cause::OtherNetwork)
    }

    /// By the loaders that it has, which of them did not start.
    fn loader_not_started(&self) -> Option<Cause> {
        let mut loaders = self.downloads.iter().filter(|download| download.stage == Stage::Loader).rev();
        let last = loaders.next()?.name.clone();
        let is_efi = last.to_ascii_lowercase().ends_with(".efi") || last.ends_with(".signed");
        let is_behind_shim = loaders.any(|before| is_shim_name(&before.name) && before.name != last);
        Some(match self.other_firmware(&last) {
            Some(other) => other,
            None if is_shim_name(&last) && !self.has_shim => Cause::ShimNotStarted(last),
            None if is_behind_shim => Cause::SecondStageNotStarted(last),
            None if is_efi && !is_shim_name(&last) => Cause::UnsignedNotStarted(last),
            None => Cause::LoaderNotStarted(last),
        })
    }

    /// A DHCP server that names one boot file for all machines names the wrong one for some of them.
    fn other_firmware(&self, loader: &str) -> Option<Cause> {
        let of = Loader::of_name(loader)?;
        let wanted = ClientArch::titled(self.client.as_deref()?)?.loader()?;
        (of != wanted).then(|| Cause::OtherFirmware { name: loader.to_owned(), of, wanted })
    }

    /// The furthest stage that it reached. A script that was refused is one that it asked for.
    #[must_use]
    pub fn stage(&self) -> Stage {
        let stages = self.steps.iter().map(|step| step.stage).filter(|stage| *stage < Stage::Refused);
        let asked = (self.scripts > 0).then_some(Stage::Script);
        stages.chain(asked).max().unwrap_or(Stage::Discover)
    }

    fn stopped(&self, cause: Cause) -> State {
        State::Stopped(Stop { stage: self.stage(), since: self.last, cause })
    }
}

/// A length of time in words, from seconds.
#[must_use]
pub fn rough(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A person at the menu fetches some scripts one after the other too.
const LOOPS: u32 = 8;
/// A machine that was switched off since then loops no more.
const STILL_LOOPS: Duration = Duration::from_secs(600);
/// For a loader that looks for files that need not be there.
const LOOKING: Duration = Duration::from_secs(5);
/// Firmware waits for offers for 4, 8, 16 and 32 s (PXE 2.1 §2.2.1) and asks again after each; a client that asks a sixth time
/// took none of five different ones.
const ASKED_OFTEN: u32 = 6;
/// Between two of its DISCOVERs, or to the fetch of what it was offered.
const NEXT_OFFER: Duration = Duration::from_secs(40);
/// From one stage to the next: iPXE needs 16 s for its IPv6 routers alone, and some cards as long to come up.
const NEXT_STAGE: Duration = Duration::from_secs(60);
/// In seconds. An iPXE counts from its first DISCOVER; a port under spanning tree opens after 30 s.
const HELD_BACK: u16 = 8;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{
        boot::{
            mac::MacAddr,
            machine::By,
            outcome::{Outcome, Way},
            over::{Of, Over},
            own::Own,
            reason::Reason,
        },
        offers::rival::{Fault, Rival},
        timeline::{
            event::{Discover, Report, ReportEvent, What},
            peer::Silence,
            transfer::{At, Failure, Pace, Pause, Progress, Transfer},
        },
    };

    const NOW: Moment = Moment::from_secs(1_000_000);

    fn discover(client: &str) -> What {
        What::Discover(Discover {
            client: client.into(),
            is_ipxe: client.starts_with("iPXE"),
            is_http_boot: client.contains("UEFI HTTP"),
            ..Discover::default()
        })
    }

    fn boot(files: &[&str]) -> What {
        let way = Way::Boot(files.iter().map(|&file| file.to_owned()).collect());
        let (mac, profile, within) = (MacAddr([2; 6]), "p".into(), Some(Duration::from_secs(3600)));
        What::Script(Outcome::Chosen {
            mac,
            profile,
            by: By::Default,
            once: false,
            until_installed: false,
            report_within: within,
            way,
        })
    }

    fn ended(of: Of, name: &str, failure: Option<Failure>) -> What {
        let took = Duration::from_secs(1);
        What::Transfer(Transfer {
            of,
            name: name.into(),
            sent: if failure.is_none() { 9 } else { 5 },
            size: 9,
            took,
            failure,
            fresh: 5,
            over: Over::Http,
        })
    }

    fn refused(why: Reason) -> What {
        What::Refused(why)
    }

    /// The state, so long after these were seen at once; of a stop, its cause and the stage.
    fn after(seconds: u64, seen: Vec<What>) -> String {
        let mut timeline = Timeline::begin(1, NOW);
        for what in seen {
            timeline.apply(what, NOW);
        }
        match timeline.state(Moment::from_secs(1_000_000 + seconds)) {
            State::Stopped(stop) => {
                assert!(!stop.cause.text().is_empty() && stop.since == NOW);
                format!("{} at {}", stop.cause.label(), stop.stage.name())
            }
            state => state.name().into(),
        }
    }

    #[test]
    fn each_row_of_the_table_names_what_did_not_follow_and_only_after_its_time() {
        let lease = || What::Address(Ipv4Addr::new(192, 0, 2, 77));
        let offered = || {
            let (address, server) = (Ipv4Addr::new(192, 0, 2, 77), Ipv4Addr::new(192, 0, 2, 1));
            What::OfferedAddress(AddressOffer { address, server })
        };
        let pxe = || vec![discover("BIOS"), What::Offer("undionly.kpxe".into())];
        let with = |before: Vec<What>, more: Vec<What>| before.into_iter().chain(more).collect::<Vec<_>>();
        let loaded = || with(pxe(), vec![lease(), ended(Of::Loader, "undionly.kpxe", None)]);
        let ipxe = || with(loaded(), vec![discover("iPXE on BIOS"), What::Offer("a script".into())]);
        let script = || with(ipxe(), vec![boot(&["k", "i"])]);
        let no_script = || What::Script(Outcome::Refused(None, Reason::Unknown));
        let kernel = || with(script(), vec![ended(Of::Asset, "k", None)]);
        let over = || with(kernel(), vec![ended(Of::Asset, "i", None)]);
        let rival = || What::Rival(Rival { server: Ipv4Addr::new(192, 0, 2, 1), fault: Fault::LeaseClaimsPxe });
        let not_here = || What::NotHere("pxelinux.0".into());
        let late = What::Discover(Discover { client: "BIOS".into(), secs: 30, ..Discover::default() });
        let closed = || ended(Of::Asset, "k", Some(Failure::Closed));
        let silence = Silence { since_ack: Duration::from_secs(151), retransmits: 9, probes: 0 };
        let dead = ended(Of::Asset, "k", Some(Failure::Dead { silence, may_have_started: false }));
        let silent = ended(Of::Loader, "undionly.kpxe", Some(Failure::Silent("silent".into())));
        let full = |of| ended(of, "k", Some(Failure::Ended(3, "Disk full or allocation exceeded".into())));
        let unanswered = ended(Of::Asset, "k", Some(Failure::Silent("the client did not answer".into())));
        let ours = ended(Of::Asset, "k", Some(Failure::Ours("changed".into())));
        let report = |event| What::Report(Report { event, text: "no disk".into() });
        let rows: Vec<(u64, u64, Vec<What>, &str)> = vec![
            (40, 41, pxe(), "not_leased at offer"),
            (40, 41, with(pxe(), vec![offered()]), "address_not_taken at offer"),
            (40, 41, vec![discover("BIOS"), offered()], "address_not_taken at discover"),
            (40, 41, with(pxe(), vec![offered(), lease()]), "offer_ignored at offer"),
            (40, 41, vec![late], "held_back at discover"),
            (40, 41, with(pxe(), vec![lease()]), "offer_ignored at offer"),
            (40, 41, with(pxe(), vec![lease(), rival()]), "rival at offer"),
            (40, 41, with(pxe(), vec![lease(), What::BootServer("x".into())]), "loader_not_fetched at boot_server"),
            (4, 5, with(pxe(), vec![lease(), not_here()]), "not_here at offer"),
            (4, 5, with(pxe(), vec![rival(), What::BootServer("x".into()), not_here()]), "not_here at boot_server"),
            (59, 60, with(loaded(), vec![not_here()]), "loader_not_started at loader"),
            (59, 60, vec![discover("iPXE on BIOS"), not_here()], "script_not_fetched at discover"),
            (40, 41, with(pxe(), vec![lease(), What::Own(Own::RaspberryPi), not_here()]), "offer_ignored at offer"),
            (0, 0, with(pxe(), vec![silent]), "loader_stopped at loader"),
            (59, 60, loaded(), "loader_not_started at loader"),
            (59, 60, ipxe(), "script_not_fetched at loader"),
            (59, 60, vec![discover("iPXE on BIOS")], "script_not_fetched at discover"),
            (59, 60, with(ipxe(), vec![What::Script(Outcome::Bootstrap)]), "script_not_fetched at script"),
            (59, 60, script(), "not_fetched at script"),
            (59, 60, kernel(), "not_fetched at kernel"),
            (0, 0, with(script(), vec![closed()]), "closed_by_machine at kernel"),
            (0, 0, with(script(), vec![dead]), "dead at kernel"),
            (0, 0, with(script(), vec![full(Of::Asset)]), "no_memory at kernel"),
            (0, 0, with(pxe(), vec![full(Of::Loader)]), "no_memory at loader"),
            (0, 0, with(script(), vec![unanswered]), "file_stopped at kernel"),
            (0, 0, with(script(), vec![ours]), "server at kernel"),
            (0, 0, vec![refused(Reason::Unknown)], "unknown_machine at discover"),
            (0, 0, vec![no_script()], "unknown_machine at script"),
            (0, 0, with(ipxe(), vec![no_script()]), "unknown_machine at script"),
            (4, 5, with(script(), vec![refused(Reason::not_found("k"))]), "not_found at script"),
            (3600, 3601, over(), "never_reported at handed_over"),
            (0, 0, with(over(), vec![report(ReportEvent::Failed)]), "reported_failure at reported"),
        ];
        for (not_yet, then, seen, expected) in rows {
            if not_yet < then {
                assert!(!after(not_yet, seen.clone()).contains(" at "), "{not_yet} s: {expected}");
            }
            assert_eq!(after(then, seen), expected);
        }
        assert_eq!(after(3600, over()), "handed_over");
        assert_eq!(after(9999, with(over(), vec![report(ReportEvent::Installed)])), "reported");
        // Nobody saw how that was booted.
        assert_eq!(after(9999, vec![report(ReportEvent::Other("up".into()))]), "handed_over");
        // An installer that looks for files in vain, and one that failed at first.
        assert_eq!(after(99, with(over(), vec![refused(Reason::not_found("x"))])), "handed_over");
        assert_eq!(after(0, with(script(), vec![closed(), ended(Of::Asset, "k", None)])), "booting");
    }

    /// Two relays of one network pass on the same request.
    #[test]
    fn who_asks_often_takes_no_address_and_a_doubled_request_counts_once() {
        let asked = |times: u32, copies: usize| {
            let (mut timeline, mut now) = (Timeline::begin(1, NOW), NOW);
            for time in 0..times {
                now = Moment::from_secs(1_000_000 + 4 * u64::from(time));
                (0..copies).for_each(|_| drop(timeline.apply(discover("BIOS"), now)));
            }
            timeline.state(now).name()
        };
        assert_eq!((asked(3, 2), asked(5, 2), asked(6, 1)), ("booting", "booting", "stopped"));
    }

    #[test]
    fn a_loader_for_other_firmware_is_no_matter_of_secure_boot() {
        for (client, loader, expected) in [
            ("BIOS", "snponly.efi", "other_firmware at loader"),
            ("UEFI x86_64", "undionly.kpxe", "other_firmware at loader"),
            ("UEFI arm64", "snponly.efi", "other_firmware at loader"),
            ("UEFI HTTP x86_64", "snponly.efi", "unsigned_not_started at loader"),
            ("BIOS", "undionly.kpxe", "loader_not_started at loader"),
            ("UEFI x86_64", "x86_64-sb/snponly.efi", "unsigned_not_started at loader"),
            ("PowerPC OPAL", "snponly.efi", "unsigned_not_started at loader"),
        ] {
            assert_eq!(
                after(60, vec![discover(client), ended(Of::Loader, loader, None)]),
                expected,
                "{client} {loader}"
            );
        }
        let (of, wanted) = (Loader::EfiX86_64, Loader::Bios);
        let cause = Cause::OtherFirmware { name: "snponly.efi".into(), of, wanted };
        assert_eq!(cause.text(), "it fetched snponly.efi, which is for UEFI x86_64, but this machine is BIOS");
        assert!(cause.fix().is_some_and(|fix| fix.starts_with("let the DHCP server name the file netboot")));
    }

    /// It has none.
    #[test]
    fn a_bios_is_not_told_to_switch_off_secure_boot() {
        let fix = Cause::LoaderNotStarted("undionly.kpxe".into()).fix().expect("a fix");
        let (own, of_uefi) = fix.split_once("; a UEFI machine ").expect("two parts");
        assert!(!own.contains("Secure Boot") && of_uefi.contains("Secure Boot"), "{fix}");
    }

    #[test]
    fn whoever_pauses_is_slow_but_alive_for_ever() {
        let progress = Progress {
            of: Of::Asset,
            name: "k".into(),
            acked: 5,
            size: 9,
            took: Duration::from_secs(1),
            rate: 5,
            fresh: 5,
            over: Over::Http,
        };
        let pause = |at| What::Pace(Pace { of: Of::Asset, name: "k".into(), acked: 5, size: 9, at });
        let paused = pause(At::Paused(Pause { lasted: Duration::from_secs(9), window_closed: true }));
        let goes_on = pause(At::GoesOn { paused: Duration::from_secs(900) });
        let script = || vec![discover("iPXE on BIOS"), boot(&["k"]), What::Started(progress.clone())];
        assert_eq!(after(9999, script()), "booting");
        let paused = || script().into_iter().chain([paused.clone()]).collect::<Vec<_>>();
        assert_eq!(after(9999, paused()), "slow_but_alive");
        assert_eq!(after(0, paused().into_iter().chain([goes_on]).collect()), "booting");
    }
}
